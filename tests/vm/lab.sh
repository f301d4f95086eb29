#!/usr/bin/env bash
# Run a small lab under plain QEMU (bramble-image lab): two machines, a third while they run, apps
# by curl, an interruption, and that nothing is left, however it ends.
#
#   tests/vm/lab.sh [IMAGE]      an x86 image; without: the one tests/vm/images.sh made
#
# Programs: bramble-image as built here, or BRAMBLE_IMAGE=FILE; bramble, which makes the lab's keys,
# or BRAMBLE=FILE. BRAMBLE_LAB_ACCEL=tcg|kvm|auto: tcg without, which works everywhere.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
image=${1:-$target/images/x86.img}
tool=${BRAMBLE_IMAGE:-$target/debug/bramble-image}
export BRAMBLE=${BRAMBLE:-$target/debug/bramble}
export BRAMBLE_LAB_ACCEL=${BRAMBLE_LAB_ACCEL:-tcg}
# Emulated machines on two busy cores.
up_seconds_max=420
app_seconds_max=120
work=$(mktemp -d)
lab=$work/lab
api=http://192.168.157.11:8080

fail() {
    echo "tests/vm/lab: $*" >&2
    exit 1
}

cleanup() {
    local code=$?
    if [[ $code -ne 0 ]]; then
        tail -n 20 "$lab"/machines/*/console.log 2>/dev/null || true
    fi
    [[ ! -e $lab ]] ||
        "$tool" lab destroy --config "$work/machines.yaml" --dir "$lab" || true
    rm -rf "$work"
    exit "$code"
}

# Machines get a network of their own.
[[ $(id -u) -eq 0 ]] || exec sudo \
    --preserve-env=PATH,CARGO_TARGET_DIR,BRAMBLE,BRAMBLE_IMAGE,BRAMBLE_LAB_ACCEL tests/vm/lab.sh "$@"
for file in "$image" "$tool" "$BRAMBLE"; do
    [[ -e $file ]] || fail "$file is not there; see the head of this script"
done
trap cleanup EXIT
trap 'exit 130' INT TERM
cat > "$work/machines.yaml" <<'YAML'
m1: {ip: 192.168.157.11, type: master}
a1: {ip: 192.168.157.21, memory: 384, memory-reserved: 96, type: agent-private}
p1: {ip: 192.168.157.31, type: agent-public, aliases: [shop.acme.test]}
x1: {memory: 192}
YAML

lab() {
    local verb=$1
    shift
    "$tool" lab "$verb" --config "$work/machines.yaml" --dir "$lab" "$@"
}

up() {
    timeout $((up_seconds_max + 60)) "$tool" lab up --config "$work/machines.yaml" --dir "$lab" \
        --wait "$up_seconds_max" "$@"
}

# What of the lab is on this machine, besides its files.
left() {
    ip netns list | grep -o 'bramble-lab-[0-9a-f]*' || true
    ip -o link show type veth | grep -o 'blab-[0-9a-f]*' || true
    pgrep -f -- "-pidfile $lab/" || true
}

deploy() {
    curl -sf -m 30 -o /dev/null -H 'Content-Type: application/json' -d "$1" "$api/v2/apps" ||
        fail "m1 did not take $1"
}

# Wait until an app's task runs on a machine.
runs_on() {
    local app=$1 host=$2 began=$SECONDS
    until curl -sf -m 10 "$api/v2/apps/$app/tasks" -H 'Accept: application/json' |
        python3 -c 'import json, sys
tasks = json.load(sys.stdin)["tasks"]
sys.exit(not any(t["host"] == sys.argv[1] and t["state"] == "TASK_RUNNING" for t in tasks))' "$host"; do
        [[ $((SECONDS - began)) -lt $app_seconds_max ]] || fail "$app does not run on $host"
        sleep 1
    done
    echo "lab: $app runs on $host after $((SECONDS - began)) s"
}

before=$(left)
# An order that cannot be meant makes nothing.
if said=$(lab up m9 --image "$image" 2>&1); then fail "a machine that is not there was started"; fi
[[ $said == *"there is no machine m9"*"m1, a1, p1, x1"* ]] || fail "an unknown machine says: $said"
[[ ! -e $lab ]] || fail "an order that cannot be meant left files"

# Interrupted while machines start, nothing of it stays.
# The program itself, no shell in between that would be interrupted in its place.
"$tool" lab up x1 m1 --config "$work/machines.yaml" --dir "$lab" --image "$image" \
    > "$work/interrupted" 2>&1 &
interrupted=$!
began=$SECONDS
until grep -qs started "$work/interrupted"; do
    [[ $((SECONDS - began)) -lt 60 ]] || fail "no machine starts: $(cat "$work/interrupted")"
    sleep 0.2
done
kill -INT "$interrupted"
if wait "$interrupted"; then fail "an interrupted start says that all is well"; fi
[[ ! -e $lab && $(left) == "$before" ]] ||
    fail "an interrupted start left: $(left) $(ls -A "$lab" 2>/dev/null)"

# The agent first: it has to look for a cluster.
lab up a1 --image "$image" --wait 0
up m1
deploy '{"id": "hello", "cmd": "sleep 1000", "mem": 16, "cpus": 0.1}'
runs_on hello a1
up p1
deploy '{"id": "shop", "cmd": "sleep 1000", "mem": 16, "cpus": 0.1,
    "acceptedResourceRoles": ["slave_public"]}'
runs_on shop p1
offered=$(curl -sf -m 10 "$api/v1/bramble/agents" | python3 -c 'import json, sys
print([int(a["total"]["mem"]) for a in json.load(sys.stdin) if a["name"] == "a1"][0])')
[[ $offered -eq 288 ]] || fail "a1 offers $offered MiB and not 288"
status=$(lab status)
echo "$status"
[[ $(grep -c 'running.*answers, led by m1' <<< "$status") -eq 3 && $status == *"not created"* ]] ||
    fail "the status is not that of three machines that answer"
lab destroy a1
if lab status | grep -q 'a1.*running'; then fail "a1 was removed and runs"; fi
lab destroy
[[ ! -e $lab && $(left) == "$before" ]] || fail "a lab that was removed left: $(left)"
echo "lab: three machines came, worked and went"
