#!/usr/bin/env bash
# Lets a Linux kernel judge our devices: Debian's 6.1, configured as small as it goes, boots on our VMM
# with drivers that others wrote, and an init that checks what they find.
#   scripts/linux-peer.sh                     both parts below, each case with its result
#   scripts/linux-peer.sh storage | network   one of them; the network needs root, for TAP devices
#   scripts/linux-peer.sh network MODEL...    with these cards only
#   scripts/linux-peer.sh build               only the kernel and its initramfs; prints where they are
# The kernel is built once and kept in XINIM_LINUX_PEER (default: ~/.cache/xinim/linux-peer).
# LINUX_SOURCE names a kernel source archive; without it Debian's linux-source-6.1 is fetched. XINIM_VMM
# names the VMM to judge; without it the one of this tree is built.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
target=${CARGO_TARGET_DIR:-$PWD/target}
work=$target/linux-peer
here=$PWD/scripts/linux-peer
cache=${XINIM_LINUX_PEER:-${XDG_CACHE_HOME:-$HOME/.cache}/xinim/linux-peer}
mkdir -p "$work" "$cache"

die() { echo "$*" >&2; exit 1; }

# --- the kernel

fetch() { # Debian's package of the source, without touching the system's package lists
    local lists=$cache/apt mirror
    mkdir -p "$lists/lists/partial"
    # The mirror is the one this machine installs from.
    # shellcheck disable=SC2016 # apt-get expands it
    mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -v security | sort -u | sed -n 1p)
    [ -n "$mirror" ] || die "apt knows no package archive to take Linux' source from"
    echo "deb $mirror ${LINUX_SUITE:-bookworm} main" >"$lists/sources.list"
    local apt=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o Dir::Etc::sourceparts=-
        -o "Dir::State::lists=$lists/lists" -o APT::Sandbox::User=root)
    apt-get "${apt[@]}" update -qq
    (cd "$cache" && apt-get "${apt[@]}" download -qq linux-source-6.1)
    dpkg --fsys-tarfile "$cache"/linux-source-6.1_*.deb |
        tar -x -O ./usr/src/linux-source-6.1.tar.xz >"$cache/linux.tar.xz"
    rm -r "$cache"/linux-source-6.1_*.deb "$lists"
}

edit() { # edit FILE PATTERN REPLACEMENT: one line, which must be there exactly once
    [ "$(sed -n "\\|$2|p" "$1" | wc -l)" = 1 ] || die "$1 is not as expected: $2"
    sed -i.orig "s|$2|$3|" "$1"
    ! cmp -s "$1" "$1.orig" || die "$1 has not changed: $2"
}

# What a KVM needs that emulates ring 0 and leaves `syscall` in ring 3; where there is VT-x or SVM, all of
# it changes nothing. See docs/linux-peer.md.
edits() {
    # A `syscall` that ends in a page fault at its own entry point goes on as a system call.
    edit arch/x86/mm/fault.c '^#include <linux/sched.h>.*' '#include <asm/proto.h>\n#include <asm/syscall.h>\n&'
    edit arch/x86/mm/fault.c '^\tprefetchw(&current->mm->mmap_lock);' "$(
        printf '%s\\n' '\tif (user_mode(regs) \&\& error_code == 0x15 \&\& address == regs->ip \&\&' \
            '\t    address == (unsigned long)entry_SYSCALL_64) {' \
            '\t\tregs->ip = regs->cx;' '\t\tregs->flags = regs->r11;' '\t\tregs->orig_ax = regs->ax;' \
            '\t\tregs->ax = -ENOSYS;' '\t\tdo_syscall_64(regs, regs->orig_ax);' '\t\treturn;' '\t}'
    )&"
    # Breakpoints cannot be tried out in ring 0.
    edit arch/x86/kernel/alternative.c '^\tint3_selftest();' '\t(void)int3_selftest;'
    # Nor can the floating-point unit be waited for there.
    edit arch/x86/kernel/fpu/core.c '^\t\tasm volatile("1: fwait\\n"' '\t\tasm volatile("1: nop\\n"'
}

build_kernel() {
    local source=$cache/source out=$cache/build
    [ -e "${LINUX_SOURCE:-$cache/linux.tar.xz}" ] || fetch
    echo "building Linux, once; the log is $cache/build.log"
    rm -rf "$source" "$out"
    mkdir -p "$source" "$out"
    tar -C "$source" --strip-components=1 -xf "${LINUX_SOURCE:-$cache/linux.tar.xz}"
    (cd "$source" && edits)
    {
        make -s -C "$source" O="$out" tinyconfig
        cat "$here/config" >>"$out/.config"
        make -s -C "$source" O="$out" olddefconfig
    } >"$cache/build.log" 2>&1
    local wanted
    while read -r wanted; do
        grep -qx "$wanted" "$out/.config" || die "Linux cannot be configured with $wanted"
    done < <(grep '=y' "$here/config")
    make -s -C "$source" O="$out" -j2 vmlinux >>"$cache/build.log" 2>&1 || {
        tail -n 20 "$cache/build.log" >&2
        die "Linux does not build"
    }
    mv "$out/vmlinux" "$kernel"
    rm -rf "$source" "$out" "$cache/linux.tar.xz"
}

# A change of what goes in builds anew.
kernel=$cache/vmlinux-$({ cat "$here/config"; declare -f edits; } | sha256sum | cut -c 1-12)
initramfs=$work/initramfs.cpio

build_initramfs() {
    local root=$work/root file
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/peer" "$root/lib64"
    cp "$(command -v busybox)" "$root/bin/busybox"
    cp "$here"/{storage,network}.sh "$root/peer"
    cp "$here/init" "$root/init"
    chmod +x "$root/init"
    # iperf3 comes with its libraries, wherever they are.
    cp "$(command -v iperf3)" "$root/bin/iperf3"
    while read -r file; do
        mkdir -p "$root/$(dirname "$file")"
        cp -L "$file" "$root/$file"
    done < <(ldd "$(command -v iperf3)" | grep -o '/[^ ]*')
    (cd "$root" && find . | cpio --quiet -o -H newc) >"$initramfs"
}

# --- the machine

vmm=${XINIM_VMM:-}
# Hidden: what a KVM that emulates ring 0 cannot do there, and what is slow there; from Linux as well, as
# such a KVM shows the host's features whatever it is told to show (the VMM says so).
hidden=cx16,popcnt,smap,rdtscp,invpcid,pcid,erms,fsrm,pku
cpuid=-xsave,-kvm_asyncpf,-kvm_steal_time,-${hidden//,/,-}
parameters="console=ttyS0 quiet panic=-1 no-kvmclock tsc=reliable noxsave clearcpuid=$hidden"
# Tables for a machine with little memory: all that is cleared takes time.
parameters+=" thash_entries=512 uhash_entries=256 dhash_entries=1024 ihash_entries=1024"
boot() { # boot PART PARAMETERS OPTIONS...: in the background, as $machine; its console goes to $console
    local part=$1 own=$2
    shift 2
    console=$work/$part.log control=$work/$part.socket
    rm -f "$console" "$control"
    ${XINIM_NICE:-} "$vmm" run --engine kvm --kernel "$kernel" --bundle "$initramfs" --memory 256M --cpuid "$cpuid" \
        --cmdline "$parameters peer=$part $own" --console "file:$console" \
        --control "$control" --timeout 30m "$@" 2>"$work/$part.err" &
    machine=$!
}

ready() { # ready WHAT: waits until the guest says so
    local left=2400
    until grep -q "^READY $1" "$console" 2>/dev/null; do
        if ! kill -0 "$machine" 2>/dev/null; then
            cat "$work"/*.err >&2
            tail -n 5 "$console" >&2
            die "the machine ended before it was ready to $1"
        fi
        left=$((left - 1))
        [ "$left" -gt 0 ] || { kill "$machine"; die "the guest was never ready to $1"; }
        sleep 0.5
    done
}

passed=0 failed=0
verdict() { # verdict CASE COMMAND...
    local name=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        echo "ok      $name"
        passed=$((passed + 1))
    else
        echo "FAILED  $name"
        tail -n 5 "$work/said"
        failed=$((failed + 1))
    fi
}

finish() { # waits for the machine and counts the guest's verdicts
    local status=0 line
    wait "$machine" || status=$?
    while read -r line; do
        line=${line%$'\r'}
        case $line in
        "ok "*) echo "ok      ${line#ok }"; passed=$((passed + 1)) ;;
        "FAILED "*) echo "FAILED  ${line#FAILED }"; failed=$((failed + 1)) ;;
        "note "*) echo "        ${line#note }" ;;
        esac
    done <"$console"
    verdict "$1: the guest came to its end (status $status)" grep -q '^END' "$console"
}

# --- storage

part_at() { # part_at IMAGE FILE MIB: puts a partition's content into a disk
    dd if="$2" of="$1" bs=1M seek="$3" conv=notrunc,sparse status=none
}

storage() {
    local d=$work/disks block
    rm -rf "$d"
    mkdir -p "$d/tree" "$d/iso"
    # An ext4 whose journal holds what the file system does not: the new content of a block.
    head -c 4096 /dev/zero | tr '\0' o >"$d/tree/record"
    head -c 4096 /dev/zero | tr '\0' n >"$d/new"
    echo "$(sha256sum <"$d/new" | cut -d' ' -f1)  record" >"$d/tree/record.sha256"
    mke2fs -q -t ext4 -b 4096 -d "$d/tree" "$d/ext4" 40M
    block=$(debugfs -R 'bmap /record 0' "$d/ext4" 2>/dev/null)
    printf 'jo\njw -b %s %s\njc\n' "$block" "$d/new" | debugfs -w -f - "$d/ext4" >/dev/null 2>&1
    dumpe2fs -h "$d/ext4" 2>/dev/null | grep -q needs_recovery || die "the journal is not dirty"
    mkfs.fat -C "$d/fat" $((20 * 1024)) >/dev/null
    truncate -s 64M "$d/ahci.img" "$d/virtio.img"
    printf '1M,40M\n41M,20M\n' | sed 's/M,/MiB,/; s/M$/MiB/' | sfdisk -q -X gpt "$d/ahci.img"
    part_at "$d/ahci.img" "$d/ext4" 1
    part_at "$d/ahci.img" "$d/fat" 41
    mke2fs -q -t ext4 "$d/ext4v" 40M
    echo '1MiB,40MiB' | sfdisk -q -X dos "$d/virtio.img"
    part_at "$d/virtio.img" "$d/ext4v" 1
    head -c 3M /dev/urandom >"$d/iso/data"
    (cd "$d/iso" && sha256sum data >sums)
    genisoimage -quiet -R -J -o "$d/cd.iso" "$d/iso"
    head -c 8M /dev/urandom >"$d/hot.img"

    boot storage "hot=$(sha256sum <"$d/hot.img" | cut -d' ' -f1) resized=$((128 << 11))" \
        --disk "$d/ahci.img,bus=ahci,cache=unsafe" --disk "$d/virtio.img,cache=unsafe" --cdrom "$d/cd.iso"
    ready attach
    local name
    name=$("$vmm" ctl "$control" attach "$d/hot.img,bus=ahci")
    ready detach
    # In the middle of its reading.
    sleep 2
    "$vmm" ctl "$control" detach "$name"
    ready resize
    "$vmm" ctl "$control" resize "$("$vmm" ctl "$control" info | awk '$2 == "virtio" { print $1 }')" 128M
    finish storage
    # What the host's own tools find.
    for name in ahci virtio; do
        dd if="$d/$name.img" of="$d/after" bs=1M skip=1 count=40 status=none
        verdict "e2fsck: $name" e2fsck -fn "$d/after"
        verdict "debugfs: $name, what was written" same "$d/after"
    done
    dd if="$d/ahci.img" of="$d/after" bs=1M skip=41 count=20 status=none
    verdict "fsck.fat: ahci" fsck.fat -n "$d/after"
}

same() { # the files that the guest wrote have the sums that it wrote
    local out=$work/disks/out
    rm -rf "$out"
    mkdir -p "$out"
    debugfs -R "rdump / $out" "$1" && (cd "$out" && sha256sum -c data.sha256)
}

# --- network

models=(e1000 e1000-82545em e1000e virtio)
[ $# -lt 2 ] || models=("${@:2}")
network() { # in a network namespace of its own, where nothing else is
    [ "$(id -u)" = 0 ] || die "TAP devices need root"
    ip link set lo up
    local index model nets=()
    for index in "${!models[@]}"; do
        ip tuntap add "peer$index" mode tap
        ip address add "10.77.$index.1/24" dev "peer$index"
        ip link set "peer$index" up
        printf '%s\n' "interface peer$index" "start 10.77.$index.10" "end 10.77.$index.10" \
            "lease_file $work/leases$index" "pidfile $work/udhcpd$index.pid" \
            "option subnet 255.255.255.0" "option router 10.77.$index.1" >"$work/udhcpd$index.conf"
        : >"$work/leases$index"
        busybox udhcpd -f "$work/udhcpd$index.conf" 2>/dev/null &
        servers+=($!)
        nets+=(--net "tap=peer$index,model=${models[index]}")
    done
    boot network "" "${nets[@]}"
    ready network
    for index in "${!models[@]}"; do
        model=${models[index]} address=10.77.$index.10
        verdict "$model: 500 flood pings" pings -f -c 500
        verdict "$model: 8,000-byte pings" pings -i 0.2 -c 20 -s 8000
        verdict "$model: iperf3 to the guest" throughput
        echo "        $(cat "$work/rate")"
        verdict "$model: iperf3 from the guest" throughput -R
        echo "        $(cat "$work/rate")"
    done
    # The guest waits for this connection.
    exec 9<>/dev/tcp/10.77.0.10/999 && exec 9>&-
    finish network
    kill "${servers[@]}"
}
servers=()

pings() { # none may be lost; a guest that is slow may answer late, and ping -f does not wait for it
    ping -q -W 120 "$@" "$address" >"$work/pings"
    tail -n 3 "$work/pings"
    grep -q ' 0% packet loss' "$work/pings"
}

throughput() {
    rm -f "$work/rate"
    # The server of a slow guest may still be at the end of the test before.
    local left=5
    until iperf3 -c "$address" -t 3 --connect-timeout 10000 "$@" >"$work/iperf3" 2>&1; do
        left=$((left - 1))
        if [ "$left" = 0 ] || ! grep -q -e 'is busy' -e 'reset by peer' "$work/iperf3"; then
            cat "$work/iperf3"
            return 1
        fi
        sleep 3
    done
    grep receiver "$work/iperf3" | sed 's/.* sec  *//; s/ *receiver//' | tee "$work/rate"
}

# ---

[ -e "$kernel" ] || build_kernel
build_initramfs
case ${1:-all} in
build)
    printf '%s\n' "$kernel" "$initramfs"
    exit
    ;;
all | storage | network) ;;
*) die "usage: scripts/linux-peer.sh [build | storage | network]" ;;
esac
if [ -z "$vmm" ]; then
    cargo build --quiet --package xinim-vmm
    vmm=$target/debug/xinim-vmm
fi
case ${1:-all} in
all)
    storage
    XINIM_LINUX_PEER_ALONE=1 XINIM_VMM=$vmm unshare --net "$0" network || failed=$((failed + 1))
    ;;
storage) storage ;;
network)
    if [ "${XINIM_LINUX_PEER_ALONE:-}" != 1 ]; then
        XINIM_LINUX_PEER_ALONE=1 XINIM_VMM=$vmm exec unshare --net "$0" "$@"
    fi
    network
    ;;
esac
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
