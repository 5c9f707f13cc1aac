#!/bin/sh
# The official OpenAI and Anthropic clients, unmodified, against a running larder and a fake upstream.
# Needs python3 with venv; installs the clients from PyPI into build/clients (private). Usage: BUILD
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
command -v python3 >/dev/null || { echo "check-clients needs python3" >&2; exit 1; }
env=$build/clients
if [ ! -x "$env/bin/python" ]; then
    python3 -m venv "$env"
    "$env/bin/pip" install -q --disable-pip-version-check -r tests/clients/requirements.txt
fi
exec "$env/bin/python" tests/clients/run.py "$build/larder"
