#!/bin/sh
# Builds the kernel alone, with the flags the VMM's build script uses, and prints where it is.
# `scripts/build-kernel.sh clippy` runs clippy over the freestanding code instead.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}/kernel
flags=$(sed -n '/^\[kernel\]/,/^]/s/^ *"\(.*\)",$/\1/p' configs/bundle.toml | sed "s|{root}|$PWD|" | tr '\n' '\037')
flags=${flags%?}
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
