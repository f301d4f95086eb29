#!/usr/bin/env bash
# Build static binaries; prints their paths, bramble's as the last line.
# Statically linked and not relocatable: an executor shares every page of it with the others,
# where a relocated one would hold about 1 MB of its own.
#
#   cross/build.sh [TARGET [PROFILE]]
#
# TARGET   aarch64 | armv7 | x86_64; without: this machine
# PROFILE  release, or cross-check: for tests under emulation
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
target=${1:-} profile=${2:-release}

# package:binary[:features]; bramble last.
binaries=(
    bramble-image-tools:bramble-init:init
    bramble-image-tools:bramble-image:disk
    bramble:bramble
)

# shellcheck source=cross/toolchain.sh
source cross/toolchain.sh
toolchain "$target"
if [[ $profile == release ]]; then
    # A panic aborts, so nothing is ever unwound: the tables for it are 1.3 MB that nobody reads.
    export RUSTFLAGS="$RUSTFLAGS -C force-unwind-tables=no"
fi
for entry in "${binaries[@]}"; do
    IFS=: read -r package binary features <<< "$entry"
    # What this machine runs needs the node alone.
    [[ -n $target || $binary == bramble ]] || continue
    "${cargo[@]}" build --profile "$profile" --locked ${JOBS:+-j "$JOBS"} --target "$triple" \
        -p "$package" --bin "$binary" ${features:+--features "$features"} \
        ${sources[@]+"${sources[@]}"} >&2
    echo "${CARGO_TARGET_DIR:-target}/$triple/$profile/$binary"
done
