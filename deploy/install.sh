#!/bin/sh
# Installs Unisono as a systemd service under its own user, or brings an installation up to date.
# Run as root from a source tree: deploy/install.sh [--cpu] [extra pip arguments]
#   --cpu: PyTorch's build without CUDA, a tenth of the size, even where an NVIDIA device is.
# DESTDIR: install below another root (and do not talk to systemd).
set -eu
# What the service's user must read, whatever root's own habit is.
umask 022
cd "$(dirname "$0")/.."

dest=${DESTDIR:-}
venv=$dest/opt/unisono/venv
torch=
if [ "${1:-}" = --cpu ]; then
    torch=--cpu
    shift
fi

if [ -z "$dest" ] && ! getent passwd unisono >/dev/null; then
    useradd --system --home-dir /var/lib/unisono --shell /usr/sbin/nologin unisono
fi

# Left by an earlier installation; modules that are gone would come back.
rm -rf build
mkdir -p "$dest/opt/unisono" "$dest/etc/unisono" "$dest/etc/systemd/system"
[ -x "$venv/bin/python" ] || ${PYTHON:-python3} -m venv "$venv"
pip="$venv/bin/pip --disable-pip-version-check install --constraint deploy/constraints.txt"
# shellcheck disable=SC2086  # nothing, or one word
"$venv/bin/python" deploy/install_torch.py $torch
# shellcheck disable=SC2086  # words on purpose
$pip "$@" .
install -m 644 README.md "$dest/opt/unisono/README.md"

# Settings are the operator's: never overwritten.
[ -e "$dest/etc/unisono/unisono.toml" ] ||
    install -m 644 deploy/unisono.toml "$dest/etc/unisono/unisono.toml"
# For `unisono ctl` and `unisono top`; somebody else's is left alone.
mkdir -p "$dest/usr/local/bin"
[ -e "$dest/usr/local/bin/unisono" ] ||
    ln -sf /opt/unisono/venv/bin/unisono "$dest/usr/local/bin/unisono"
install -m 644 deploy/unisono.service deploy/unisono.socket "$dest/etc/systemd/system/"

if [ -z "$dest" ]; then
    # The unit lets the service reach this machine only, so the default model is fetched here.
    if grep -q '^model = ""' /etc/unisono/unisono.toml; then
        install -d -o unisono -g unisono /var/lib/unisono
        (cd /var/lib/unisono &&
            runuser -u unisono -- env HOME=/var/lib/unisono UNISONO_CACHE=/var/lib/unisono/cache \
                "$venv/bin/python" -c 'import gateway.default_model as m; m.default_model()')
    fi
    # Not in a chroot, where there is nobody to tell.
    [ ! -d /run/systemd/system ] || systemctl daemon-reload
    echo "installed; start it with: systemctl enable --now unisono.socket unisono.service"
fi
