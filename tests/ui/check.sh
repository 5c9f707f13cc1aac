#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The dashboard in a real browser: headless Chromium, driven over its debugging pipe (NUL-separated JSON
# on descriptors 3 and 4), against a running daemon in managed mode that holds one answer. No upstream.
# Usage: check.sh LARDER. Exit: 0 all facts hold, 1 some do not, 77 no Chromium here (skipped).
larder=$1
browser=
for b in chromium chromium-browser google-chrome; do
    command -v "$b" >/dev/null && browser=$b && break
done
if [ -z "$browser" ]; then
    echo "SKIPPED: the dashboard was NOT tested: no Chromium is installed (apt-get install chromium)"
    exit 77
fi

dir=$(mktemp -d)
pids=()
leave() {
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null && wait "$p" 2>/dev/null; done
    rm -rf "$dir"
}
trap leave EXIT
give_up() {
    echo "FAIL: $*"
    [ -f "$dir/log" ] && tail -5 "$dir/log"
    exit 1
}

# ---- the house: one tenant, one answer, two hits and a miss ----

key=$("$larder" key add ui-test --keys-file "$dir/keys" 2>/dev/null) || give_up "key add"
"$larder" serve --listen 127.0.0.1:0 --data "$dir/data" --keys-file "$dir/keys" --http-drain 0 \
    --resp 127.0.0.1:0 --kv-memory 16M --kv-disk 64M >"$dir/out" 2>"$dir/log" &
pids+=($!)
for _ in $(seq 200); do
    url=$(sed -n 's|.*\(http://127[^/]*\)/v1.*|\1|p' "$dir/out")
    [ -n "$url" ] && break
    sleep 0.05
done
[ -n "$url" ] || give_up "the daemon does not start"
admin=$(cat "$dir/data/admin.key")
json='content-type: application/json'
question='{"model":"m","messages":[{"role":"user","content":"what is in the larder?"}]}'
answer='{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":
{"role":"assistant","content":"bread <b>and</b> cheese"},"finish_reason":"stop"}],"usage":
{"prompt_tokens":5,"completion_tokens":3,"total_tokens":8}}'
curl -sf -o "$dir/put" -X PUT "$url/larder/v1/entries" -H "$json" -H "authorization: Bearer $admin" -d "{\"credential\":
    \"$key\",\"dialect\":\"chat\",\"request\":$question,\"response\":$answer}" || give_up "put"
for _ in 1 2; do
    curl -sf -o "$dir/hit" "$url/v1/chat/completions" -H "$json" -H "authorization: Bearer $key" -d "$question" ||
        give_up "no hit"
done
# Two engines of one model, whose hashes have nothing in common: the KV store's doctor has something to say.
resp=$(sed -n 's/.*event=resp port=//p' "$dir/log")
for engine in 1 2; do
    exec 4<>"/dev/tcp/127.0.0.1/$resp" || give_up "no Redis door"
    printf 'AUTH %s\r\nCLIENT SETNAME engine-%d\r\n' "$key" $engine >&4
    for chunk in $(seq 100 139); do
        printf 'SET llama-8b@1@0@%d%d@half a-chunk\r\nEXISTS llama-8b@1@0@%d%d@half\r\n' \
            $engine "$chunk" $engine "$chunk" >&4
    done
    for _ in $(seq 82); do read -r -t 5 _ <&4 || give_up "the Redis door does not answer"; done
    exec 4>&-
done
curl -s -o "$dir/miss" "$url/v1/chat/completions" -H "$json" -H "authorization: Bearer $key" -d "${question/bread/x}x"

# ---- the browser ----

mkfifo "$dir/to" "$dir/from"
exec 5<>"$dir/to" 6<>"$dir/from"
"$browser" --headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
    --user-data-dir="$dir/profile" --remote-debugging-pipe about:blank 3<"$dir/to" 4>"$dir/from" \
    >"$dir/browser" 2>&1 &
pids+=($!)
id=0 session='' reply='' noise=''
command_() { # METHOD PARAMS: sends, waits for the reply of this id; events are kept in noise
    id=$((id + 1))
    printf '{"id":%d,"method":"%s","params":%s%s}\0' $id "$1" "${2//$'\n'/ }" "${session:+,\"sessionId\":\"$session\"}" >&5
    while IFS= read -r -t 30 -d '' reply <&6; do
        case $reply in
        "{\"id\":$id,"*) return 0 ;;
        *securitypolicyviolation* | *Runtime.exceptionThrown* | *"Refused to"* | *"Content Security Policy"*)
            noise+="$reply"$'\n' ;;
        esac
    done
    give_up "the browser does not answer $1"
}
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p" <<<"$reply"; }
js() { # EXPRESSION (no double quotes, no backslashes): its value as text
    command_ Runtime.evaluate "{\"expression\":\"(async()=>String($1))()\",\"awaitPromise\":true,\"returnByValue\":true}"
    field value
}
run() { command_ Runtime.evaluate "{\"expression\":\"$1\",\"awaitPromise\":true}"; }
n=0 bad=0
fact() { # WHAT WANTED EXPRESSION: becomes true within 5 s
    local got=
    n=$((n + 1))
    for _ in $(seq 50); do
        got=$(js "$3") # a subshell: its id counts on below
        id=$((id + 1))
        [ "$got" = "$2" ] && return 0
        sleep 0.1
    done
    echo "FAIL: $1: wanted '$2', got '$got'"
    bad=$((bad + 1))
}
command_ Target.createTarget '{"url":"about:blank"}'
target=$(field targetId)
command_ Target.attachToTarget "{\"targetId\":\"$target\",\"flatten\":true}"
session=$(field sessionId)
command_ Runtime.enable '{}'
command_ Log.enable '{}'
command_ Page.enable '{}'
command_ Page.navigate "{\"url\":\"$url/ui\"}"

hidden() { echo "document.getElementById('$1').hidden"; }
count() { echo "document.querySelectorAll('$1').length"; }
fact "the gate is shown first" false "$(hidden sign-in)"
fact "the gate has the focus" gate-key "document.activeElement.id"
run "document.getElementById('gate-key').value='la-wrong';document.getElementById('gate-form').requestSubmit()"
fact "a wrong key is refused in words" true "document.getElementById('gate-error').textContent.length>5"
run "document.getElementById('gate-key').value='$admin';document.getElementById('gate-form').requestSubmit()"
fact "the right key signs in" false "$(hidden overview)"
fact "the key does not stay in the page" 0 "document.getElementById('gate-key').value.length"
fact "no script can read the session" -1 "document.cookie.indexOf('larder')"
fact "six tiles" 6 "$(count '#tiles .tile')"
fact "the hit rate is told" true "document.querySelector('#tiles .value').textContent.endsWith('%')"
fact "the chart is drawn" true "$(count '#chart svg rect.hit')>0"
fact "the chart says itself in words" true \
    "document.querySelector('#chart svg').getAttribute('aria-label').includes('from the cache')"
for m in rate tokens latency; do
    run "document.getElementById('measure').value='$m';document.getElementById('measure').dispatchEvent(new Event('change'))"
    fact "the chart shows $m" true "$(count '#chart svg rect.hit')>0&&$(count '#legend .sw')>0"
done
fact "reasons have bars" true "$(count '#reasons .bar')>0"
fact "an empty house of upstreams says so" 1 "$(count '#ups td.none')"
fact "the KV store has its tiers" 2 "$(count '#kv-tiers tr')"
fact "and says how it is" 2 "$(count '#kv-tiers .badge.up')"
fact "the clients of the KV store are listed" 2 "$(count '#kv-clients tr')"
fact "the doctor speaks" true "document.getElementById('kv-findings').textContent.includes('PYTHONHASHSEED')"
fact "nothing went wrong in drawing" live "document.getElementById('live').textContent"
fact "no two elements share an id" 0 "[...document.querySelectorAll('[id]')].filter((e,i,a) =>
 a.findIndex(o => o.id === e.id) !== i).length"
fact "every control has a name" 0 "[...document.querySelectorAll('button,input,select,textarea')].filter(e =>
 !(e.textContent.trim()||e.ariaLabel||(e.labels&&e.labels.length))).length"

run "document.querySelector('[data-view=requests]').click()"
fact "requests are listed" true "$(count '#all-requests button')>2"
run "document.querySelector('#all-requests .badge.hit').closest('tr').querySelector('button').click()"
fact "explain opens" true "document.getElementById('explain').open"
fact "explain draws the six rooms" 6 "$(count '#ex-body .fall .row')"
fact "explain says why" true "document.getElementById('ex-body').textContent.includes('identical request')"
run "document.getElementById('explain').close()"

run "document.querySelector('[data-view=entries]').click()"
fact "the entry is listed" 1 "$(count '#entry-rows .acts')"
run "document.querySelector('#filter [name=model]').value='other';document.getElementById('filter').requestSubmit()"
fact "a filter filters" 1 "$(count '#entry-rows td.none')"

run "document.querySelector('[data-view=chat]').click();document.getElementById('chat-key').value='$key';
document.getElementById('chat-model').value='m';document.getElementById('chat-text').value='what is in the larder?';
document.getElementById('chat-form').requestSubmit()"
fact "chat tells a hit" 1 "$(count '#log .badge.hit')"
fact "chat shows text as text" true \
    "document.querySelector('#log .say.it').textContent.startsWith('bread <b>and</b> cheese')"
fact "chat tells the shelf" true "document.querySelector('#log .proof').textContent.includes('shelf: exact')"
fact "chat tells what was saved" true "document.querySelector('#log .proof').textContent.includes('saved')"
fact "nothing secret stands in the address" "$url/ui#chat" "location.href"

for view in overview requests entries chat; do
    command_ Emulation.setDeviceMetricsOverride '{"width":400,"height":900,"deviceScaleFactor":1,"mobile":false}'
    run "document.querySelector('[data-view=$view]').click()"
    fact "$view fits 400 pixels" true "document.documentElement.scrollWidth<=400"
done
for scheme in light dark; do
    command_ Emulation.setEmulatedMedia "{\"features\":[{\"name\":\"prefers-color-scheme\",\"value\":\"$scheme\"}]}"
    eval "$scheme=\$(js \"getComputedStyle(document.body).backgroundColor\")"
    id=$((id + 1))
done
n=$((n + 1))
[ "$light" != "$dark" ] || { echo "FAIL: dark mode looks like light mode"; bad=$((bad + 1)); }
run "document.getElementById('sign-out').click()"
fact "signing out shows the gate" false "$(hidden sign-in)"
fact "the client key is forgotten" 0 "document.getElementById('chat-key').value.length"
fact "the session is over" 401 "(await fetch('/larder/v1/stats')).status"
if [ -n "$noise" ]; then
    echo "FAIL: the browser complained: $noise"
    bad=$((bad + 1))
fi
echo "dashboard: $n facts, $bad failed"
[ "$bad" = 0 ]
