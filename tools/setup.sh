#!/bin/sh
# Installs what a build needs, where apt is the package manager; elsewhere says what to install.
# Quiet and quick when everything is there. Usage: tools/setup.sh [--check]
set -eu
packages="gcc cmake ninja-build pkg-config libmicrohttpd-dev libcurl4-openssl-dev libyaml-dev
libsodium-dev libxxhash-dev liblmdb-dev libcmocka-dev liburing-dev liblz4-dev libzstd-dev libhiredis-dev"

missing() {
    command -v cmake >/dev/null && command -v ninja >/dev/null && command -v pkg-config >/dev/null &&
        { command -v cc >/dev/null || command -v gcc >/dev/null; } &&
        pkg-config --exists libmicrohttpd libcurl yaml-0.1 libsodium libxxhash lmdb cmocka && return 1
    return 0
}

missing || exit 0
if ! command -v apt-get >/dev/null; then
    echo "larder needs these libraries with their headers (Debian's package names):" >&2
    echo $packages >&2
    echo "install them with your package manager, then run make again" >&2
    exit 1
fi
[ "${1:-}" = --check ] && { echo "missing packages among:" $packages >&2; exit 1; }
sudo=
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "run as root, or install: apt-get install" $packages >&2; exit 1; }
    sudo="sudo --preserve-env=http_proxy,https_proxy,no_proxy,HTTP_PROXY,HTTPS_PROXY,NO_PROXY"
fi
echo "installing what the build needs (apt-get)" >&2
$sudo apt-get update -qq >&2
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >&2
if missing; then
    echo "still missing something among:" $packages >&2
    exit 1
fi
