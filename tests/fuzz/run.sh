#!/bin/bash
# Fuzz every target, or those named, for so many seconds each: run.sh SECONDS [TARGET...]
# What cargo-fuzz would do, on a stable compiler: coverage by LLVM's own pass, no sanitizer.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?seconds per target}
shift
targets=("${@:-app_json}")
[ $# -gt 0 ] || targets=(app_json apply)

host=$(rustc -vV | sed -n 's/^host: //p')
root=${CARGO_TARGET_DIR:-$(cd ../.. && pwd)/target}
export CARGO_TARGET_DIR=$root/fuzz
# With --target these reach neither build scripts nor macros.
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    RUSTFLAGS+=" -Cllvm-args=-sanitizer-coverage-$option"
done
export RUSTFLAGS
cargo build --locked --release --target "$host" -j "${JOBS:-2}" "${targets[@]/#/--bin=}"

for target in "${targets[@]}"; do
    corpus=$CARGO_TARGET_DIR/corpus/$target
    mkdir -p "$corpus"
    extra=()
    [ "$target" != app_json ] \
        || extra=(seeds ../../master/src/normalize/fixtures/samples -dict=app_json.dict)
    echo "fuzzing $target for $seconds s"
    if ! "$CARGO_TARGET_DIR/$host/release/$target" "$corpus" "${extra[@]}" \
        -max_total_time="$seconds" -max_len=16384 -timeout=20 -rss_limit_mb=2048 \
        -artifact_prefix="$CARGO_TARGET_DIR/$target-" -print_final_stats=1 \
        > "$CARGO_TARGET_DIR/$target.log" 2>&1; then
        tail -n 40 "$CARGO_TARGET_DIR/$target.log"
        echo "$target found something; the input is beside $CARGO_TARGET_DIR/$target.log"
        exit 1
    fi
    grep -E "^stat::(number_of_executed_units|new_units_added)" "$CARGO_TARGET_DIR/$target.log"
done
