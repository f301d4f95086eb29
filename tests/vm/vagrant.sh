#!/usr/bin/env bash
# Check the Vagrant lab (tests/lab): what its files say, that Vagrant accepts them for libvirt and
# for VirtualBox, and, where there is a box, that two machines of it come up with libvirt and are
# one cluster.
#
#   tests/vm/vagrant.sh              all but machines
#   tests/vm/vagrant.sh BOX.box      and two machines, in a network of their own (root)
set -euo pipefail
cd "$(dirname "$0")/../.."
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
work=$target/vagrant
lab=$PWD/tests/lab
# An emulated machine on two busy cores, with grub in front.
up_seconds_max=240
mkdir -p "$work"

# Nothing of the user's is used or changed, and nobody is asked for news.
export VAGRANT_HOME=$work/home VAGRANT_DOTFILE_PATH=$work/dot VAGRANT_CHECKPOINT_DISABLE=1
export VAGRANT_CWD=$lab VAGRANT_DEFAULT_PROVIDER=libvirt
export BRAMBLE=${BRAMBLE:-$target/debug/bramble}

fail() {
    echo "tests/vm/vagrant: $*" >&2
    exit 1
}

files() {
    [[ -x $BRAMBLE ]] || fail "$BRAMBLE is not there: build it, or name it with BRAMBLE=FILE"
    ruby "$lab/lab_test.rb"
}

# A file that lets Vagrant believe in a program, as far as reading settings goes.
virtualbox_if_missing() {
    command -v VBoxManage >/dev/null && return
    mkdir -p "$work/bin"
    printf '#!/bin/sh\necho 7.0.20r163906\n' > "$work/bin/VBoxManage"
    chmod 755 "$work/bin/VBoxManage"
    PATH=$PATH:$work/bin
}

settings() {
    local provider said
    for provider in libvirt virtualbox; do
        (
            virtualbox_if_missing
            VAGRANT_DEFAULT_PROVIDER=$provider vagrant validate >/dev/null
        ) || fail "the Vagrantfile is not valid for $provider"
    done
    # Machines that nobody has described further are machines.
    printf 'm1: {}\nx: {type: agent-public}\nboot: {type: boot}\n' > "$work/few.yaml"
    VAGRANT_CONFIG=$work/few.yaml vagrant validate >/dev/null
    said=$(VAGRANT_CONFIG=$work/few.yaml vagrant status --machine-readable | cut -d, -f2 | sort -u)
    [[ $(xargs <<< "$said") == "m1 x" ]] || fail "machines of few.yaml: $said"
    printf 'm1: {memroy: 512}\n' > "$work/wrong.yaml"
    if said=$(VAGRANT_CONFIG=$work/wrong.yaml vagrant validate 2>&1); then
        fail "a wrong key passed"
    fi
    [[ $said == *"unknown key memroy"*"memory-reserved"* ]] || fail "a wrong key says: $said"
    echo "vagrant: the lab is valid for libvirt and virtualbox"
}

# From here on: in a network, with mounts and processes of our own, which end with this script.
# Where what differs from a machine with libvirt lies, there is nothing of its own before.
private() {
    local directory
    ip link set lo up
    for directory in /run/libvirt /var/lib/libvirt /var/cache/libvirt /etc/libvirt /var/log/libvirt; do
        mkdir -p "$directory" "$work/own$directory"
        mount --bind "$work/own$directory" "$directory"
    done
    mkdir -p /etc/libvirt/qemu/networks /var/lib/libvirt/{images,qemu,dnsmasq}
    cat > /etc/libvirt/qemu.conf <<'CONF'
user = "root"
group = "root"
dynamic_ownership = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = []
namespaces = []
CONF
    printf 'auth_unix_rw = "none"\nunix_sock_group = "root"\n' > /etc/libvirt/libvirtd.conf
    libvirtd --config /etc/libvirt/libvirtd.conf > "$work/libvirtd.log" 2>&1 &
    timeout 30 sh -c 'until virsh -c qemu:///system list >/dev/null 2>&1; do sleep 0.2; done' ||
        fail "libvirtd does not answer; see $work/libvirtd.log"
}

# A master is told; agents are in its list. TCG takes its time.
up() {
    local api=http://192.168.57.90:8080 began machine
    vagrant --no-tty box add --force --name bramble "$1"
    began=$SECONDS
    # An agent first: it has to wait for who founds. A machine without an address is waited for by
    # Vagrant for many minutes.
    for machine in a1 m1; do
        timeout "$up_seconds_max" vagrant --no-tty up "$machine" ||
            fail "$machine did not come up within $up_seconds_max s"
    done
    echo "vagrant: two machines started after $((SECONDS - began)) s"
    timeout 240 sh -c "until curl -sf -m 5 $api/v1/bramble/agents | grep -q '\"a1\"'; do sleep 1; done" ||
        fail "m1 does not know a1 after $((SECONDS - began)) s; see $work"
    echo "vagrant: m1 and a1 are one cluster after $((SECONDS - began)) s"
    curl -sf -m 5 "$api/v1/bramble/agents"
    echo
    vagrant --no-tty destroy -f
}

case ${1:-} in
--inside)
    private
    up "$2"
    ;;
*)
    files
    settings
    [[ -n ${1:-} ]] || exit 0
    [[ $(id -u) -eq 0 ]] || fail "machines need root here: they get a network of their own"
    box=$(realpath "$1")
    rm -rf "$work/own" "$work/dot" "$work/home"
    # KVM that opens and then hangs is found on rented machines.
    export BRAMBLE_LAB_ACCEL=${BRAMBLE_LAB_ACCEL:-tcg}
    exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" --inside "$box"
    ;;
esac
