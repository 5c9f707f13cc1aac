# Makes one C file of the files of the dashboard: cmake -DOUT=ui_files.c -DDIR=web -P embed.cmake
# The order of the list is the order of the table in it.
set(files index.html app.css app.js icon.svg)
set(types_index.html "text/html; charset=utf-8")
set(types_app.css "text/css; charset=utf-8")
set(types_app.js "text/javascript; charset=utf-8")
set(types_icon.svg "image/svg+xml")
set(arrays "")
set(rows "")
set(n 0)
foreach(file ${files})
  file(READ ${DIR}/${file} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND arrays "static const unsigned char file_${n}[] = {${bytes}};\n")
  string(APPEND rows "    {\"${file}\", \"${types_${file}}\", file_${n}, sizeof file_${n}},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "/* Made from web/ by tools/embed.cmake: do not edit. */\n#include \"serve/admin.h\"\n\n"
  "${arrays}\nconst struct lr_ui_file lr_ui_files[] = {\n${rows}};\nconst size_t lr_ui_files_n = ${n};\n")
