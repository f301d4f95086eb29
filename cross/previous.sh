#!/usr/bin/env bash
# Build the release before this version, as tests build; prints the path of its binary, or nothing
# where none was tagged yet (vX.Y.Z), or this is no git repository.
#
#   cross/previous.sh [REVISION]     another one
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
# Of the commit before: a release is not its own predecessor.
revision=${1:-$(git describe --tags --abbrev=0 --match 'v[0-9]*' 'HEAD^' 2>/dev/null || true)}
[[ -n $revision ]] || exit 0
commit=$(git rev-parse --verify --quiet "$revision^{commit}") || {
    echo "cross/previous.sh: there is no revision $revision" >&2
    exit 1
}
binary=$target/previous/bramble-$commit
if [[ ! -x $binary ]]; then
    source=$target/previous/source
    rm -rf "$source"
    mkdir -p "$source"
    git archive "$commit" | tar -x -C "$source"
    # Beside this version's, so that what did not change between them is built once; under another
    # version, as cargo tells packages of a workspace apart by name and version, not by where they
    # are.
    sed -i -E '0,/^version = "([^"]*)"/s//version = "\1-previous"/' "$source/Cargo.toml"
    CARGO_TARGET_DIR=$target cargo build ${JOBS:+-j "$JOBS"} -p bramble \
        --manifest-path "$source/Cargo.toml" >&2
    cp "$target/debug/bramble" "$binary"
    rm -rf "$source"
    # What tests take as this version's.
    cargo build --locked ${JOBS:+-j "$JOBS"} -p bramble >&2
fi
echo "$binary"
