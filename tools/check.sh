#!/bin/sh
# Runs the tests of a build directory and ends with one line: N passed, N failed, N skipped.
# Usage: tools/check.sh BUILD [NAME]   NAME: a part of a test's name (ctest -R)
# A test is a program; its own cases are printed above the line when it fails.
build=$1
name=${2:-}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
ctest --test-dir "$build" -j"$(nproc)" --output-on-failure --timeout 300 ${name:+-R "$name"} >"$log" 2>&1
status=$?
sed '/^Internal ctest/d' "$log"
awk '
    / \.+ *Passed /        { passed++ }
    /\*\*\*Skipped/        { skipped++ }
    /\*\*\*(Failed|Timeout|Exception|Not Run)/ { failed++; names = names " " $4 }
    END {
        for (i = split(names, n, " "); i > 0; i--)
            printf "rerun: make check T=%s\n", n[i]
        printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
        exit passed + failed + skipped == 0
    }' "$log" || { echo "no test ran" >&2; exit 1; }
exit $status
