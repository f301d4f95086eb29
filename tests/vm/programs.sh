# To be sourced: the programs that x86 images are made of, and another version of such an image.
#
# They are those that tests/vm/images.sh made or was given.
target=${CARGO_TARGET_DIR:-target}
bramble_x86=${BRAMBLE_X86:-$target/x86_64-unknown-linux-gnu/release/bramble}
init_x86=${BRAMBLE_INIT_X86:-$target/x86_64-unknown-linux-gnu/release/bramble-init}

# next_update PATH: the same system under another version's name, as PATH.update.
next_update() {
    "$target/debug/bramble-image" build --board x86 --release next --bramble "$bramble_x86" \
        --init "$init_x86" --cache "$target/images/cache" -o "$1.img"
    rm "$1.img"
}
