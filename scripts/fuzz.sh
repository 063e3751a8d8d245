#!/usr/bin/env bash
# Builds the libFuzzer targets of vmm/fuzz and guest-servers/fuzz, with coverage instrumentation on the pinned
# stable toolchain, and runs each from its seeds and what earlier runs have kept.
#   scripts/fuzz.sh                          all targets, five seconds each
#   scripts/fuzz.sh SECONDS [TARGET...]      these, so long; 0: until something is found
# Status 1: something was found; the inputs are in target/fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
[[ $seconds =~ ^[0-9]+$ ]] || { echo "usage: scripts/fuzz.sh [SECONDS] [TARGET...]" >&2; exit 2; }
shift || true

triple=x86_64-unknown-linux-gnu
home=$(realpath "${CARGO_TARGET_DIR:-target}")/fuzz
coverage=-Cllvm-args=-sanitizer-coverage
flags="--cfg fuzzing -Cpasses=sancov-module $coverage-level=4 $coverage-inline-8bit-counters
    $coverage-pc-table $coverage-trace-compares -Cdebug-assertions -Coverflow-checks"
for place in vmm/fuzz guest-servers/fuzz; do
    # Without --target the flags would be build scripts' and macros', too.
    (cd $place && RUSTFLAGS=$flags cargo build --release --target $triple --target-dir "$home")
done

if [ $# -eq 0 ]; then
    shopt -s nullglob
    for file in vmm/fuzz/fuzz_targets/*.rs guest-servers/fuzz/fuzz_targets/*.rs; do
        set -- "$@" "$(basename "$file" .rs)"
    done
fi
for target in "$@"; do
    [ -x "$home/$triple/release/$target" ] || { echo "there is no target $target" >&2; exit 2; }
done
mkdir -p "$home/findings"

run() {
    local target=$1 seeds log
    mkdir -p "$home/corpus/$target"
    log=$home/$target.log
    seeds=()
    for place in vmm guest-servers; do
        [ -d "$place/fuzz/seeds/$target" ] && seeds+=("$place/fuzz/seeds/$target")
    done
    if "$home/$triple/release/$target" -max_total_time="$seconds" -len_control=0 \
        -artifact_prefix="$home/findings/$target-" "$home/corpus/$target" "${seeds[@]}" >"$log" 2>&1; then
        echo "$target: $(tail -1 "$log"), $(grep -o 'cov: [0-9]*' "$log" | tail -1)"
    else
        echo "$target: found something, see $log:"
        tail -20 "$log"
        return 1
    fi
}
export -f run
export seconds home triple
# One a processor.
printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} bash -c 'run {}' || exit 1
