#!/usr/bin/env bash
# Installs what the tests need beside Rust: QEMU, file-system tools, cpio, a disassembler.
# As root by apt; otherwise it names the packages and fails. With --peers also what scripts/linux-peer.sh needs.
set -euo pipefail

packages=()
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}
PATH=$PATH:/usr/sbin:/sbin
need cc gcc
need qemu-system-x86_64 qemu-system-x86
need qemu-img qemu-utils
need mkfs.fat dosfstools
need mcopy mtools
need mke2fs e2fsprogs
need debugfs e2fsprogs
need cpio cpio
need objdump binutils
need sfdisk fdisk
need xorriso xorriso
need setpriv util-linux
need script bsdutils
need xorriso xorriso
need genisoimage genisoimage
need mkfs.minix util-linux
need iperf3 iperf3
need python3 python3
need tshark tshark
need gdb gdb
need shellcheck shellcheck
need pkg-config pkg-config
pkg-config --exists gio-2.0 2>/dev/null || packages+=(libglib2.0-dev)
need dpkg-source dpkg-dev
if [ "${1:-}" = --peers ]; then
    need flex flex
    need bison bison
    need bc bc
    need make make
    need xz xz-utils
    need busybox busybox-static
    need ping iputils-ping
    need ip iproute2
    need unshare util-linux
    # Linux' objtool
    [ -e /usr/include/libelf.h ] || packages+=(libelf-dev)
fi

# Perfetto's Python package (schema, and its trace processor where Google's storage can be reached), in an
# environment of its own.
tools=/opt/xinim-test-tools
perfetto() {
    python3 -c 'import perfetto.protos' 2>/dev/null && return
    "$tools/bin/python3" -c 'import perfetto.protos' 2>/dev/null && return
    if [ "$(id -u)" != 0 ]; then
        echo "The tests need the Python package perfetto (pip install perfetto)." >&2
        exit 1
    fi
    python3 -m venv "$tools" 2>/dev/null ||
        { apt-get install -y -qq --no-install-recommends python3-venv >/dev/null && python3 -m venv "$tools"; }
    "$tools/bin/pip" install -q --disable-pip-version-check perfetto==0.59.1
}

[ ${#packages[@]} -eq 0 ] && { perfetto; exit 0; }
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests need these Debian packages: ${packages[*]}" >&2
    echo "Install them, or run this as root where apt-get exists." >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing: ${packages[*]}"
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
perfetto
