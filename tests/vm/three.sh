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

"$bramble" cluster new home --out "$work"
for name in n1 n2 n3; do
    truncate -s 2G "$work/$name.card"
    "$tool" flash "$images/x86.img" "$work/$name.card" --cluster home --keys "$work" \
        --hostname "$name" --open-api
done
update=()
if [[ ${1:-} == update ]]; then
    # shellcheck source=tests/vm/programs.sh
    source tests/vm/programs.sh
    next_update "$work/next"
    update=("$bramble" "$work/next.update")
fi
# A network of its own, which ends with the last program in it, however that ends.
as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
"${as_root[@]}" unshare --net --mount -- python3 tests/vm/three.py "$work" "${update[@]}"
