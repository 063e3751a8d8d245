#!/usr/bin/env bash
# Builds QEMU's own device tests, unmodified, and lets them drive the devices of `xinim-vmm qtest`:
# ahci-test, and of qos-test what concerns e1000, e1000e, virtio-blk, virtio-net and virtio-serial.
#   scripts/qtest-peer.sh            all cases that can be run, each with its result
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
    # shellcheck disable=SC2016  # $(SITE) is apt's own
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | sort -u | sed -n 1p)
    [ -n "$mirror" ] || { echo "apt knows no package archive to take QEMU's source from" >&2; exit 1; }
    echo "deb-src $mirror ${QEMU_SUITE:-trixie} main" >"$lists/sources.list"
    local apt=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$lists/lists" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update -qq
    (cd "$work" && apt-get "${apt[@]}" source --download-only -qq qemu)
    tar -C "$work/source" --strip-components=1 -xf "$work"/qemu_*.orig.tar.xz
}

# What a machine without migration, and a console without further ports, cannot do.
not_ours='/migrate|virtio-serial-tests/(serialport-nop|hotplug)$'

build() {
    local source=$1 out=$work/objects
    rm -rf "$out"
    mkdir -p "$out/include/qapi" "$out/include/trace"
    python3 "$source/scripts/qapi-gen.py" -b -o "$out/include/qapi" "$source/qapi/qapi-schema.json"
    local name
    for name in util qapi; do
        python3 "$source/scripts/tracetool.py" --backend=nop --format=h --group=$name \
            "$source/$name/trace-events" "$out/include/trace/trace-$name.h"
    done
    # What QEMU's configure would find out, as far as these files ask.
    printf '#define %s\n' "CONFIG_LINUX 1" "CONFIG_POSIX 1" "CONFIG_IOVEC 1" "CONFIG_INT128 1" "HOST_X86_64 1" \
        'CONFIG_PREFIX "/usr"' 'CONFIG_BINDIR "/usr/bin"' 'CONFIG_KVM_TARGETS "x86_64"' \
        "QEMU_VERSION_MAJOR 10" "QEMU_VERSION_MINOR 0" >"$out/include/config-host.h"
    : >"$out/include/config-poison.h"
    local tests=$source/tests/qtest common=("$here/stubs.c" "$source/stubs/error-printf.c")
    for name in libqtest libqmp libqos/{pci,pci-pc,fw_cfg,libqos-malloc,malloc-pc,libqos,libqos-pc,ahci,qgraph}; do
        common+=("$tests/$name.c")
    done
    for name in qnull qnum qstring qdict qlist qbool qlit qjson qobject json-{lexer,parser,streamer,writer}; do
        common+=("$source/qobject/$name.c")
    done
    for name in error cutils unicode osdep host-utils error-report qemu-print iov module notify; do
        common+=("$source/util/$name.c")
    done
    local graph=()
    for name in qos-test {e1000,e1000e,pci,virtio,virtio-blk,virtio-net,virtio-serial}-test \
        libqos/{qos_external,x86_64_pc-machine,e1000e,virtio,virtio-pci,virtio-pci-modern} \
        libqos/virtio-{blk,net,serial}; do
        graph+=("$tests/$name.c")
    done
    for name in qobject-input-visitor qapi-visit-core qapi-dealloc-visitor qapi-util; do
        graph+=("$source/qapi/$name.c")
    done
    for name in machine machine-common common qom crypto sockets block-core; do
        graph+=("$out/include/qapi/qapi-types-$name.c" "$out/include/qapi/qapi-visit-$name.c")
    done
    local flags=(-std=gnu11 -w -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -ffunction-sections -fdata-sections)
    for name in "$out/include" "$out/include/qapi" "$source" "$source/include" "$source/tests" \
        "$source/tests/qtest" "$source"/host/include/{x86_64,generic}; do
        flags+=("-I$name")
    done
    # shellcheck disable=SC2207
    flags+=($(pkg-config --cflags gio-2.0))
    export flags_text="${flags[*]}" out
    # shellcheck disable=SC2016
    printf '%s\0' "$tests/ahci-test.c" "${common[@]}" "${graph[@]}" |
        xargs -0 -n 1 -P "$(nproc)" bash -c 'gcc $flags_text -c "$1" -o "$out/$(basename "$1" .c).o"' gcc
    objects() { local file; for file; do echo "$out/$(basename "$file" .c).o"; done; }
    local libraries
    libraries=$(pkg-config --libs gio-2.0)
    # shellcheck disable=SC2046,SC2086
    gcc -Wl,--gc-sections -o "$work/qos-test" $(objects "${common[@]}" "${graph[@]}") $libraries -lm
    # shellcheck disable=SC2046,SC2086
    gcc -Wl,--gc-sections -o "$work/ahci-test" $(objects "$tests/ahci-test.c" "${common[@]}") $libraries -lm
}

if [ ! -x "$work/ahci-test" ] || [ ! -x "$work/qos-test" ]; then
    source=${QEMU_SOURCE:-$work/source}
    [ -e "$source/tests/qtest/qos-test.c" ] || fetch
    build "$source"
fi

# The tests learn the architecture from the program's name.
printf '#!/bin/sh\nexec "%s" "$@"\n' "$server" >"$work/qemu-system-x86_64"
chmod +x "$work/qemu-system-x86_64"
export QTEST_QEMU_BINARY=$work/qemu-system-x86_64
unset QTEST_QEMU_IMG
paths=("$@")
if [ ${#paths[@]} -eq 0 ]; then
    mapfile -t paths < <({ "$work/ahci-test" -l; "$work/qos-test" -l; } | grep '^/' | grep -Ev "$not_ours")
fi
passed=0 failed=0
for path in "${paths[@]}"; do
    program=qos-test
    [[ $path == */ahci/* ]] && program=ahci-test
    if timeout 120 "$work/$program" -p "$path" >"$work/last.log" 2>&1; then
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
