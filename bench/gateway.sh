#!/bin/sh
# bench/gateway.sh - the gateway next to nginx, in one run on one machine, all on loopback.
# Usage: bench/gateway.sh BUILD [PART ...]     parts: hits misses streams memory; without: all
#
# hits     Requests a second and latency of exact hits: 10,000 entries of about 1 KiB filled through
#          the fake upstream, then a Zipf (s = 1) draw of POSTs with a managed key (bench/requests.c
#          makes the same draw everywhere). `raw` repeats the bytes of the fill; `spelled` writes
#          every request differently (order of members, white space, escapes), so that the raw
#          shortcut never knows the bytes. The peer is nginx with one worker serving a 1 KiB file to
#          GET requests, which is less to read and nothing to think; one event thread each.
#          `cpu_us` is what the server's threads ran for, a request: where the machine is shared it
#          says more than requests a second.
# misses   What a hop adds: latency through larder (every prompt is new: keyed, sent on, stored) and
#          through nginx proxy_pass, each less the latency of asking the upstream directly in the
#          same round; bodies of 2 and 256 KiB. `ratio` divides the two additions; rounds in which
#          nginx seems to add nothing are left out of it, and a negative one means that the machine
#          was disturbed while the upstream was asked directly.
# streams  200 streams of 100 events a second: how late events arrive, by the stamp the upstream put
#          into each. Direct and through nginx next to it.
# memory   Anonymous resident bytes of a process per idle connection (after one answer on each), and
#          per stored entry (100,000 answers of 16 bytes, 1 MiB of them held in memory).
#
# Rounds are interleaved (A B C, then C B A, ...): what disturbs the machine disturbs all alike. A
# line gives the median of the rounds with the smallest and the largest; ratios are taken within a
# round and then ranked, so their median need not be the ratio of the medians. One JSON line a
# result on standard output, then a table. Environment: ROUNDS (5), SECONDS_STREAM (3).
#
# nginx comes from `apt-get install nginx-light`. Without it everything runs, nothing is compared,
# and the end says so.
set -eu
build=$1
shift
parts=${*:-hits misses streams memory}
rounds=${ROUNDS:-5}
stream_s=${SECONDS_STREAM:-3}
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$build" && pwd)
PATH=$PATH:/usr/sbin:/sbin
nginx=$(command -v nginx || true)
bench=gateway
. "$here/common.sh"
chmod 711 "$tmp" # nginx's worker may be another user

# ---- servers -------------------------------------------------------------------------------------

upstream() { # options: sets up_port, up_pid
    rm -f "$tmp/upstream.out"
    "$build/bench_upstream" "$@" >"$tmp/upstream.out" &
    up_pid=$!
    pids="$pids $up_pid"
    wait_for "$tmp/upstream.out" '^port'
    up_port=$(awk '{ print $2 }' "$tmp/upstream.out")
}

larder() { # options: sets gw, gw_pid, key
    rm -rf "$tmp/data" "$tmp/keys" "$tmp/larder.out"
    mkdir "$tmp/data"
    key=$("$build/larder" key add bench --keys-file "$tmp/keys" 2>/dev/null)
    "$build/larder" serve --listen 127.0.0.1:0 --data "$tmp/data" --keys-file "$tmp/keys" \
        --upstream "http://127.0.0.1:$up_port" "$@" >"$tmp/larder.out" 2>"$tmp/larder.err" &
    gw_pid=$!
    pids="$pids $gw_pid"
    wait_for "$tmp/larder.out" 'serves http'
    gw=$(sed -n 's|.*serves http://\([0-9.:]*\)/.*|\1|p' "$tmp/larder.out")
}

start_nginx() { # conf: sets ng, ng_pid (the worker's); false without nginx
    ng=
    [ -n "$nginx" ] || return 1
    dir=$tmp/nginx-$1
    mkdir -p "$dir/www"
    chmod -R 755 "$dir"
    head -c 1024 /dev/zero | tr '\0' 'x' >"$dir/www/1k"
    for try in 1 2 3 4 5; do
        port=$(awk -v s="$$$try" 'BEGIN { srand(s); print int(20000 + rand() * 12000) }')
        sed -e "s/@PORT@/$port/" -e "s/@UPSTREAM@/$up_port/" "$here/nginx/$1.conf" >"$dir/conf"
        rm -f "$dir/nginx.pid"
        "$nginx" -p "$dir/" -e error.log -c conf >/dev/null 2>&1 &
        master=$!
        pids="$pids $master"
        i=0
        until [ -s "$dir/nginx.pid" ] || [ $i -ge 50 ] || ! kill -0 "$master" 2>/dev/null; do
            i=$((i + 1))
            sleep 0.02
        done
        sleep 0.1
        if kill -0 "$master" 2>/dev/null && [ -s "$dir/nginx.pid" ]; then
            ng=127.0.0.1:$port
            ng_master=$master
            ng_pid=$(cut -d' ' -f1 "/proc/$master/task/$master/children")
            return 0
        fi
        stop "$master"
    done
    cat "$dir/error.log" >&2
    die "nginx does not start"
}

# ---- runs and results ----------------------------------------------------------------------------

note() { # part case round side JSON-line field ...
    what="$1 $2 $3 $4"
    line=$5
    shift 5
    for f in "$@"; do
        echo "$what $f $(field "$line" "$f")" >>"$runs"
    done
}

# load PART CASE ROUND SIDE ADDRESS FILE CONNECTIONS REQUESTS [WARM]
load() {
    pid=
    [ "$4" = larder ] && pid=$gw_pid
    [ "$4" = nginx ] && pid=$ng_pid
    ran=$(cpu_of "$pid")
    out=$("$build/bench_load" --to "$5" --request "$6" --connections "$7" --requests "$8" \
        --warm "${9:-1000}" --name "$1/$2/$4") || die "$1 $2 $4: $out"
    [ "$(field "$out" not_2xx)" = 0 ] || die "$1 $2 $4: answers other than 2xx: $out"
    note "$1" "$2" "$3" "$4" "$out" rps p50_us p99_us
    echo "$1 $2 $3 $4 cpu_us $ran $(cpu_of "$pid") $(($8 + ${9:-1000}))" |
        awk '{ $6 = ($7 - $6) / $8 / 1000; print $1, $2, $3, $4, $5, $6 }' >>"$runs"
}

# ---- parts ---------------------------------------------------------------------------------------

make_requests() { # to FILE: options follow
    file=$1
    shift
    "$build/bench_requests" --key "$key" "$@" >"$file"
}

hits_once() { # round connections requests side
    case $4 in
    larder-raw) load hits "raw-$2" "$1" larder "$gw" "$tmp/raw" "$2" "$3" ;;
    larder-spelled)
        # a thousand more for the warm-up: no request is sent twice
        make_requests "$tmp/spelled" --host "$gw" --draws $(($3 + 1000)) --spell varied \
            --seed $(($1 * 1000 + $2))
        load hits "spelled-$2" "$1" larder "$gw" "$tmp/spelled" "$2" "$3"
        ;;
    nginx)
        [ -n "$ng" ] || return 0
        load hits "raw-$2" "$1" nginx "$ng" "$tmp/get" "$2" "$3"
        sed -n "s/^hits raw-$2 $1 nginx/hits spelled-$2 $1 nginx/p" "$runs" >"$tmp/copy"
        cat "$tmp/copy" >>"$runs"
        ;;
    esac
}

larder_stats() { # sets stats
    stats=$("$build/larder" stats --json --listen "$gw" --data "$tmp/data" | tr -d ' \n') || die "no stats"
}

# What larder itself counted: no misses but those of the fill, and raw hits in the raw runs.
check_hits() { # misses after the fill
    larder_stats
    echo "{\"bench\":\"gateway\",\"part\":\"hits\",\"case\":\"counts\",\"hit\":$(field "$stats" hit)," \
        "\"raw_hits\":$(field "$stats" raw_hits),\"miss\":$(field "$stats" miss)}"
    [ "$(field "$stats" miss)" = "$1" ] || die "requests that were to be hits were none"
}

hits() {
    upstream --answer 800
    larder --answer-hot-bytes 128M
    start_nginx static || true
    make_requests "$tmp/fill" --host "$gw"
    # Twice: on a slow disk the keeper's queue may have been full, and an answer is then not stored.
    load hits fill 1 larder "$gw" "$tmp/fill" 32 10000 0
    sleep 1
    load hits fill 1 larder "$gw" "$tmp/fill" 8 10000 0
    larder_stats
    misses=$(field "$stats" miss)
    make_requests "$tmp/raw" --host "$gw" --draws 100000
    make_requests "$tmp/get" --host "${ng:-x}" --draws 1 --get /1k
    for r in $(seq "$rounds"); do
        for side in $(order "$r" larder-raw nginx larder-spelled); do
            hits_once "$r" 1 15000 "$side"
            hits_once "$r" 32 60000 "$side"
        done
    done
    check_hits "$misses"
    for c in 1 32; do
        for f in rps p50_us p99_us cpu_us; do
            unit=requests/s
            [ $f = rps ] || unit=us
            result hits "raw-$c" $f larder nginx ratio $unit "$([ $f = rps ] && echo '>= 1.0')"
            result hits "spelled-$c" $f larder nginx ratio $unit "$([ $f = rps ] && echo '>= 0.6')"
        done
    done
    stop "$gw_pid" "$up_pid" ${ng:+"$ng_master"}
}

misses_once() { # round KiB connections requests side
    case_=${2}k-$3
    case $5 in
    direct) load misses "$case_" "$1" direct "127.0.0.1:$up_port" "$tmp/new" "$3" "$4" 100 ;;
    larder) load misses "$case_" "$1" larder "$gw" "$tmp/new" "$3" "$4" 100 ;;
    nginx) [ -z "$ng" ] || load misses "$case_" "$1" nginx "$ng" "$tmp/new" "$3" "$4" 100 ;;
    esac
}

misses() {
    upstream --answer 800 --think-us 1000
    larder
    start_nginx proxy || true
    for r in $(seq "$rounds"); do
        for job in "2 1 600" "2 16 4000" "256 1 300" "256 4 400"; do
            # shellcheck disable=SC2086 # three words
            set -- $job
            make_requests "$tmp/new" --host localhost --draws $(($3 + 100)) --unique 1 \
                --seed $((r * 1000 + $1 + $2)) --body $(($1 * 1024))
            for side in $(order "$r" direct larder nginx); do
                misses_once "$r" "$1" "$2" "$3" "$side"
            done
        done
    done
    for case_ in 2k-1 2k-16 256k-1 256k-4; do
        result misses $case_ p50_us larder nginx added us '<= 1.5'
        result misses $case_ p99_us larder nginx added us '<= 1.5'
    done
    stop "$gw_pid" "$up_pid" ${ng:+"$ng_master"}
}

streams_once() { # round side address
    out=$("$build/bench_streams" --to "$3" --request "$tmp/streams" --streams 200 \
        --events $((stream_s * 100)) --name "$2") || die "streams $2: $out"
    note streams 200x100 "$1" "$2" "$out" p50_us p99_us max_us
}

streams() {
    upstream --events $((stream_s * 100)) --interval-us 10000
    larder
    start_nginx proxy || true
    for r in 1 2 3; do
        make_requests "$tmp/streams" --host localhost --draws 200 --unique 1 --stream 1 --seed "$r"
        for side in $(order "$r" direct larder nginx); do
            case $side in
            direct) streams_once "$r" direct "127.0.0.1:$up_port" ;;
            larder) streams_once "$r" larder "$gw" ;;
            nginx) [ -z "$ng" ] || streams_once "$r" nginx "$ng" ;;
            esac
        done
    done
    for f in p50_us p99_us max_us; do
        result streams 200x100 $f larder nginx ratio us "$([ $f = p99_us ] && echo '<= 5000 us')"
        result streams 200x100 $f direct none ratio us ''
    done
    stop "$gw_pid" "$up_pid" ${ng:+"$ng_master"}
}

memory_of() { # pid: anonymous resident bytes
    awk '$1 == "RssAnon:" { print $2 * 1024 }' "/proc/$1/status"
}

memory() {
    upstream --answer 16
    larder --answer-hot-bytes 1M
    start_nginx static || true
    make_requests "$tmp/one" --host "$gw" --entries 64
    load memory warm 1 larder "$gw" "$tmp/one" 8 6000 0 # fills the ring of request records
    before=$(memory_of "$gw_pid")
    make_requests "$tmp/many" --host "$gw" --entries 100000 --unique 1 --body 250
    load memory fill 1 larder "$gw" "$tmp/many" 16 100000 0
    sleep 1
    after=$(memory_of "$gw_pid")
    echo "memory entry 1 larder bytes_each $(((after - before) / 100000))" >>"$runs"
    out=$("$build/bench_streams" --to "$gw" --request "$tmp/one" --idle 2000 --pid "$gw_pid") ||
        die "idle larder: $out"
    note memory idle 1 larder "$out" bytes_each
    if [ -n "$ng" ]; then
        make_requests "$tmp/get" --host "$ng" --draws 1 --get /1k
        out=$("$build/bench_streams" --to "$ng" --request "$tmp/get" --idle 2000 --pid "$ng_pid") ||
            die "idle nginx: $out"
        note memory idle 1 nginx "$out" bytes_each
    fi
    result memory entry bytes_each larder none ratio bytes ''
    result memory idle bytes_each larder nginx ratio bytes ''
    stop "$gw_pid" "$up_pid" ${ng:+"$ng_master"}
}

# ---- the run -------------------------------------------------------------------------------------

table() {
    echo
    awk "$readers"'
    BEGIN {
        f = "%-8s %-12s %-14s %10s %10s %18s  %-11s %s\n"
        printf f, "part", "case", "of", "larder", "nginx", "ratio [min, max]", "target", "unit"
    }
    {
        ratio = get($0, "ratio", "median")
        if (ratio != "-")
            ratio = sprintf("%s [%s, %s]", n(ratio), n(get($0, "ratio", "min")), n(get($0, "ratio", "max")))
        own = get($0, "larder", "median")
        name = ""
        if (own == "-") { own = get($0, "direct", "median"); name = " (direct)" }
        printf f, word($0, "part"), word($0, "case"), word($0, "of"), n(own), \
            n(get($0, "nginx", "median")), ratio, word($0, "target"), word($0, "unit") name
    }' "$results"
    [ -n "$nginx" ] || cat <<'TEXT'

************************************************************************
*  NOT COMPARED: nginx is not installed, so no ratio above. On Debian:  *
*      apt-get install nginx-light                                      *
************************************************************************
TEXT
}

cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
machine="$cpu x $(nproc), Linux $(uname -r), $([ -n "$nginx" ] && "$nginx" -v 2>&1 | sed 's/.*: //' || echo 'no nginx')"
for part in $parts; do
    $part
done
table
