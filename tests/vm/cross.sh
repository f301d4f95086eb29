#!/usr/bin/env bash
# Build for ARM with Debian's packages and run what can be run of it here, under qemu-user: the
# unit tests of the crates that need no kernel of their own.
#
#   tests/vm/cross.sh [node]     with `node`: and one node that answers its API
#
# TARGET=armv7 is for 32-bit ARM; without, aarch64.
#
# qemu-user translates system calls, it is no machine: clone3 with namespaces, seccomp filters and
# most of netlink are not there, so that no container runs. What needs those is tested for
# x86-64 only.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
profile=cross-check
cpu=${TARGET:-aarch64}
declare -A emulators=([aarch64]=qemu-aarch64-static [armv7]=qemu-arm-static)
qemu=${emulators[$cpu]:?TARGET is aarch64 or armv7}
work=$target/vm/cross/$cpu
cgroup=/bramble-emulated-$$
as_root=()
[[ $(id -u) -eq 0 ]] || as_root=(sudo)
# Tests that need nothing which qemu lacks; there are more.
tests_min=150
# For each of the waits below; a node is up in seconds.
seconds_max=120

fail() {
    echo "tests/vm/cross: $*" >&2
    exit 1
}

unit_tests() {
    # shellcheck source=cross/toolchain.sh
    source cross/toolchain.sh
    toolchain "$cpu"
    local upper=${triple^^}
    export "CARGO_TARGET_${upper//-/_}_RUNNER=$qemu"
    mkdir -p "$work"
    local log=$work/tests.log
    "${cargo[@]}" test --locked --profile "$profile" --target "$triple" ${JOBS:+-j "$JOBS"} \
        ${sources[@]+"${sources[@]}"} --lib --no-fail-fast --features bramble-protocol/net \
        -p bramble-core -p bramble-protocol -p bramble-image-tools 2>&1 | tee "$log" ||
        excuse_missing_calls "$log"
    local passed
    passed=$(sed -n 's/^test result: .* \([0-9]*\) passed.*/\1/p' "$log" | awk "{ sum += \$1 } END { print sum + 0 }")
    # Fewer would mean that something else kept them from running.
    [[ $passed -ge $tests_min ]] || fail "only $passed tests passed; see $log"
    tests="$passed passed"
}

# Tests may fail of a system call that this qemu does not know (openat2, by which every path of an
# archive is resolved), and of nothing else. Six do not show what they failed of: two expect
# another error, one is not told that a program could not be started, three hear no multicast.
excused=(
    init::service::tests::what_is_not_there_is_trouble
    oci::unpack::tests::bombs_and_full_disks_are_named
    oci::store::tests::concurrent_loads_share_layers_and_failures_take_none_away
    net::discovery::tests::an_announced_node_is_found_without_loopback_and_skipped_interfaces
    net::discovery::tests::candidates_are_heard_until_they_go_and_are_no_nodes
    net::discovery::tests::who_listens_on_ipv4_alone_is_found_there_and_finds_nothing_else
)
excuse_missing_calls() {
    local log=$1 name missing=0
    # What cargo itself says of an error that is no test's.
    grep -q '^test result: FAILED' "$log" || fail "the tests were not built; see $log"
    while read -r name; do
        missing=$((missing + 1))
        [[ " ${excused[*]} " != *" $name "* ]] || continue
        awk -v head="---- $name stdout ----" '
            $0 == head { inside = 1; next }
            /^---- .* stdout ----$/ { inside = 0 }
            inside && /Function not implemented/ { found = 1 }
            END { exit !found }' "$log" || fail "$name failed; see $log"
    done < <(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$log")
    echo "tests/vm/cross: $missing tests need what $qemu does not have; for this machine's own" \
        "architecture make test runs them" >&2
}

api() {
    "${as_root[@]}" curl -sS -m 10 --unix-socket "$work/run/bramble.sock" "$@"
}

# Wait until the program after the words succeeds.
until_seen() {
    local what=$1 waited
    shift
    for ((waited = 0; waited < seconds_max * 5; waited++)); do
        "$@" >/dev/null 2>&1 && return
        kill -0 "$node" 2>/dev/null || fail "the node ended before $what; see $work/log"
        sleep 0.2
    done
    fail "no $what within $seconds_max s; see $work/log"
}

# However this ends, nothing stays: no process, no cgroup.
leave() {
    "${as_root[@]}" kill -KILL "$node" 2>/dev/null || true
    wait "$node" 2>/dev/null || true
    "${as_root[@]}" find /sys/fs/cgroup -depth -type d -path "*$cgroup*" -exec rmdir {} + 2>/dev/null ||
        true
}

leads() { api -f http://localhost/v2/leader; }
known() { api http://localhost/v1/bramble/status | grep -q '"agents":\[{'; }

one_node() {
    local bramble=$1 app reason
    "${as_root[@]}" rm -rf "$work/data" "$work/run"
    # In a network of its own: nothing of it may meet another node, nor stay.
    "${as_root[@]}" setpriv --pdeathsig KILL unshare --net --mount -- \
        sh -c 'ip link set lo up; exec "$@"' node \
        "$qemu" "$bramble" up --data-dir "$work/data" --run-dir "$work/run" --name emulated \
        --cgroup-parent "$cgroup" > "$work/log" 2>&1 &
    node=$!
    trap leave EXIT
    until_seen "a leader" leads
    until_seen "an agent" known
    api http://localhost/ping | grep -q pong || fail "no pong"
    app='{"id":"hello","cmd":"sleep 1000","cpus":0.1,"mem":16,"instances":0}'
    api -f -H 'Content-Type: application/json' -d "$app" http://localhost/v2/apps > "$work/app" ||
        fail "the app was refused: $(api -d "$app" http://localhost/v2/apps)"
    api -f http://localhost/v2/apps//hello | grep -q '"cmd":"sleep 1000"' || fail "the app is not there"
    "${as_root[@]}" kill -TERM "$node"
    wait "$node" || fail "the node ended with $?; see $work/log"
    [[ ! -e $work/run/bramble.sock ]] || fail "the node left its socket"
}

main() {
    local begun=$SECONDS bramble
    unit_tests
    echo "$cpu: $tests, in $((SECONDS - begun)) s"
    [[ ${1:-} == node ]] || return 0
    begun=$SECONDS
    bramble=$(cross/build.sh "$cpu" "$profile" | tail -n 1)
    one_node "$bramble"
    echo "$cpu: a node was built, answered and stopped in $((SECONDS - begun)) s"
}

[[ $(uname -m) != "$cpu" ]] || { echo "this machine is $cpu itself: make test says more" && exit; }
main "$@"
