#!/usr/bin/env bash
# Install what this machine lacks for a purpose:
# run | test | fuzz | vm | lab | image | bench | cross-TARGET.
# Debian, Ubuntu and Raspberry Pi OS; elsewhere it says exactly what is missing.
set -euo pipefail

purpose=${1:-run}
packages=()
missing_for_others=()

# need COMMAND-OR-FILE PACKAGE WHY
need() {
    if [[ $1 == /* ]]; then [[ -e $1 ]] && return; else command -v "$1" >/dev/null && return; fi
    packages+=("$2")
    missing_for_others+=("  $2: $3")
}

export PATH="$HOME/.cargo/bin:/usr/sbin:/sbin:$PATH"
if ! command -v cargo >/dev/null; then
    echo "bramble is built with Rust 1.88 or newer, and there is no cargo here." >&2
    echo "Install Rust with rustup (see the Rust project's install page), then run this again." >&2
    exit 1
fi
need cc gcc "links the binary"
need pkg-config pkg-config "finds libseccomp"
need nft nftables "publishes container ports (without it a slower proxy does)"
need ip iproute2 "shows networks while testing"
need curl curl "the hello line"
pkg-config --exists libseccomp 2>/dev/null || {
    packages+=(libseccomp-dev)
    missing_for_others+=("  libseccomp-dev: compiles the system call filter")
}
# compiler_for TARGET GNU-NAME DEBIAN-NAME: what builds for a machine that is not like this one.
compiler_for() {
    [[ $(uname -m) == "$1"* || ${CROSS_WITH:-debian} != debian ]] && return
    # Not by the name of its program: rustup's and an older one have the same.
    [[ $(dpkg-query -W -f '${db:Status-Abbrev}' rustc-web 2>/dev/null) == ii* ]] || {
        packages+=(rustc-web)
        missing_for_others+=("  rustc-web: Debian's compiler, with a standard library for each architecture")
    }
    need "$2-gcc" "gcc-${2//_/-}" "links for $1"
    need "/usr/$2/lib/libc.a" "libc6-dev-$3-cross" "the C library of $1"
}

case $purpose in
test | bench)
    need busybox busybox-static "test images"
    need python3 python3 "reports"
    need tc iproute2 "slows links down while testing"
    need nsenter util-linux "enters the networks of hosts while testing"
    ;;&
test | image | vm)
    need fsck.vfat dosfstools "checks the file systems of images"
    ;;&
image | vm)
    need mksquashfs squashfs-tools "packs an image's root"
    need grub-mkimage grub-common "an image's boot loader"
    need mke2fs e2fsprogs "an image's data partition"
    need qemu-img qemu-utils "images for virtual machines"
    need xz xz-utils "packs images"
    ;;&
test)
    need docker-registry docker-registry "a registry that is not ours to pull from"
    need skopeo skopeo "images that are not ours, in every format"
    need htpasswd apache2-utils "the registry's users"
    need openssl openssl "the registry's certificates"
    need zstd zstd "packed archives"
    need bzip2 bzip2 "packed archives"
    need xz xz-utils "packed archives"
    need zip zip "packed archives"
    need setpriv util-linux "servers that end with their test"
    need haproxy haproxy "a load balancer fed from the task list"
    need node nodejs "runs a client that is not ours"
    need npm npm "installs a client that is not ours, for the tests alone"
    python3 -m pip --version >/dev/null 2>&1 || {
        packages+=(python3-pip)
        missing_for_others+=("  python3-pip: installs a client that is not ours, for the tests alone")
    }
    ;;
fuzz)
    need c++ g++ "compiles the fuzzer"
    ;;
vm)
    need busybox busybox-static "the guest's userland"
    need qemu-system-x86_64 qemu-system-x86 "boots the guest"
    need /usr/share/ovmf/OVMF.fd ovmf "boots images by UEFI"
    need cpio cpio "packs the guest's initramfs"
    need ssh openssh-client "logs in on a node"
    need /sbin/depmod kmod "finds the guest's modules"
    ;;
cross-aarch64)
    need qemu-aarch64-static qemu-user-static "runs programs of another architecture"
    need qemu-system-aarch64 qemu-system-arm "boots images for ARM"
    need /usr/share/qemu-efi-aarch64/QEMU_EFI.fd qemu-efi-aarch64 "boots ARM images by UEFI"
    compiler_for aarch64 aarch64-linux-gnu arm64
    ;;
cross-armv7)
    need patch patch "mends crates for 32-bit machines"
    need ld.lld lld "links for 32-bit ARM"
    compiler_for armv7 arm-linux-gnueabihf armhf
    ;;
cross-x86_64)
    compiler_for x86_64 x86_64-linux-gnu amd64
    ;;
lab)
    need vagrant vagrant "reads the lab's Vagrantfile"
    need /usr/share/doc/vagrant-libvirt vagrant-libvirt "Vagrant's way to QEMU"
    need /usr/sbin/libvirtd libvirt-daemon-system "runs the lab's machines"
    need virsh libvirt-clients "clears away what a broken run left"
    need dnsmasq dnsmasq-base "gives the lab's machines addresses"
    need qemu-system-x86_64 qemu-system-x86 "runs the lab's machines"
    need qemu-img qemu-utils "the disks of the lab's machines"
    ;;
esac
[[ ${#packages[@]} -eq 0 ]] && exit 0

say() {
    echo "This machine lacks:" >&2
    printf '%s\n' "${missing_for_others[@]}" >&2
}
if ! command -v apt-get >/dev/null; then
    say
    echo "There is no apt-get here: install these with your own package manager." >&2
    exit 1
fi
as_root=()
if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        say
        echo "Run as root: apt-get install -y --no-install-recommends ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "Installing: ${packages[*]}"
"${as_root[@]}" apt-get update -q
# Debian starts the services it installs, and nobody asked for a registry or a load balancer open
# to the network: masked they cannot start, and afterwards they are the owner's to enable.
quiet_services=()
for service in docker-registry haproxy libvirt-daemon-system; do
    if [[ " ${packages[*]} " == *" $service "* && -d /run/systemd/system ]]; then
        case $service in
        # A bridge and rules of its own in this machine's network, for a lab that has its own.
        libvirt-daemon-system) quiet_services+=(libvirtd.service libvirtd.socket) ;;
        *) quiet_services+=("$service.service") ;;
        esac
    fi
done
# Without systemd, this is what Debian's packages ask before they start anything.
policy=/usr/sbin/policy-rc.d
if [[ " ${packages[*]} " == *" libvirt-daemon-system "* && ! -d /run/systemd/system &&
    ! -e $policy ]]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" install -m 755 /dev/stdin "$policy"
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
fi
if [[ ${#quiet_services[@]} -gt 0 ]]; then
    "${as_root[@]}" systemctl mask --quiet "${quiet_services[@]}"
    trap '"${as_root[@]}" systemctl unmask --quiet "${quiet_services[@]}"' EXIT
fi
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends --no-remove "${packages[@]}"
if [[ ${#quiet_services[@]} -gt 0 ]]; then
    "${as_root[@]}" systemctl unmask --quiet "${quiet_services[@]}"
    trap - EXIT
    "${as_root[@]}" systemctl disable --quiet "${quiet_services[@]}"
fi
