#!/usr/bin/env bash
# A node whose bramble.toml was written by hand, with mistakes in it, and whose card was flashed
# with an image of an app: what it makes of each, seen from outside, by ssh and on its card.
#
#   tests/vm/settings.sh
#
# After tests/vm/images.sh, whose programs it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/vm/programs.sh
source tests/vm/programs.sh
work=$target/images/settings
[[ -e $init_x86 ]] || tests/vm/images.sh x86
rm -rf "$work"
mkdir -p "$work"
ssh-keygen -q -t ed25519 -N '' -C settings -f "$work/key"
python3 tests/vm/settings.py archive "$work/app.tar"
"$target/debug/bramble-image" build --board x86 --bramble "$bramble_x86" --init "$init_x86" \
    --cache "$target/images/cache" --preload "$work/app.tar" -o "$work/node.img"
exec python3 tests/vm/settings.py boot "$work"
