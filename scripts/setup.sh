#!/bin/sh
# Sets up the checkout: a Python that works, the system packages that the lab needs, and .venv with `deploy` in it.
# It says what it installs, and can be run again. `scripts/setup.sh dev` adds what the tests need.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*"; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo "$@"
    else
        say "error: these packages are missing and there is no sudo to install them: $packages" >&2
        say "  as root: apt-get install -y --no-install-recommends $packages" >&2
        exit 2
    fi
}

# The first Python that runs and is new enough; a name alone proves nothing (version managers leave empty shims).
python=''
for candidate in python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    say 'error: no Python 3.11, 3.12 or 3.13 runs here' >&2
    say '  install one: apt-get install -y python3 python3-venv (Debian 12, Ubuntu 24.04 or newer)' >&2
    exit 2
fi

# Which commands are needed, and the package that brings each.
packages=''
need() {
    command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || case " $packages " in
        *" $2 "*) ;;
        *) packages="${packages:+$packages }$2" ;;
    esac
}
need systemd-nspawn systemd-container
need debootstrap debootstrap
need mmdebstrap mmdebstrap
need zstd zstd
need ip iproute2
need nsenter util-linux
need ssh openssh-client
need gcc gcc
need curl curl
need nft nftables
[ -e /usr/include/stdlib.h ] || packages="${packages:+$packages }libc6-dev"
[ -e /etc/ssl/certs/ca-certificates.crt ] || packages="${packages:+$packages }ca-certificates"
"$python" -c 'import ensurepip' >/dev/null 2>&1 || {
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    packages="${packages:+$packages }python$version-venv"
}
if [ -n "$packages" ]; then
    command -v apt-get >/dev/null 2>&1 || {
        say "error: these are missing, and only apt is known here: $packages" >&2
        exit 2
    }
    say "installing system packages: $packages"
    log=$(mktemp)
    if ! as_root env DEBIAN_FRONTEND=noninteractive sh -c \
        "apt-get update -q && apt-get install -y -q --no-install-recommends $packages" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        say "error: apt could not install them; the whole of what it said is in $log" >&2
        exit 1
    fi
    rm -f "$log"
fi

# .venv with exactly what uv.lock says.
if ! .venv/bin/python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then
    say "making .venv with $python"
    rm -rf .venv
    "$python" -m venv .venv
fi
wanted="$(cat uv.lock pyproject.toml | sha256sum | cut -c1-64) $(pwd)"
kind=${1:-user}
if [ "$(cat ".venv/.synced-$kind" 2>/dev/null)" != "$wanted" ] || [ ! -x .venv/bin/deploy ]; then
    say "installing agentrig and what it needs into .venv"
    [ -x .venv/bin/uv ] || .venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
    # uv itself is not in uv.lock: --inexact leaves it where it is.
    if [ "$kind" = dev ]; then group=--all-groups; else group=--no-dev; fi
    UV_NATIVE_TLS=1 VIRTUAL_ENV="$PWD/.venv" .venv/bin/uv sync --quiet --frozen --inexact $group
    printf '%s' "$wanted" >".venv/.synced-$kind"
    [ "$kind" = user ] || printf '%s' "$wanted" >.venv/.synced-user
fi
