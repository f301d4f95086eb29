#!/usr/bin/env bash
# Run cargo with test binaries started as root: containers, cgroups and namespaces need it.
# The build itself stays the user's.
set -euo pipefail
if [[ $(id -u) -ne 0 ]]; then
    command -v sudo >/dev/null || {
        echo "The tests run real containers and need root: run 'make test' as root or install sudo." >&2
        exit 1
    }
    host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${host}_RUNNER=sudo --preserve-env=CI,PATH,BRAMBLE_PREVIOUS"
fi
exec "$@"
