#!/bin/sh
# Rules that a compiler does not check: module rows, banned calls, layout, sizes. Usage: lint.sh [BUILD]
# clang-format, clang-tidy and cppcheck run when they are installed.
cd "$(dirname "$0")/.." || exit 1
bad=0
say() {
    echo "lint: $*"
    bad=1
}
sh tools/deps.sh || bad=1
sh tools/tour.sh || bad=1

banned='\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|alloca)[[:space:]]*\('
grep -nE "$banned" src/*/*.[ch] && say "banned call (CONVENTIONS.md, B)"
grep -nE '\b(malloc|calloc|realloc|free|strdup)[[:space:]]*\(' src/*/*.c | grep -v '^src/base/' |
    grep -vE ':[0-9]+:[[:space:]]*(/?\*|//)' && say "raw heap call outside base/"
grep -nE '\b(time|rand|getenv)[[:space:]]*\(' src/*/*.c | grep -vE '^src/(base|cli)/' |
    grep -vE '(opts->getenv|->getenv|:[0-9]+:[[:space:]]*(/?\*|//))' && say "time, rand or getenv outside base/ and cli/"

for f in src/*/*.[ch] tests/*/*.c tests/*/*/*.c bench/*.c; do
    [ -f "$f" ] || continue
    head -1 "$f" | grep -q SPDX || say "$f: no SPDX line"
done
awk 'length($0) > 110 && FILENAME !~ /\.def$/ { printf "%s:%d: %d columns\n", FILENAME, FNR, length($0); n++ } END { exit n > 0 }' \
    src/*/*.[ch] || say "lines over 110 columns"
wc -l src/*/*.[ch] | awk '$2 != "total" && $1 > 1500 { print; n++ } END { exit n > 0 }' || say "files over 1,500 lines"
awk 'FNR == 1 { start = 0 } /^[a-zA-Z_].*\)[[:space:]]*$/ { start = FNR } /^\}/ {
        if (start && FNR - start > 150) { printf "%s:%d: %d lines\n", FILENAME, start, FNR - start; n++ } start = 0 }
     END { exit n > 0 }' src/*/*.c || say "functions over 150 lines"

if command -v cppcheck >/dev/null; then
    cppcheck -q --enable=warning,portability --inline-suppr --suppress=missingIncludeSystem \
        --suppress=unknownMacro --suppress=nullPointerArithmeticOutOfMemory \
        --suppress=nullPointerOutOfMemory --suppress=ctunullpointerOutOfMemory \
        --error-exitcode=1 -Isrc -D_GNU_SOURCE -j"$(nproc)" src || say "cppcheck"
fi
if [ -n "${LR_TIDY:-}" ] && command -v clang-tidy >/dev/null && [ -n "${1:-}" ]; then
    clang-tidy -p "$1" --quiet src/*/*.c || say "clang-tidy"
fi
exit $bad
