#!/usr/bin/env bash
# Take the power of a node that runs from an image, twenty times, at random moments of its first
# boot and of an update. After tests/vm/images.sh, whose x86 image it takes.
#
#   tests/vm/powercuts.sh [CUTS] [SEED]
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
work=$target/images
[[ $(uname -m) == x86_64 ]] || {
    echo "tests/vm/powercuts: updates the node with this machine's binary; this is $(uname -m)" >&2
    exit 1
}
[[ -e $work/x86.img ]] || tests/vm/images.sh x86
# shellcheck source=tests/vm/programs.sh
source tests/vm/programs.sh
mkdir -p "$work/powercuts"
next_update "$work/powercuts/next"
exec python3 tests/vm/powercuts.py \
    "$work/x86.img" "$work/powercuts/next.update" "$bramble_x86" "$work/powercuts" "$@"
