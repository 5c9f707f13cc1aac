#!/bin/sh
# The benches, each result one JSON line, peers side by side. Usage: bench/run.sh BUILD [NAME]
#   NAME   gateway, or one part of it: hits, misses, streams, memory; answer; store, or one part of
#          it: large, small, local, disk; or the name of another program here without arguments: evict, kern.
#          Without it: gateway (about two and a half minutes on two cores), then answer.
# Never part of the tests. What each line means stands at the head of bench/NAME.c or bench/NAME.sh.
set -eu
build=$1
name=${2:-}
here=$(dirname "$0")

tools() {
    ninja -C "$build" "$@" >/dev/null
}

answer() {
    tools bench_answer
    dir=$(mktemp -d)
    "$build/bench_answer" "$dir" || { rm -rf "$dir"; exit 1; }
    rm -rf "$dir"
}

gateway() {
    tools larder bench_load bench_upstream bench_requests bench_streams
    "$here/gateway.sh" "$build" "$@"
}

store() {
    tools larder bench_store bench_resp_client bench_resp_sink
    "$here/store.sh" "$build" "$@"
}

case $name in
'') gateway && answer ;;
gateway) gateway ;;
hits | misses | streams | memory) gateway "$name" ;;
answer) answer ;;
store) store ;;
large | small | local | disk) store "$name" ;;
*)
    [ -f "$here/$name.c" ] || { echo "no bench of that name: $name" >&2; exit 2; }
    tools "bench_$name"
    "$build/bench_$name"
    ;;
esac
