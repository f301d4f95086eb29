#!/usr/bin/env bash
# Proves that every planted bug is caught where it would really be: applies each patch beside this
# to a copy of the tree, builds the simulation there, and wants it to fail for the right reason.
# `make test` only checks that the patches still apply; a build for each takes minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
patches=$PWD/tests/simulation/planted
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/planted
tree=$CARGO_TARGET_DIR/tree
mkdir -p "$CARGO_TARGET_DIR"
for patch in "$patches"/*.patch; do
    name=$(basename "$patch" .patch)
    echo "== $name"
    rm -rf "$tree" && mkdir "$tree"
    # As if written now (-m): cargo must not take a file without the last patch for an old one.
    git ls-files -z | tar --null -T - -c | tar -x -m -C "$tree"
    (cd "$tree" && GIT_CEILING_DIRECTORIES=$CARGO_TARGET_DIR git apply -C1 "$patch")
    (cd "$tree" && cargo test --locked -j "${JOBS:-2}" -p bramble-simulation --test simulation -- \
        --caught "$name")
done
rm -rf "$tree"
