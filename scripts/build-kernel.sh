#!/bin/sh
# Builds the kernel alone, with the flags the VMM's build script uses, and prints where it is.
# `scripts/build-kernel.sh clippy` runs clippy over the freestanding code instead.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/kernel
us=$(printf '\037')
flags="-Clto=fat${us}-Cembed-bitcode=yes${us}-Cpanic=abort${us}-Crelocation-model=static${us}-Ccode-model=kernel"
flags="$flags${us}-Cno-redzone=yes"
flags="$flags${us}-Ctarget-feature=-sse,-sse2"
for arg in -nostartfiles -nostdlib -static -no-pie -Wl,--build-id=none "-T$PWD/guest-kernel/kernel.ld"; do
    flags="$flags${us}-Clink-arg=$arg"
done
unset RUSTFLAGS
export CARGO_ENCODED_RUSTFLAGS="$flags"
command=${1:-build}
[ $# -gt 0 ] && shift
if [ "$command" = clippy ]; then
    exec cargo clippy -p xinim-kernel --bin xinim-kernel --profile guest --target x86_64-unknown-linux-gnu \
        --target-dir "$target" "$@"
fi
cargo "$command" -p xinim-kernel --bin xinim-kernel --profile guest --target x86_64-unknown-linux-gnu --target-dir "$target" "$@"
echo "$target/x86_64-unknown-linux-gnu/guest/xinim-kernel"
