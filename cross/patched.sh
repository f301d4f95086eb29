#!/usr/bin/env bash
# Put every crate of Cargo.lock into a directory, those with a patch in cross/patches patched: what
# does not build for a 32-bit machine as published. Cargo.lock stays as it is.
#
#   cross/patched.sh DIRECTORY
set -euo pipefail
directory=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/.."
stamp=$directory/.made-of
made_of=$(cat Cargo.lock cross/patches/* | sha256sum)
[[ -e $stamp && $(< "$stamp") == "$made_of" ]] && exit

rm -f "$stamp"
cargo vendor --quiet --locked --versioned-dirs "$directory" >/dev/null
for patch in cross/patches/*.patch; do
    crate=$directory/$(basename "$patch" .patch)
    [[ -d $crate ]] || {
        echo "cross/patched: $patch is for a version that Cargo.lock does not have; see whether" \
            "the one it has builds without, or renew the patch" >&2
        exit 1
    }
    patch --quiet --strip 1 --directory "$crate" < "$patch"
    # What cargo knows of the files was true before; of the package it stays so.
    sed -i -E 's/"files":\{[^}]*\}/"files":{}/' "$crate/.cargo-checksum.json"
done
echo "$made_of" > "$stamp"
