#!/usr/bin/env bash
# Builds guest programs by hand, as the VMM's build script does: for work on one service.
#   scripts/build-guest.sh [PACKAGE...]           default: every program in configs/bundle.toml
#   scripts/build-guest.sh --lint [PACKAGE...]    clippy instead, warnings are errors
# The programs land in $CARGO_TARGET_DIR/guest-user/x86_64-unknown-linux-gnu/guest/.
set -euo pipefail
cd "$(dirname "$0")/.."
target_dir=${CARGO_TARGET_DIR:-target}/guest-user
# The flags are the build script's.
mapfile -t flags < <(sed -n '/^\[programs\]/,/^]/s/^ *"\(.*\)",$/\1/p' configs/bundle.toml | sed "s|{root}|$PWD|")
action=(build)
after=()
if [ "${1:-}" = --lint ]; then
    shift
    action=(clippy --quiet)
    after=(-- -D warnings)
fi
packages=("$@")
if [ ${#packages[@]} -eq 0 ]; then
    mapfile -t packages < <(sed -n 's/^package = "\(.*\)"/\1/p' configs/bundle.toml | grep -vx xinim-kernel | sort -u)
fi
CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
    cargo "${action[@]}" --profile guest --target x86_64-unknown-linux-gnu \
    --target-dir "$target_dir" "${packages[@]/#/-p}" "${after[@]}"
