#!/usr/bin/env bash
# Installs what the tests need and is missing, then runs all tests.
#   scripts/test.sh           everything
#   scripts/test.sh FILTER    only tests whose names contain FILTER
#   scripts/test.sh --peers   everything, and the Linux kernel that judges our devices (docs/linux-peer.md)
#   scripts/test.sh --fuzz    everything, and each libFuzzer target for some seconds (vmm/fuzz/README.md)
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
peers=
fuzz=
while true; do
    case ${1:-} in
    --peers) peers=--peers ;;
    --fuzz) fuzz=yes ;;
    *) break ;;
    esac
    shift
done
# shellcheck disable=SC2086
scripts/install-test-tools.sh $peers

step() { printf '\n== %s (%ss)\n' "$1" "$SECONDS"; }

if [ $# -eq 0 ]; then
    step "format"
    cargo fmt --all --check
    step "lints"
    shellcheck scripts/*.sh .ci/run
    # The guest's programs and kernel are no programs of the host: they are linted as they are built.
    cargo clippy --workspace --lib --tests --quiet -- -D warnings
    cargo clippy --package xinim-vmm --package xinim-os-host --bins --quiet -- -D warnings
    scripts/build-guest.sh --lint
    scripts/build-kernel.sh clippy -- -D warnings
fi

step "guest and VMM"
cargo build --package xinim-vmm
step "tests"
XINIM_SKIP_LOG=$(mktemp)
export XINIM_SKIP_LOG
trap 'rm -f "$XINIM_SKIP_LOG"' EXIT
cargo test --workspace --no-fail-fast -- "$@"

if [ $# -eq 0 ]; then
    step "QEMU's device tests"
    XINIM_QTEST=${CARGO_TARGET_DIR:-target}/debug/xinim-qtest
    XINIM_QTEST=$(realpath "$XINIM_QTEST") scripts/qtest-peer.sh
fi

if [ -n "$peers" ]; then
    step "Linux as a judge"
    XINIM_VMM=$(realpath "${CARGO_TARGET_DIR:-target}/debug/xinim-vmm") scripts/linux-peer.sh
fi

if [ -n "$fuzz" ]; then
    step "libFuzzer"
    scripts/fuzz.sh
fi

step "done"
skipped=$(wc -l <"$XINIM_SKIP_LOG")
if [ "$skipped" -gt 0 ]; then
    echo "$skipped skipped for want of something:"
    sort "$XINIM_SKIP_LOG" | uniq -c
else
    echo "nothing was skipped"
fi
