#!/bin/sh
# bench/store.sh - the KV store and its Redis door next to Redis, a sink, memcpy and fio, in one run
# on one machine, all on loopback. Usage: bench/store.sh BUILD [PART ...]   parts: large small local disk
#
# large    GET and SET of 1, 4 and 32 MiB by bench_resp_client (two connections that receive into
#          place, as LMCache's native client does) at `larder serve --resp` (memory only, every read
#          verified, one event thread), at redis-server (nothing saved, one thread) and at
#          bench_resp_sink, which answers from a static buffer and keeps nothing: what loopback
#          allows. The first round compares all that larder and Redis answer with what was put.
# small    1 KiB by redis-benchmark, 50 connections, 10,000 keys, with and without a pipeline of 16;
#          redis-server with its one thread, larder with one event thread.
# local    In process (bench/store.c): pin, verify and copy of 32 MiB values against memcpy; the start
#          of a store from footers, and after a crash from whole segments.
# disk     Values of 32 MiB read from disk one after the other, verified, against fio's sequential
#          direct read (libaio, 1 MiB, depth 4) of a file in the same directory.
#
# Rounds are interleaved (A B C, then C B A, ...). A line gives the median of the rounds with the
# smallest and the largest; ratios are taken within a round and then ranked. `cpu_us` is what the
# server's threads ran for, a request: where the machine is shared it says more than the rate does.
# One JSON line a result, then a table. Environment: ROUNDS (5), BENCH_DIR (where the disk part
# writes; a directory of the build tree), TOTAL (bytes a run of the large part: 1G).
#
# redis-server and redis-benchmark come from `apt-get install redis-server redis-tools`, fio from
# `apt-get install fio`. What is absent is not compared, and the end says so.
set -eu
build=$1
shift
parts=${*:-large small local disk}
rounds=${ROUNDS:-5}
total=${TOTAL:-1G}
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$build" && pwd)
PATH=$PATH:/usr/sbin:/sbin
redis=$(command -v redis-server || true)
fio=$(command -v fio || true)
bench=store
. "$here/common.sh"
disk=${BENCH_DIR:-$build/bench-store}
also=$disk

# ---- servers -------------------------------------------------------------------------------------

start_larder() { # sets larder_port, larder_pid
    rm -rf "$tmp/data"
    mkdir "$tmp/data"
    "$build/larder" serve --listen 127.0.0.1:0 --resp 127.0.0.1:0 --data "$tmp/data" --kv-dir none \
        --kv-memory 2G >"$tmp/larder.out" 2>&1 &
    larder_pid=$!
    pids="$pids $larder_pid"
    wait_for "$tmp/larder.out" 'event=resp port='
    larder_port=$(sed -n 's/.*event=resp port=\([0-9]*\).*/\1/p' "$tmp/larder.out")
}

start_redis() { # sets redis_port, redis_pid; false without it
    redis_port= redis_pid=
    [ -n "$redis" ] || return 1
    redis_port=7391
    "$redis" --port $redis_port --bind 127.0.0.1 --save '' --appendonly no --dir "$tmp" \
        >"$tmp/redis.out" 2>&1 &
    redis_pid=$!
    pids="$pids $redis_pid"
    wait_for "$tmp/redis.out" 'eady to accept connections'
}

start_sink() { # bytes: sets sink_port, sink_pid
    rm -f "$tmp/sink.out"
    "$build/bench_resp_sink" --bytes "$1" >"$tmp/sink.out" &
    sink_pid=$!
    pids="$pids $sink_pid"
    wait_for "$tmp/sink.out" '^port'
    sink_port=$(awk '{ print $2 }' "$tmp/sink.out")
}

# ---- numbers -------------------------------------------------------------------------------------

# ---- parts ---------------------------------------------------------------------------------------

large_once() { # round MiB op side
    case $4 in
    larder) port=$larder_port pid=$larder_pid ;;
    redis) port=$redis_port pid=$redis_pid ;;
    sink) port=$sink_port pid=$sink_pid ;;
    esac
    check=
    [ "$3" = get ] && [ "$1" = 1 ] && [ "$4" != sink ] && check=--check
    ran=$(cpu_of "$pid")
    # shellcheck disable=SC2086 # none or one word
    out=$("$build/bench_resp_client" --to "$port" --op "$3" --bytes "${2}M" --total "$total" $check) ||
        die "large $2 $3 $4 failed"
    now=$(cpu_of "$pid")
    echo "large $3-${2}m $1 $4 gbs $(field "$out" gbs)" >>"$runs"
    echo "$ran $now $(field "$out" requests)" |
        awk -v w="large $3-${2}m $1 $4 cpu_us" '{ print w, ($2 - $1) / $3 / 1000 }' >>"$runs"
}

large() {
    start_larder
    sides="larder sink"
    start_redis && sides="redis larder sink"
    for mib in 1 4 32; do
        start_sink "${mib}M"
        for op in set get; do # a round of SETs leaves what the GETs ask for
            for r in $(seq "$rounds"); do
                # shellcheck disable=SC2086 # a list
                for side in $(order "$r" $sides); do
                    large_once "$r" $mib $op "$side"
                done
            done
            asked=$([ $mib = 32 ] && echo yes || true)
            result large $op-${mib}m gbs larder redis ratio GB/s "${asked:+>= 2.5}"
            result large $op-${mib}m gbs larder sink ratio GB/s "${asked:+>= 0.8}"
            result large $op-${mib}m cpu_us larder sink ratio us ''
        done
        stop "$sink_pid"
    done
    stop "$larder_pid" ${redis_pid:+"$redis_pid"}
}

small_once() { # round pipeline side
    [ "$3" = larder ] && port=$larder_port pid=$larder_pid || port=$redis_port pid=$redis_pid
    n=$((60000 * ($2 == 1 ? 1 : 5)))
    for op in set get; do
        ran=$(cpu_of "$pid")
        rps=$(redis-benchmark -p "$port" -d 1024 -n $n -r 10000 -c 50 -P "$2" -t $op --csv |
            tail -n 1 | cut -d, -f2 | tr -d '"')
        now=$(cpu_of "$pid")
        echo "small $op-p$2 $1 $3 rps $rps" >>"$runs"
        echo "$ran $now" | awk -v w="small $op-p$2 $1 $3 cpu_us" -v n=$n \
            '{ print w, ($2 - $1) / n / 1000 }' >>"$runs"
    done
}

small() {
    command -v redis-benchmark >/dev/null || return 0
    start_larder
    sides=larder
    start_redis && sides="redis larder"
    for r in $(seq "$rounds"); do
        for pipeline in 1 16; do
            # shellcheck disable=SC2086 # a list
            for side in $(order "$r" $sides); do
                small_once "$r" $pipeline "$side"
            done
        done
    done
    for pipeline in 1 16; do
        for op in set get; do
            result small $op-p$pipeline rps larder redis ratio requests/s "$([ $pipeline = 1 ] && echo '>= 1.0')"
            result small $op-p$pipeline cpu_us larder redis ratio us ''
        done
    done
    stop "$larder_pid" ${redis_pid:+"$redis_pid"}
}

fresh() {
    rm -rf "$disk"
    mkdir -p "$disk"
}

local_() {
    fresh
    "$build/bench_store" "$disk" 32 copy | tee -a "$tmp/local"
    fresh
    "$build/bench_store" "$disk" 32 recover | tee -a "$tmp/local"
}

read_fio() { # prints GB/s
    "$fio" --name=seq --filename="$disk/fio" --size=512M --rw=read --bs=1M --direct=1 --ioengine=libaio \
        --iodepth=4 --output-format=json 2>/dev/null |
        sed -n 's/.*"bw_bytes" : \([0-9]*\).*/\1/p' | head -n 1 | awk '{ print $1 / 1e9 }'
}

disk_() {
    fresh
    [ -z "$fio" ] || read_fio >/dev/null # lays the file out
    for r in $(seq "$rounds"); do
        for side in $(order "$r" larder ${fio:+fio}); do
            if [ "$side" = fio ]; then
                echo "disk read $r fio gbs $(read_fio)" >>"$runs"
            else
                rm -rf "$disk/store"
                mkdir "$disk/store"
                line=$("$build/bench_store" "$disk/store" 32 disk | grep load+verify)
                echo "disk read $r larder gbs $(field "$line" median)" >>"$runs"
            fi
        done
    done
    result disk read gbs larder fio ratio GB/s '>= 0.8'
}

# ---- the run -------------------------------------------------------------------------------------

table() {
    echo
    awk "$readers"'
    BEGIN {
        f = "%-6s %-9s %-7s %10s %-6s %10s  %-18s %-7s %s\n"
        printf f, "part", "case", "of", "larder", "peer", "", "ratio [min, max]", "target", "unit"
    }
    {
        ratio = get($0, "ratio", "median")
        if (ratio != "-")
            ratio = sprintf("%s [%s, %s]", n(ratio), n(get($0, "ratio", "min")), n(get($0, "ratio", "max")))
        peer = word($0, "peer")
        printf f, word($0, "part"), word($0, "case"), word($0, "of"), n(get($0, "larder", "median")), peer, \
            n(get($0, peer, "median")), ratio, word($0, "target"), word($0, "unit")
    }' "$results"
    missing=
    [ -n "$redis" ] || missing="redis-server"
    command -v redis-benchmark >/dev/null || missing="$missing redis-tools"
    [ -n "$fio" ] || missing="$missing fio"
    [ -z "$missing" ] || cat <<TEXT

************************************************************************
   SKIPPED: not compared with what is not installed. On Debian:
       apt-get install $missing
************************************************************************
TEXT
}

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
machine="$cpu x $(nproc), Linux $(uname -r), $([ -n "$redis" ] && "$redis" --version | awk '{ print "Redis", $3 }' || echo 'no Redis')"
for part in $parts; do
    case $part in
    large | small) $part ;;
    local) local_ ;;
    disk) disk_ ;;
    *) die "no part '$part'" ;;
    esac
done
table
