#!/usr/bin/env bash
# Three nodes from one image, their cards written by `bramble-image flash --cluster`, in a network
# with DHCP and nothing else: they find each other, whatever their clocks say, and run an app.
#
#   tests/vm/three.sh [update]     with `update`: and are updated one after the other, under the app
#
# After tests/vm/images.sh, whose x86 image it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
images=$target/images
work=$images/three
tool=$target/debug/bramble-image
bramble=$target/debug/bramble
[[ -e $images/x86.img ]] || tests/vm/images.sh x86
rm -rf "$work"
mkdir -p "$work"

as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
device=
release() {
    [[ -z $device ]] || "${as_root[@]}" losetup -d "$device"
    device=
}
trap release EXIT

"$bramble" cluster new home --out "$work"
for name in n1 n2 n3; do
    truncate -s 2G "$work/$name.card"
    # As to a card: a disk the kernel knows, which says how large it is.
    device=$("${as_root[@]}" losetup --find --show "$work/$name.card")
    "${as_root[@]}" "$tool" flash "$images/x86.img" "$device" --cluster home --keys "$work" \
        --hostname "$name" --open-api
    release
done
update=()
if [[ ${1:-} == update ]]; then
    # shellcheck source=tests/vm/programs.sh
    source tests/vm/programs.sh
    next_update "$work/next"
    update=("$bramble" "$work/next.update")
fi
# A network of its own, and processes that end with the first of them, however that ends.
"${as_root[@]}" unshare --net --mount --pid --fork --kill-child --mount-proc -- \
    python3 tests/vm/three.py "$work" "${update[@]}"
