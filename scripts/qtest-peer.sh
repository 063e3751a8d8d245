#!/usr/bin/env bash
# Builds QEMU's own AHCI device tests, unmodified, and lets them drive the devices of `xinim-vmm qtest`.
#   scripts/qtest-peer.sh            all cases that need no migration, each with its result
#   scripts/qtest-peer.sh PATH...    only these, as /x86_64/ahci/reset/simple
# QEMU_SOURCE names an unpacked QEMU source tree; without it Debian's source package of QEMU_SUITE (trixie)
# is fetched. Only the tests and what they stand on are compiled, not QEMU; it is kept in
# target/qtest-peer. XINIM_QTEST names the server to judge; without it the one of this tree is built.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/qtest-peer
here=$PWD/scripts/qtest-peer
mkdir -p "$work"

server=${XINIM_QTEST:-}
if [ -z "$server" ]; then
    cargo build --quiet --package xinim-qtest
    server=$target/debug/xinim-qtest
fi

fetch() { # Debian's source package, without touching the system's package lists
    local lists=$work/apt
    mkdir -p "$lists/lists/partial" "$work/source"
    # The mirror is the one this machine installs from.
    local mirror
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | sort -u | sed -n 1p)
    [ -n "$mirror" ] || { echo "apt knows no package archive to take QEMU's source from" >&2; exit 1; }
    echo "deb-src $mirror ${QEMU_SUITE:-trixie} main" >"$lists/sources.list"
    local apt=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$lists/lists" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update -qq
    (cd "$work" && apt-get "${apt[@]}" source --download-only -qq qemu)
    tar -C "$work/source" --strip-components=1 -xf "$work"/qemu_*.orig.tar.xz
}

build() {
    local source=$1 out=$work/objects
    rm -rf "$out"
    mkdir -p "$out/include/qapi"
    python3 "$source/scripts/qapi-gen.py" -b -o "$out/include/qapi" "$source/qapi/qapi-schema.json"
    # What QEMU's configure would find out, as far as these files ask.
    printf '#define %s\n' "CONFIG_LINUX 1" "CONFIG_POSIX 1" "CONFIG_IOVEC 1" "CONFIG_INT128 1" "HOST_X86_64 1" \
        'CONFIG_PREFIX "/usr"' 'CONFIG_BINDIR "/usr/bin"' 'CONFIG_KVM_TARGETS "x86_64"' \
        "QEMU_VERSION_MAJOR 10" "QEMU_VERSION_MINOR 0" >"$out/include/config-host.h"
    : >"$out/include/config-poison.h"
    local files=("$here/stubs.c") name
    for name in ahci-test libqtest libqmp libqos/{pci,pci-pc,fw_cfg,libqos-malloc,malloc-pc,libqos,libqos-pc,ahci}; do
        files+=("$source/tests/qtest/$name.c")
    done
    for name in qnull qnum qstring qdict qlist qbool qlit qjson qobject json-{lexer,parser,streamer,writer}; do
        files+=("$source/qobject/$name.c")
    done
    for name in error cutils unicode osdep host-utils error-report qemu-print; do
        files+=("$source/util/$name.c")
    done
    files+=("$source/stubs/error-printf.c")
    local flags=(-std=gnu11 -w -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64)
    for name in "$out/include" "$out/include/qapi" "$source" "$source/include" "$source/tests" \
        "$source/tests/qtest" "$source"/host/include/{x86_64,generic}; do
        flags+=("-I$name")
    done
    # shellcheck disable=SC2046
    gcc "${flags[@]}" $(pkg-config --cflags gio-2.0) -o "$work/ahci-test" "${files[@]}" \
        $(pkg-config --libs gio-2.0) -lm
}

if [ ! -x "$work/ahci-test" ]; then
    source=${QEMU_SOURCE:-$work/source}
    [ -e "$source/tests/qtest/ahci-test.c" ] || fetch
    build "$source"
fi

# The tests learn the architecture from the program's name.
printf '#!/bin/sh\nexec "%s" "$@"\n' "$server" >"$work/qemu-system-x86_64"
chmod +x "$work/qemu-system-x86_64"
export QTEST_QEMU_BINARY=$work/qemu-system-x86_64
unset QTEST_QEMU_IMG
paths=("$@")
if [ ${#paths[@]} -eq 0 ]; then
    mapfile -t paths < <("$work/ahci-test" -l | grep '^/' | grep -v /migrate)
fi
passed=0 failed=0
for path in "${paths[@]}"; do
    if timeout 120 "$work/ahci-test" -p "$path" >"$work/last.log" 2>&1; then
        echo "ok      $path"
        passed=$((passed + 1))
    else
        echo "FAILED  $path"
        tail -n 5 "$work/last.log"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
