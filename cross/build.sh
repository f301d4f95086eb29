#!/usr/bin/env bash
# Build the static release binary for this machine; prints its path as the last line.
# Statically linked and not relocatable: an executor shares every page of it with the others,
# where a relocated one would hold about 1 MB of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
target=$(rustc -vV | sed -n 's/^host: //p')
libdir=$(pkg-config --variable=libdir libseccomp)
[[ -n $libdir && -e $libdir/libseccomp.a ]] || {
    echo "libseccomp.a was not found (package libseccomp-dev)" >&2
    exit 1
}
export LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$libdir
# A panic aborts, so nothing is ever unwound: the tables for it are 1.3 MB that nobody reads.
export RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static \
    -C force-unwind-tables=no"
cargo build --release --locked -p bramble --target "$target" >&2
echo "${CARGO_TARGET_DIR:-target}/$target/release/bramble"
