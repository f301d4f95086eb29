#!/usr/bin/env bash
# Build images for every board, check them, and boot them all at once: x86 by BIOS and by UEFI,
# arm64 by UEFI, a Raspberry Pi 3. Needs no root; packages come from the distribution and are kept.
#
#   tests/vm/images.sh [BOARD...]     x86 arm64-uefi pi; without: all
#
# Programs: those cross/build.sh makes, or BRAMBLE_X86, BRAMBLE_INIT_X86, BRAMBLE_ARM64 and
# BRAMBLE_INIT_ARM64.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
work=$target/images
boards=("$@")
[[ $# -gt 0 ]] || boards=(x86 arm64-uefi pi)
# What may be downloaded. Bytes.
declare -A packed_max=([x86]=24000000 [arm64-uefi]=32000000 [pi]=32000000)
export PATH="$PATH:/usr/sbin:/sbin"
mkdir -p "$work"

fail() {
    echo "tests/vm/images: $*" >&2
    exit 1
}

# Program of a board: given, or built.
program() {
    local name=$1 board=$2 architecture=X86 cpu=x86_64 given
    [[ $board == x86 ]] || architecture=ARM64 cpu=aarch64
    given=${name^^}_$architecture
    given=${given//-/_}
    if [[ -n ${!given:-} ]]; then
        echo "${!given}"
        return
    fi
    cross/build.sh "$cpu" | grep "/$name\$" || fail "cross/build.sh $cpu made no $name"
}

# Write a partition to a file of its own.
partition() {
    local image=$1 number=$2 start sectors
    read -r start sectors < <(od -An -j $((446 + 16 * (number - 1) + 8)) -N 8 -t u4 "$image")
    dd if="$image" of="$3" bs=4M iflag=skip_bytes,count_bytes conv=sparse status=none \
        skip=$((start * 512)) count=$((sectors * 512))
    truncate -s $((sectors * 512)) "$3"
}

check() {
    local board=$1 image=$work/$1.img number bytes
    for number in 1 2 3; do
        partition "$image" $number "$work/part"
        fsck.vfat -n "$work/part" > "$work/fsck.log" 2>&1 ||
            fail "partition $number of $image: $(cat "$work/fsck.log")"
    done
    partition "$image" 4 "$work/part"
    e2fsck -fn "$work/part" > "$work/fsck.log" 2>&1 ||
        fail "data partition of $image: $(cat "$work/fsck.log")"
    rm -f "$work/part"
    # Its dictionary must reach from one copy of the modules to the other.
    bytes=$(xz -9 -T1 -c "$image" | wc -c)
    [[ $bytes -le ${packed_max[$board]} ]] ||
        fail "$image has $bytes bytes packed by xz, more than ${packed_max[$board]}"
    echo "images: $board: $bytes bytes packed, $(stat -c %s "$image") plain"
}

cargo build --locked -p bramble-image-tools --bin bramble-image
tool=$target/debug/bramble-image
for board in "${boards[@]}"; do
    bramble=$(program bramble "$board")
    init=$(program bramble-init "$board")
    build=("$tool" build --board "$board" --bramble "$bramble" --init "$init" --cache "$work/cache")
    "${build[@]}" -o "$work/$board.img"
    if [[ $board == x86 ]]; then
        # Elsewhere and later, by whoever, and in every form: the same.
        for format in qcow2 vmdk; do
            (umask 077 && "${build[@]}" --format $format -o "$work/again.$format")
            qemu-img check -q -f $format "$work/again.$format" || fail "qemu-img finds fault with $format"
            qemu-img compare -q -f raw -F $format "$work/$board.img" "$work/again.$format" ||
                fail "two builds of $board differ, one of them as $format"
            cmp "$work/$board.update" "$work/again.update" || fail "two updates of $board differ"
            rm -f "$work"/again.*
        done
    fi
    check "$board"
    "$tool" configure "$work/$board.img" --hostname "node-$board" --open-api
done
python3 tests/vm/images.py "$work" "${boards[@]}"
