#!/bin/sh
# Fuzzes each door with clang's libFuzzer, SECONDS each (60). Usage: tools/fuzz.sh [DOOR]
# New inputs go to build-fuzz/corpus/DOOR; what crashes is written there too: minimise it, add it to
# tests/fuzz/corpus/DOOR and leave a named test.
set -eu
cd "$(dirname "$0")/.."
command -v clang >/dev/null || { echo "fuzzing needs clang (apt-get install clang libclang-rt-14-dev)" >&2; exit 1; }
CC=clang cmake -S . -B build-fuzz -G Ninja -DLR_FUZZ=ON -DLR_SANITIZE=address,undefined,fuzzer-no-link >/dev/null
for file in tests/fuzz/fuzz_${1:-*}.c; do
    door=$(basename "$file" .c)
    door=${door#fuzz_}
    ninja -C build-fuzz "fuzz_$door" >/dev/null
    mkdir -p "build-fuzz/corpus/$door"
    echo "== $door"
    (cd build-fuzz/corpus && "../fuzz_$door" -max_total_time="${SECONDS_EACH:-60}" -print_final_stats=0 \
        -verbosity=0 "$door" "../../tests/fuzz/corpus/$door")
done
