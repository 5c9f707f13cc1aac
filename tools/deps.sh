#!/bin/sh
# The house rule: a module includes headers of lower rows only, and of another module only its public
# header. Prints offenders, fails if there are any. Rows are those of README.md's table of modules.
cd "$(dirname "$0")/.." || exit 1
row() {
    case $1 in
    base) echo 0 ;;
    kern | evict | net | dialect) echo 1 ;;
    vec | nn | policy | step | route) echo 2 ;;
    embed | match | store) echo 3 ;;
    reuse) echo 4 ;;
    answer | engine) echo 5 ;;
    serve | sim | eval) echo 6 ;;
    cli | lib) echo 7 ;;
    *) echo none ;;
    esac
}
# Public headers besides <module>/<module>.h. base/ is a tool box: all of its headers are.
public() {
    case $1 in
    base/*_int.h) return 1 ;;
    base/*) return 0 ;;
    esac
    [ "$1" = "${1%%/*}/${1%%/*}.h" ]
}
bad=0
for file in src/*/*.[ch]; do
    module=$(basename "$(dirname "$file")")
    mine=$(row "$module")
    [ "$mine" = none ] && { echo "$file: module '$module' has no row in tools/deps.sh"; bad=1; continue; }
    for inc in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
        other=${inc%%/*}
        [ "$other" = "$inc" ] && { echo "$file: \"$inc\" needs its module's name"; bad=1; continue; }
        [ "$other" = "$module" ] && continue
        [ "$other" = larder ] && continue
        theirs=$(row "$other")
        if [ "$theirs" = none ] || [ "$theirs" -ge "$mine" ]; then
            echo "$file: includes $inc, but $other is not below $module"
            bad=1
        elif ! public "$inc"; then
            echo "$file: includes $inc, which is $other's own business"
            bad=1
        fi
    done
done
# Libraries belong to one module each.
for pair in microhttpd.h:serve curl/curl.h:net lmdb.h:answer yaml.h:base sodium.h:base xxhash.h:base \
    liburing.h:store lz4.h:store zstd.h:store hiredis.h:store; do
    grep -ln "#include <${pair%%:*}>" src/*/*.[ch] | grep -v "^src/${pair##*:}/" |
        sed "s|$|: includes <${pair%%:*}>, which is for ${pair##*:}/ alone|"
done | grep . && bad=1
# Pure modules see no clock, thread, file or socket.
for module in evict route policy step kern dialect match; do
    [ -d "src/$module" ] || continue
    grep -nE '\b(lr_clock_|pthread_|lr_io_|lr_thread_|lr_pool_|socket\()' "src/$module"/*.[ch] |
        grep -vE '^[^:]*:[0-9]+: *(/?\*|//)' && { echo "src/$module is pure"; bad=1; }
done
exit $bad
