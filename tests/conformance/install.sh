#!/usr/bin/env bash
# Install a client that the conformance tests drive (python | npm) below DIRECTORY, for itself
# alone. Versions and digests are pinned beside this; what is there already is left as it is.
set -euo pipefail

client=${1:?python or npm}
directory=${2:?a directory}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$directory"
directory=$(cd "$directory" && pwd)
exec 9>"$directory/$client.lock"
flock 9

case $client in
python) pins=("$here/python/requirements.txt") ;;
npm) pins=("$here/npm/package.json" "$here/npm/package-lock.json") ;;
*) echo "no such client: $client" >&2 && exit 2 ;;
esac
wanted=$(cat "${pins[@]}" | sha256sum)
place=$directory/$client
[[ -e $place/pins && $(<"$place/pins") == "$wanted" ]] && exit 0

# Made beside and moved, so that half an installation is never taken for one.
rm -rf "$place" "$place.new"
mkdir "$place.new"
trap 'rm -rf "$place.new" "$directory/npm-cache"' EXIT
case $client in
python)
    python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --no-deps --only-binary :all: --require-hashes --target "$place.new" \
        --requirement "${pins[0]}"
    ;;
npm)
    cp "${pins[@]}" "$place.new/"
    cd "$place.new"
    npm_config_cache="$directory/npm-cache" npm ci --silent --ignore-scripts --no-audit \
        --no-fund --no-update-notifier
    cd "$directory"
    ;;
esac
echo "$wanted" >"$place.new/pins"
mv "$place.new" "$place"
