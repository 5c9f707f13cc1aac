# SPDX-License-Identifier: Apache-2.0
# bench/common.sh - what the benches that compare servers share; to be sourced, after set -eu.
#
# Sets tmp, a directory that goes at the end (and what $also names with it), with two files in it:
# runs, a line a measured value (part case round side field value), and results, JSON lines. pids are
# ended with the script. The caller sets bench, the name in each result, and machine.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/larder-bench-XXXXXX")
runs=$tmp/runs
results=$tmp/results
: >"$runs"
: >"$results"
pids=
also=

stop() {
    for pid in "$@"; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
        pids=$(echo " $pids " | sed "s/ $pid / /")
    done
}
clean() {
    # shellcheck disable=SC2086 # a list
    stop $pids
    rm -rf "$tmp" $also
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

die() {
    echo "bench: $*" >&2
    exit 1
}

# wait_for FILE PATTERN: at most 10 s
wait_for() {
    i=0
    until grep -q "$2" "$1" 2>/dev/null; do
        i=$((i + 1))
        [ $i -lt 500 ] || { cat "$1" >&2; die "no '$2' in $1"; }
        sleep 0.02
    done
}

field() { # JSON name: the value of the first member of that name, a number or a plain word
    printf '%s\n' "$1" | awk -v name="\"$2\":" '{
        at = index($0, name)
        if (!at) exit
        s = substr($0, at + length(name))
        sub(/^"/, "", s)
        sub(/[,"}].*/, "", s)
        print s
    }'
}

# Nanoseconds that all threads of a process have run; 0: no process of ours.
cpu_of() {
    [ -n "$1" ] && cat /proc/"$1"/task/*/schedstat 2>/dev/null | awk '{ n += $1 } END { printf "%.0f", n }' || echo 0
}

# The sides in this round's order.
order() { # round side ...
    r=$1
    shift
    if [ $((r % 2)) = 1 ]; then
        echo "$*"
    else
        echo "$*" | awk '{ for (i = NF; i; i--) printf "%s ", $i }'
    fi
}

# Medians, and ratios within rounds. result PART CASE FIELD A B KIND UNIT TARGET
#   KIND ratio: A / B.   KIND added: (A - direct) / (B - direct).   B may be absent.
result() {
    awk -v part="$1" -v case_="$2" -v field="$3" -v a="$4" -v b="$5" -v kind="$6" -v unit="$7" \
        -v target="$8" -v bench="$bench" -v machine="$machine" '
    function rank(x, n,    i, j, t) {
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && x[j] < x[j - 1]; j--) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
    }
    function say(name, x, n,    m) {
        rank(x, n)
        m = n % 2 ? x[(n + 1) / 2] : (x[n / 2] + x[n / 2 + 1]) / 2
        printf ",\"%s\":{\"median\":%.6g,\"min\":%.6g,\"max\":%.6g}", name, m, x[1], x[n]
    }
    $1 == part && $2 == case_ && $5 == field { v[$4, $3] = $6; if ($3 > n) n = $3 }
    END {
        for (i = 1; i <= n; i++) {
            base = kind == "added" ? v["direct", i] : 0
            if ((a, i) in v) x[++nx] = v[a, i] - base
            if ((b, i) in v) y[++ny] = v[b, i] - base
            if ((a, i) in v && (b, i) in v && v[b, i] > base) q[++nq] = (v[a, i] - base) / (v[b, i] - base)
            if (base) d[++nd] = base
        }
        if (!nx) exit
        printf "{\"bench\":\"%s\",\"part\":\"%s\",\"case\":\"%s\",\"of\":\"%s\",\"unit\":\"%s\"", \
            bench, part, case_, kind == "added" ? "added " field : field, unit
        printf ",\"peer\":\"%s\"", b
        say(a, x, nx)
        if (ny) say(b, y, ny)
        if (nd) say("direct", d, nd)
        if (nq) say("ratio", q, nq)
        printf ",\"rounds\":%d,\"target\":\"%s\",\"machine\":\"%s\"}\n", n, target, machine
    }' "$runs" | tee -a "$results"
}

# Functions of awk that read results: get(line, side, what), word(line, name), n(number).
# shellcheck disable=SC2016 # awk's
readers='
function get(line, name, what,    at, s) {
    at = index(line, "\"" name "\":{")
    if (!at) return "-"
    s = substr(line, at)
    at = index(s, "\"" what "\":")
    s = substr(s, at + length(what) + 3)
    match(s, /^[-0-9.e+]+/)
    return substr(s, 1, RLENGTH)
}
function word(line, name,    at, s) {
    at = index(line, "\"" name "\":\"")
    s = substr(line, at + length(name) + 4)
    return at ? substr(s, 1, index(s, "\"") - 1) : ""
}
function n(x) { return x == "-" ? x : x + 0 >= 100 ? sprintf("%.0f", x) : sprintf("%.2f", x) }
'
