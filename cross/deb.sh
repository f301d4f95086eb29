#!/usr/bin/env bash
# Make the Debian package of a target (also for Raspberry Pi OS), and look into it.
#
#   cross/deb.sh [TARGET]      aarch64 | armv7 | x86_64; without: this machine
#
# armv7 packages are Debian's armhf; the first Raspberry Pi and the Zero are older than that.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH"
target=${1:-}

fail() {
    echo "cross/deb: $*" >&2
    exit 1
}

binary=$(cross/build.sh "$target" | tail -n 1)
triple=$(basename "$(dirname "$(dirname "$binary")")")
# The compiler is this machine's own again: nothing is built here.
package=$(cargo deb --no-build --no-strip --target "$triple" -p bramble | tail -n 1)
[[ -e $package ]] || fail "cargo-deb made no package"

case $triple in
aarch64-*) architecture=arm64 machine=AArch64 ;;
armv7-*) architecture=armhf machine=ARM ;;
x86_64-*) architecture=amd64 machine=X86-64 ;;
esac
[[ $(dpkg-deb -f "$package" Architecture) == "$architecture" ]] || fail "it is not for $architecture"
content=$(mktemp -d)
trap 'rm -rf "$content"' EXIT
dpkg-deb -R "$package" "$content"
for file in usr/bin/bramble etc/bramble/bramble.toml usr/share/man/man1/bramble.1.gz \
    usr/share/doc/bramble/copyright DEBIAN/postinst DEBIAN/prerm DEBIAN/postrm; do
    [[ -s $content/$file ]] || fail "it has no $file"
done
compgen -G "$content/*lib/systemd/system/bramble.service" >/dev/null ||
    compgen -G "$content/usr/lib/systemd/system/bramble.service" >/dev/null ||
    fail "it has no unit"
readelf -h "$content/usr/bin/bramble" | grep -q "Machine:.*$machine" || fail "the program is not for $machine"
readelf -l "$content/usr/bin/bramble" | grep -q INTERP && fail "the program is not static"
grep -qx /etc/bramble/bramble.toml "$content/DEBIAN/conffiles" || fail "the settings are no conffile"
grep -q 'systemctl.* start\|deb-systemd-invoke.* start' "$content"/DEBIAN/postinst &&
    fail "it would start a node that nobody asked for"
for script in postinst prerm postrm; do
    sh -n "$content/DEBIAN/$script"
done
if command -v lintian >/dev/null; then
    lintian --fail-on error "$package" >&2
fi
echo "$package"
