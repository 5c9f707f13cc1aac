#!/bin/sh
# LMCache, unmodified, against a running larder: `lmcache bench l2` with its native RESP client stores
# and loads chunks and compares what comes back with what went. Usage: tests/clients/lmcache.sh BUILD
#
# Needs python3 with venv and about 6 GB for LMCache and its torch, which come from PyPI into
# BUILD/lmcache the first time (or from the virtual environment that LMCACHE_ENV names). No GPU.
# Environment: SIZES (chunk sizes in KiB, "256 4096 32768"), KEYS (8 a submission).
set -eu
cd "$(dirname "$0")/../.."
build=$(cd "${1:-build}" && pwd)
sizes=${SIZES:-256 4096 32768}
env=${LMCACHE_ENV:-$build/lmcache}
command -v python3 >/dev/null || { echo "the check of LMCache needs python3" >&2; exit 1; }
if [ ! -x "$env/bin/lmcache" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q --disable-pip-version-check -r tests/clients/lmcache-requirements.txt
fi
tmp=$(mktemp -d)
pid=
clean() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$tmp"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

start() { # options: sets pid, port
    "$build/larder" serve --listen 127.0.0.1:0 --resp 127.0.0.1:0 --data "$tmp" --kv-memory 2G "$@" \
        >"$tmp/log" 2>&1 &
    pid=$!
    i=0
    until grep -q 'event=resp port=' "$tmp/log"; do
        i=$((i + 1))
        [ $i -lt 500 ] || { cat "$tmp/log" >&2; exit 1; }
        sleep 0.02
    done
    port=$(sed -n 's/.*event=resp port=\([0-9]*\).*/\1/p' "$tmp/log")
}

# What larder itself counted: no protocol error, nothing damaged or dropped.
sound() {
    printf 'INFO\r\nQUIT\r\n' | "$env/bin/python" -c '
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.sendall(sys.stdin.buffer.read())
text = b""
while True:
    part = s.recv(65536)
    if not part:
        break
    text += part
rows = dict(l.split(":", 1) for l in text.decode().splitlines() if ":" in l)
bad = {k: rows.get(k) for k in ("protocol_errors", "dropped_sets", "miss_corrupt") if rows.get(k) != "0"}
sys.exit("larder counted %s" % bad if bad else 0)' "$port"
}

failed=0
for password in "" secret; do
    start --kv-dir none
    auth=${password:+,\"password\":\"$password\"}
    for kib in $sizes; do
        if "$env/bin/lmcache" bench l2 --no-skip-verify --num-keys "${KEYS:-8}" --in-flight 4 \
            --data-size-kb "$kib" --l2-adapter \
            "{\"type\":\"resp\",\"host\":\"127.0.0.1\",\"port\":$port$auth}" >"$tmp/out" 2>&1 && sound; then
            echo "ok    $kib KiB${password:+, with a password}:$(awk '
                /^-+ [A-Z][a-z]+ -+$/ { what = tolower($2) }
                /^Throughput avg/ && $NF > 0 { printf " %s %.0f MB/s", what, $NF }' "$tmp/out")"
        else
            cat "$tmp/out"
            echo "FAILED $kib KiB"
            failed=1
        fi
    done
    kill "$pid"
    wait "$pid" || failed=1
    pid=
done
exit $failed
