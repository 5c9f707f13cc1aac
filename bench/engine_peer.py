#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# bench/engine_peer.py - larder bench engine beside llama.cpp's llama-bench, on the same files in turns.
#
#   engine_peer.py LARDER LLAMA_BENCH [--threads 2] [--rounds 5] [--prompt 512] [--predict 64] MODEL..
#
# One JSON line a model: medians and spreads (largest minus smallest) of both, and ratios of medians.
# Both decode after a prompt of --prompt tokens (llama-bench -d). Without the peer: SKIPPED, success.
# On a crowded machine put a scheduling class in front of both with --with, e.g. --with "chrt -r 1".
import argparse
import json
import os
import statistics
import subprocess
import sys

p = argparse.ArgumentParser()
p.add_argument("ours")
p.add_argument("peer")
p.add_argument("models", nargs="+")
p.add_argument("--threads", default="2")
p.add_argument("--rounds", type=int, default=5)
p.add_argument("--prompt", default="512")
p.add_argument("--predict", default="64")
p.add_argument("--with", dest="front", default="")
a = p.parse_args()


def run(*command):
    out = subprocess.run(a.front.split() + list(command), stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, check=True, text=True).stdout
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def ours(model):
    r = run(a.ours, "bench", "engine", "--model", model, "--prompt", a.prompt, "--predict", a.predict,
            "--threads", a.threads, "--runs", "1", "--json")[0]
    return r["prefill_tps"], r["decode_tps"]


def peer(model):
    common = [a.peer, "-m", model, "-t", a.threads, "-r", "1", "-o", "jsonl"]
    prefill = run(*common, "-p", a.prompt, "-n", "0")[0]["avg_ts"]
    decode = run(*common, "-p", "0", "-n", a.predict, "-d", a.prompt)[0]["avg_ts"]
    return prefill, decode


if not os.access(a.peer, os.X_OK):
    print(f"SKIPPED: no peer to compare with: {a.peer} is not there")
    sys.exit(0)
for model in a.models:
    rounds = [(ours(model), peer(model)) for _ in range(a.rounds)]
    line = {"model": os.path.basename(model), "threads": int(a.threads), "rounds": a.rounds}
    for i, what in enumerate(("prefill", "decode")):
        both = [[r[who][i] for r in rounds] for who in (0, 1)]
        mid = [statistics.median(x) for x in both]
        line[what] = {"ours": round(mid[0], 1), "ours_spread": round(max(both[0]) - min(both[0]), 1),
                      "peer": round(mid[1], 1), "peer_spread": round(max(both[1]) - min(both[1]), 1),
                      "ratio": round(mid[0] / mid[1], 2)}
    print(json.dumps(line), flush=True)
