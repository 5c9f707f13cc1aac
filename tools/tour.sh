#!/bin/sh
# Checks that each [name](../src/file.c#L12) of docs/tour.md points at the line that defines name;
# --write puts the numbers right. Part of tools/lint.sh.
cd "$(dirname "$0")/.." || exit 1
bad=0
for link in $(grep -o '\[[a-z_A-Z0-9]*\](\.\./src/[^)]*#L[0-9]*)' docs/tour.md | sort -u); do
    name=$(echo "$link" | sed 's/^\[\([^]]*\)\].*/\1/')
    file=$(echo "$link" | sed 's/.*(\.\.\/\(src[^#]*\)#L.*/\1/')
    line=$(echo "$link" | sed 's/.*#L\([0-9]*\))/\1/')
    # a function, struct, table or macro of that name at the start of a line
    want=$(grep -nE "^[a-zA-Z_#].*\b$name\b" "$file" | grep -vE ';$|^[0-9]+:#include' | head -1 | cut -d: -f1)
    [ -n "$want" ] || { echo "docs/tour.md: no $name in $file"; bad=1; continue; }
    [ "$want" = "$line" ] && continue
    if [ "${1:-}" = --write ]; then
        sed -i "s|\[$name\](\.\./$file#L$line)|[$name](../$file#L$want)|g" docs/tour.md
    else
        echo "docs/tour.md: $name is at $file:$want, not $line"
        bad=1
    fi
done
exit $bad
