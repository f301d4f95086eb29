#!/usr/bin/env bash
# Boot a guest that has cgroup v2 only (QEMU without KVM, the distribution's own kernel) and run
# the container tests inside it: the scenarios over the real binary and the agent's own suite,
# the very files that were built for this machine. Needs no root, no network in the guest and no
# disk image; the guest powers itself off.
#
#   tests/vm/run.sh [FILTER]     with a filter: only the scenarios whose names contain it
set -euo pipefail
cd "$(dirname "$0")/../.."
filter=${1:-}
target=${CARGO_TARGET_DIR:-target}
work=$target/vm
root=$work/root
log=$work/console.log
# A guest on two busy cores needs about two minutes; one that hangs is given up here.
seconds_max=900
mkdir -p "$work"

fail() {
    echo "tests/vm: $*" >&2
    exit 1
}

# Name the newest kernel's package: a meta package depends on it.
newest_kernel() {
    local meta package
    # Debian's and Ubuntu's small kernels for virtual machines, then any.
    for meta in linux-image-cloud-amd64 linux-image-virtual linux-image-amd64; do
        package=$(apt-cache depends "$meta" 2>/dev/null |
            awk '/Depends: linux-image-[0-9]/ {print $2; exit}')
        [[ -z $package ]] || { echo "$package" && return; }
    done
}

refresh_package_lists() {
    local as_root=()
    [[ $(id -u) -eq 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update -q
}

# Download a kernel and, where they come apart (Ubuntu), its modules.
download_kernel() {
    local image=$1 modules=${1/linux-image-/linux-modules-}
    (cd "$work/kernel" && apt-get download -q "$image") || return
    if apt-cache show "$modules" >/dev/null 2>&1; then
        (cd "$work/kernel" && apt-get download -q "$modules") || return
    fi
}

kernel() {
    [[ -e $work/vmlinuz ]] && return
    local image version package
    image=$(newest_kernel)
    if [[ -z $image ]]; then
        refresh_package_lists
        image=$(newest_kernel)
    fi
    [[ -n $image ]] || fail "apt knows no kernel package for x86-64"
    rm -rf "$work/kernel" && mkdir -p "$work/kernel/tree"
    # Lists that name a kernel which was replaced since are the usual reason for a failure.
    if ! download_kernel "$image"; then
        refresh_package_lists
        image=$(newest_kernel)
        download_kernel "$image" || fail "$image could not be downloaded"
    fi
    for package in "$work"/kernel/*.deb; do
        dpkg-deb -x "$package" "$work/kernel/tree"
    done
    version=$(ls "$work/kernel/tree/lib/modules")
    /sbin/depmod -b "$work/kernel/tree" "$version"
    echo "$version" > "$work/version"
    # Last and at once: its presence says that all the rest is there.
    install -m 644 "$work/kernel/tree/boot/vmlinuz-$version" "$work/vmlinuz.new"
    mv "$work/vmlinuz.new" "$work/vmlinuz"
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

# Add a kernel module and what it depends on to the list of modules, in order of loading.
module() {
    local version=$1 name=$2 path inside
    /sbin/modprobe -d "$work/kernel/tree" -S "$version" --show-depends "$name" 2>/dev/null |
        awk '$1 == "insmod" {print $2}' | while read -r path; do
        inside=/lib/modules/$version/${path#*"/lib/modules/$version/"}
        [[ -e $root$inside ]] || install -D "$path" "$root$inside"
        grep -qxF "$inside" "$root/modules" 2>/dev/null || echo "$inside" >> "$root/modules"
    done
}

# Path of a test's executable in cargo's words.
executable() {
    sed -n "s/.*Executable.*(\(.*\/$1-[0-9a-f]*\)).*/\1/p" <<< "$listing"
}

build() {
    cargo build --locked -p bramble
    listing=$(cargo test --locked --no-run -p bramble-tests --test scenarios \
        -p bramble-agent --test containers 2>&1) || fail "$listing"
    local name
    for name in scenarios containers; do
        [[ -x $(executable "$name") ]] || fail "cargo built no test $name: $listing"
        strip -o "$work/$name" "$(executable "$name")"
    done
    strip -o "$work/bramble" "$target/debug/bramble"
}

tree() {
    local version=$1 applet tool name
    rm -rf "$root"
    mkdir -p "$root"/{proc,sys,dev,tmp,run,etc,root,new,usr/bin,usr/sbin,sbin,var/lib}
    install -D -m 755 /bin/busybox "$root/bin/busybox"
    for applet in $(/bin/busybox --list); do
        [[ -e $root/bin/$applet ]] || ln -s busybox "$root/bin/$applet"
    done
    for name in bramble scenarios containers; do
        program "$work/$name" "/opt/$name"
    done
    for tool in curl nft ip nsenter sha256sum; do
        rm -f "$root/bin/$tool"
        program "$(command -v "$tool" || echo "/usr/sbin/$tool")" "/usr/bin/$tool"
    done
    # Unlike busybox's, kmod's loads compressed modules.
    rm -f "$root/bin/insmod"
    program /sbin/insmod /usr/bin/insmod
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
    (cd "$root" && find . -print0 | cpio --null -o -H newc --quiet --owner=+0:+0) |
        gzip -1 > "$work/initramfs.gz"
}

# Run the machine until it is off, its console on our output.
boot() {
    local machine watched=0
    : > "$log"
    # Both die with this script, however that ends.
    setpriv --pdeathsig KILL qemu-system-x86_64 \
        -machine q35 -accel tcg,thread=single -cpu max -smp 2 -m 1536 -nographic -no-reboot -nic none \
        -kernel "$work/vmlinuz" -initrd "$work/initramfs.gz" \
        -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all random.trust_cpu=on" \
        < /dev/null > "$log" 2>&1 &
    machine=$!
    setpriv --pdeathsig TERM timeout "$seconds_max" tail --pid="$machine" -n +1 -f "$log" |
        tr -d '\r' || watched=$?
    if [[ $watched -ne 0 ]]; then
        kill -KILL "$machine" 2>/dev/null || true
        wait "$machine" 2>/dev/null || true
        fail "the guest was not done after $seconds_max s; see $log"
    fi
    wait "$machine" || fail "QEMU ended with $?; see $log"
}

# A guest that ran nothing, or not all, proves nothing.
judge() {
    local console result ran
    console=$(tr -d '\r' < "$log")
    result=$(sed -n 's/^GUEST-RESULT: //p' <<< "$console" | tail -n 1)
    [[ -n $result ]] || fail "the guest ended before its tests did; see $log"
    [[ $result == 0 ]] || fail "tests failed in the guest; see $log"
    grep -Eq '^test result: ok\. [1-9][0-9]* passed' <<< "$console" ||
        fail "no scenario ran in the guest${filter:+ (filter $filter)}"
    ran=$(grep -Ec '^test .* \.\.\. ok' <<< "$console")
    if [[ -z $filter ]]; then
        grep -Eq '^test [a-z_]+ \.\.\. ok \(' <<< "$console" ||
            fail "the agent's container tests did not run in the guest"
    fi
    echo "cgroup v2: $ran tests passed in the guest"
}

[[ $(uname -m) == x86_64 ]] ||
    fail "the guest runs this machine's binaries under an x86-64 kernel; this is $(uname -m)"
kernel
build
tree "$(cat "$work/version")"
echo "booting Linux $(cat "$work/version") with cgroup v2 only"
boot
judge
