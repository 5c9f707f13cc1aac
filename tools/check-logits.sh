#!/bin/sh
# Our logits against transformers' on the CPU, for every architecture and type of weights.
# Needs python3 with venv; installs torch and transformers from PyPI into build/logits (private, some
# 1 GB). Usage: BUILD [arguments of tests/clients/logits.py]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
[ $# -gt 0 ] && shift
command -v python3 >/dev/null || { echo "check-logits needs python3" >&2; exit 1; }
env=$build/logits
if [ ! -e "$env/ready" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q --disable-pip-version-check -r tests/clients/logits-requirements.txt
    : >"$env/ready"
fi
ninja -C "$build" check_logits >/dev/null
exec "$env/bin/python" tests/clients/logits.py "$build/check_logits" "$@"
