#!/usr/bin/env bash
# Boot a pure cgroup v2 guest (QEMU without KVM, Debian's cloud kernel) and run the container
# scenarios of the test suite inside it, with the same binaries as on this machine.
#
#   tests/vm/run.sh [FILTER]     default filter: containers::
set -euo pipefail
cd "$(dirname "$0")/../.."
filter=${1:-containers::}
work=${CARGO_TARGET_DIR:-target}/vm
root=$work/root
seconds_max=900
mkdir -p "$work"

kernel() {
    [[ -e $work/vmlinuz ]] && return
    local package
    package=$(apt-cache depends linux-image-cloud-amd64 |
        awk '/Depends: linux-image/ {print $2; exit}')
    [[ -n $package ]] || {
        apt-get update -q
        package=$(apt-cache depends linux-image-cloud-amd64 |
            awk '/Depends: linux-image/ {print $2; exit}')
    }
    rm -rf "$work/kernel" && mkdir -p "$work/kernel/tree"
    # apt warns that it cannot drop root here; the package is verified all the same.
    (cd "$work/kernel" && apt-get download -q "$package" 2>/dev/null)
    dpkg-deb -x "$work"/kernel/*.deb "$work/kernel/tree"
    local version
    version=$(ls "$work/kernel/tree/lib/modules")
    /sbin/depmod -b "$work/kernel/tree" "$version"
    echo "$version" > "$work/version"
    cp "$work/kernel/tree/boot/vmlinuz-$version" "$work/vmlinuz"
}

# Copy a program with the libraries it is linked to.
program() {
    local source destination=$root$2 library
    source=$(readlink -f "$1")
    install -D -m 755 "$source" "$destination"
    { ldd "$source" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r library; do
        [[ -e $root$library ]] || install -D -m 755 "$(readlink -f "$library")" "$root$library"
    done
}

module() {
    local version=$1 name=$2 path
    /sbin/modprobe -d "$work/kernel/tree" -S "$version" --show-depends "$name" 2>/dev/null |
        awk '$1 == "insmod" {print $2}' | while read -r path; do
        local inside=/lib/modules/$version/${path#*"/lib/modules/$version/"}
        [[ -e $root$inside ]] || install -D "$path" "$root$inside"
        grep -qxF "$inside" "$root/modules" 2>/dev/null || echo "$inside" >> "$root/modules"
    done
}

tree() {
    local version=$1 scenarios=$2 bramble=$3 applet
    rm -rf "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,root,new,usr/bin,usr/sbin,sbin,var/lib}
    install -D -m 755 /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
    done
    program "$bramble" /opt/bramble
    program "$scenarios" /opt/scenarios
    for tool in curl nft ip nsenter sha256sum; do
        rm -f "$root/bin/$tool"
        program "$(command -v $tool || echo /usr/sbin/$tool)" "/usr/bin/$tool"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' \
        > "$root/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' > "$root/etc/group"
    printf '127.0.0.1 localhost\n' > "$root/etc/hosts"
    for name in overlay veth bridge nf_tables nft_chain_nat nft_nat nft_masq nft_ct nft_fib_inet \
        nft_reject_inet af_packet; do
        module "$version" "$name"
    done
    install -m 755 tests/vm/init "$root/init"
    printf '%s\n' "$filter" > "$root/filter"
}

kernel
version=$(cat "$work/version")
bramble=${CARGO_TARGET_DIR:-target}/debug/bramble
listing=$(cargo test --locked --no-run -p bramble-tests --test scenarios 2>&1) || {
    echo "$listing" >&2
    exit 1
}
scenarios=$(sed -n 's/.*Executable.*(\(.*scenarios-[0-9a-f]*\)).*/\1/p' <<< "$listing")
strip -o "$work/bramble" "$bramble"
strip -o "$work/scenarios" "$scenarios"
tree "$version" "$work/scenarios" "$work/bramble"
(cd "$root" && find . -print0 | cpio --null -o -H newc --quiet) | gzip -1 > "$work/initramfs.gz"

echo "booting Debian's kernel $version with cgroup v2 only"
log=$work/console.log
timeout --foreground "$seconds_max" qemu-system-x86_64 \
    -machine q35,accel=tcg -cpu max -smp 2 -m 1536 -nographic -no-reboot -nic none \
    -kernel "$work/vmlinuz" -initrd "$work/initramfs.gz" \
    -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all random.trust_cpu=on" \
    < /dev/null | tr -d '\r' | tee "$log" || true
result=$(sed -n 's/^GUEST-RESULT: //p' "$log" | tail -n 1)
if [[ $result != 0 ]]; then
    echo "the guest's tests failed (${result:-no result within $seconds_max s}); see $log" >&2
    exit 1
fi
# The guest must have run something: a filter that matches nothing proves nothing.
grep -Eq 'test result: ok\. [1-9][0-9]* passed' "$log" || {
    echo "no test ran in the guest" >&2
    exit 1
}
