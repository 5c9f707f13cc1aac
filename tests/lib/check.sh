#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# liblarder as others find it: installed into an empty place, found by pkg-config, linked shared and static
# into a program that sees nothing else of this tree; and what the two libraries show. Usage: check.sh BUILD.
build=$1
[ -z "$LR_SANITIZE" ] || { echo "SKIPPED: liblarder under a sanitizer"; exit 77; }
command -v pkg-config >/dev/null || { echo "SKIPPED: liblarder was NOT tested: no pkg-config"; exit 77; }
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
fail() {
    echo "FAIL: $*"
    exit 1
}

cmake --install "$build" --component lib --prefix "$dir" >"$dir/log" 2>&1 || { cat "$dir/log"; fail "install"; }
pc=$(dirname "$(find "$dir" -name larder.pc)")
lib=$(dirname "$(find "$dir" -name liblarder.a)")
export PKG_CONFIG_PATH=$pc
flags="--define-variable=prefix=$dir"
shown() { grep -v '^larder_' | sed 's/^/shows: /' | grep . && fail "$1 shows more than its header says"; }
nm -D --defined-only "$lib/liblarder.so" | awk 'NF == 3 { print $3 }' | shown "the shared library"
nm -g --defined-only "$lib/liblarder.a" | awk 'NF == 3 { print $3 }' | shown "the static library"
declared=$(grep -c '^LARDER_API ' "$dir/include/larder/larder.h")
[ "$(nm -D --defined-only "$lib/liblarder.so" | grep -c ' T larder_')" = "$declared" ] ||
    fail "the shared library does not have all $declared functions"

cd "$dir" || exit 1
cp "$here/use.c" . # away from the tree
strict="-std=c11 -Wall -Wextra -Wpedantic -Werror"
# shellcheck disable=SC2086,SC2046 # words are words here
${CC:-cc} $strict use.c -o shared $(pkg-config $flags --cflags --libs larder) || fail "linking the shared library"
LD_LIBRARY_PATH=$lib ./shared "$dir/a" || fail "with the shared library"
mv "$lib/liblarder.so" "$lib/gone.so"
# shellcheck disable=SC2086,SC2046
if ${CC:-cc} $strict use.c -o static $(pkg-config $flags --cflags --libs --static larder) 2>"$dir/log"; then
    ./static "$dir/b" || fail "with the static library"
else
    cat "$dir/log"
    fail "linking the static library"
fi
if command -v c++ >/dev/null; then
    printf '#include <larder/larder.h>\nint main() { return larder_version() == nullptr; }\n' >x.cc
    c++ -Wall -Wextra -Werror -fsyntax-only -I"$dir/include" x.cc || fail "the header is no C++"
fi
echo "liblarder: $declared functions, shared and static"
