# Makes one C file of text files: cmake -DOUT=texts.c -DHEADER=eval/eval_int.h -DTEXTS=name=path,name=path
# -P embed_text.cmake. Each becomes `const struct lr_str name`, declared in HEADER.
string(REPLACE "," ";" texts "${TEXTS}")
set(all "/* Made by tools/embed_text.cmake: do not edit. */\n#include \"${HEADER}\"\n")
foreach(text ${texts})
  string(REPLACE "=" ";" text "${text}")
  list(GET text 0 name)
  list(GET text 1 path)
  file(READ ${path} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(APPEND all "\nstatic const unsigned char bytes_${name}[] = {${bytes}};\n"
    "const struct lr_str ${name} = {(const char *)bytes_${name}, sizeof bytes_${name}};\n")
endforeach()
file(WRITE ${OUT} "${all}")
