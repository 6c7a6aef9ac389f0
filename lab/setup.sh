#!/bin/sh
# Installs what the lab needs from Debian, if it is missing: nothing else, and no daemon.
# Safe to repeat; does nothing and asks for nothing when all is there.
set -eu
missing=
need() { # PROGRAM PACKAGE
    PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need mmdebstrap mmdebstrap
need ip iproute2
need ssh openssh-client
need chromium chromium
python3 -c 'import ensurepip' 2>/dev/null || missing="$missing python3-venv"
[ -e /usr/share/fonts/truetype/noto/NotoColorEmoji.ttf ] || missing="$missing fonts-noto-color-emoji"
if [ -z "$missing" ]; then
    echo "setup: all of Debian's packages that the lab needs are installed"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: missing:$missing, and this machine has no apt-get; install them by hand (Debian 12 names)" >&2
    exit 1
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "setup: missing:$missing, and there is no sudo; run this as root" >&2
        exit 1
    fi
    sudo=sudo
fi
echo "setup: installing from Debian:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $missing >/dev/null
