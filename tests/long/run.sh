#!/bin/sh
# The long suites of the store: `make check-long`, an hour or so. Each is a program of `make check` with a
# longer life, and says what it did; ends with 'N passed, N failed'. Usage: tests/long/run.sh BUILD [name]
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
only=${2:-}
passed=0
failed=0
suite() { # name, command ...
    name=$1
    shift
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    echo "== $name: $*"
    if nice -n 15 "$@" 2>&1 | tee "$build/long-$name.log" | grep -E '[0-9] (flips|rounds|hits|calls)|ERROR|FAILED' |
        tail -40 && grep -q '^\[  PASSED  \]' "$build/long-$name.log" && ! grep -q 'FAILED' "$build/long-$name.log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}
seed=$(date +%s)
suite kill "$build/unit_store_threads" 200           # kill -9 under mixed load, verified each time
suite flips "$build/unit_store_store" 8 1000         # a million random bits flipped in segments
suite bits "$build/unit_store_flip" 17               # a small log, bit by bit: no older value
suite power "$build/unit_store_power" "$seed" 20     # power cut after each call, 20 scenarios
suite law "$build/unit_store_law" "$seed" 300        # random lives beside a twin
echo "$passed passed, $failed failed (seed $seed)"
[ "$failed" = 0 ]
