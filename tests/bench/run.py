#!/usr/bin/env python3
"""Measure bramble on this machine and print a report with medians. Run by `make bench`.

usage: run.py BINARY [--quick] [--only one|many] [--idle SECONDS]

First one node (`one`), then six (`many`: three masters, three agents). `--quick` is for trying the
measures out, not for numbers. `--idle` is how long six nodes are watched writing nothing to disk.

Everything happens in a network namespace and temporary directories of its own, removed at the end.
Targets are printed beside what was measured; nothing passes or fails here.
"""

import argparse
import hashlib
import http.client
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

# What is measured leaves nothing in the source tree.
sys.dont_write_bytecode = True
import cluster  # noqa: E402

parser = argparse.ArgumentParser(description="Measure bramble on this machine.")
parser.add_argument("binary")
parser.add_argument("--quick", action="store_true")
parser.add_argument("--only", choices=["one", "many"])
parser.add_argument("--idle", type=int, metavar="SECONDS")
OPTIONS = parser.parse_args()
QUICK = OPTIONS.quick
ROUNDS = 5 if QUICK else 20
IDLE_SECONDS = 10 if QUICK else 60


def busybox_image(path):
    """A docker-save archive around /bin/busybox."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    layer = layer.getvalue()
    digest = hashlib.sha256(layer).hexdigest()
    arch = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}[os.uname().machine]
    config = json.dumps({
        "architecture": arch, "os": "linux",
        "config": {"Cmd": ["sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = json.dumps([{
        "Config": f"{name}.json", "RepoTags": ["bench:1"], "Layers": [f"{digest}/layer.tar"],
    }]).encode()
    with tarfile.open(path, "w") as tar:
        for member, content in ((f"{name}.json", config), (f"{digest}/layer.tar", layer),
                                ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


class Node:
    """One `bramble up`."""

    def __init__(self, binary, root):
        self.binary, self.root = binary, root
        self.dirs = ["--data-dir", f"{root}/data", "--run-dir", f"{root}/run"]
        self.cgroup = ["--cgroup-parent", f"/bramble-bench-{os.getpid()}"]
        self.process = None

    def up(self):
        start = time.monotonic()
        self.process = subprocess.Popen(
            [self.binary, "up", "--name", "bench", *self.dirs, *self.cgroup,
             "--resources", "cpus:64;mem:16000;disk:16000;ports:[31000-32000]"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(f"{self.root}/log", "ab"))
        while True:
            try:
                if self.call("GET", "/v2/leader")[0] == 200:
                    return time.monotonic() - start
            except OSError:
                pass
            if self.process.poll() is not None:
                sys.exit(f"bramble up ended:\n{open(self.root + '/log').read()}")
            time.sleep(0.005)

    def kill(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def down(self):
        subprocess.run([self.binary, "down", *self.dirs, *self.cgroup], check=False,
                       stdout=subprocess.DEVNULL)
        if self.process and self.process.poll() is None:
            self.process.wait()

    def call(self, method, path, body=None):
        link = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        try:
            text = None if body is None else json.dumps(body)
            link.request(method, path, text, {"Content-Type": "application/json"})
            answer = link.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None
        finally:
            link.close()

    def must(self, method, path, body=None):
        status, answer = self.call(method, path, body)
        if status >= 300:
            sys.exit(f"{method} {path}: {status} {answer}")
        return answer

    def running(self, app, count):
        while True:
            answer = self.must("GET", f"/v2/apps/{app}/tasks")
            if sum(t["state"] == "TASK_RUNNING" for t in answer["tasks"]) == count:
                return
            time.sleep(0.002)

    def gone(self):
        while self.must("GET", "/v2/tasks")["tasks"] or self.must("GET", "/v2/deployments"):
            time.sleep(0.005)

    def executors(self):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = open(f"/proc/{pid}/cmdline").read().split("\0")
            except OSError:
                continue
            if len(words) > 2 and words[1] == "executor" and words[2].startswith(self.root):
                found.append(int(pid))
        return found


def memory_kb(pid, *fields):
    total = 0
    for line in open(f"/proc/{pid}/smaps_rollup"):
        name, _, rest = line.partition(":")
        if name in fields:
            total += int(rest.split()[0])
    return total


def cpu_ticks(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(") ", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def written_bytes(pid):
    for line in open(f"/proc/{pid}/io"):
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    return 0


def report(rows):
    width = max(len(row[0]) for row in rows)
    print(f"\n{'measure':{width}}  {'measured':>14}  target")
    for name, value, target in rows:
        print(f"{name:{width}}  {value:>14}  {target}")


def measure(node, rows):
    starts = []
    for _ in range(3 if QUICK else 5):
        starts.append(node.up())
        node.kill()
    rows.append(("start to answering API, median", f"{statistics.median(starts):.2f} s", "<= 2 s"))
    node.up()
    time.sleep(3)
    pss = memory_kb(node.process.pid, "Pss") / 1024
    rows.append(("idle memory of bramble up (PSS)", f"{pss:.1f} MB", "<= 20 MB"))

    archive = f"{node.root}/image.tar"
    busybox_image(archive)
    subprocess.run([node.binary, "load", archive, "--run-dir", f"{node.root}/run"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for name, extra in (("local image", {"container": {"type": "DOCKER", "docker": {
            "image": "bench:1", "network": "HOST"}}}), ("command", {"cmd": "sleep 100000"})):
        times = []
        for round_number in range(ROUNDS):
            app = f"r{round_number}"
            body = {"id": app, "cpus": 0.1, "mem": 16, "instances": 1, **extra}
            start = time.monotonic()
            node.must("POST", "/v2/apps", body)
            node.running(app, 1)
            times.append(time.monotonic() - start)
            node.must("DELETE", f"/v2/apps/{app}")
            node.gone()
        rows.append((f"POST to running, {name}, median of {ROUNDS}",
                     f"{statistics.median(times) * 1000:.0f} ms",
                     "<= 120 ms (Swarm 450-620)"))

    node.must("POST", "/v2/apps", {"id": "many", "cmd": "sleep 100000", "cpus": 0.1, "mem": 16,
                                   "instances": 1})
    node.running("many", 1)
    start = time.monotonic()
    node.must("PUT", "/v2/apps/many", {"instances": 100})
    node.running("many", 100)
    rows.append(("scale 1 to 100, all running", f"{time.monotonic() - start:.1f} s",
                 "<= 5 s (Swarm 16.5)"))
    executors = node.executors()
    private = [memory_kb(pid, "Private_Clean", "Private_Dirty") for pid in executors]
    rows.append(("private memory of an executor, median", f"{statistics.median(private)} kB",
                 "<= 500 kB (containerd-shim 2400-5800)"))
    pss = memory_kb(node.process.pid, "Pss") / 1024
    rows.append(("memory of bramble up with 100 tasks (PSS)", f"{pss:.1f} MB", ""))
    start = time.monotonic()
    node.must("DELETE", "/v2/apps/many")
    node.gone()
    rows.append(("remove 100", f"{time.monotonic() - start:.1f} s", "<= 2 s (Swarm 3.9)"))

    five_hundred_starts(node, rows)
    thousand_apps(node, rows)

    for number in range(10):
        node.must("POST", "/v2/apps", {"id": f"idle{number}", "cmd": "sleep 100000",
                                       "cpus": 0.1, "mem": 16, "instances": 1})
    for number in range(10):
        node.running(f"idle{number}", 1)
    time.sleep(3)
    pids = [node.process.pid, *node.executors()]
    ticks, written = sum(map(cpu_ticks, pids)), written_bytes(node.process.pid)
    time.sleep(IDLE_SECONDS)
    hertz = os.sysconf("SC_CLK_TCK")
    used = (sum(map(cpu_ticks, pids)) - ticks) / hertz / IDLE_SECONDS * 100
    rows.append((f"idle CPU, 10 sleeping apps, {IDLE_SECONDS} s", f"{used:.2f} %",
                 "<= 0.3 % of a core"))
    rows.append((f"idle writes, {IDLE_SECONDS} s",
                 f"{written_bytes(node.process.pid) - written} B", "none"))


def five_hundred_starts(node, rows):
    """One app, all its tasks at once."""
    count = 50 if QUICK else 500
    start = time.monotonic()
    node.must("POST", "/v2/apps", {"id": "crowd", "cmd": "sleep 100000", "cpus": 0.01, "mem": 16,
                                   "instances": count})
    node.running("crowd", count)
    rate = count / (time.monotonic() - start)
    rows.append((f"{count} starts on one machine", f"{rate:.0f} tasks/s",
                 ">= 25 tasks/s (Marathon 0.15 on 189 nodes 35)"))
    node.must("DELETE", "/v2/apps/crowd")
    node.gone()


def thousand_apps(node, rows):
    """Apps that find no place: only what the master does with them is measured."""
    apps = [{"id": f"a{n}", "cmd": "sleep 1000", "cpus": 10000} for n in range(1000)]
    start = time.monotonic()
    node.must("PUT", "/v2/groups/thousand", {"apps": apps})
    rows.append(("PUT of a group with 1000 apps", f"{(time.monotonic() - start) * 1000:.0f} ms",
                 "<= 1000 ms"))
    while len(node.must("GET", "/v2/queue")["queue"]) < 1000:
        time.sleep(0.05)
    times = []
    for _ in range(ROUNDS):
        start = time.monotonic()
        node.must("GET", "/v2/apps")
        times.append(time.monotonic() - start)
    rows.append((f"GET /v2/apps with 1000 apps, median of {ROUNDS}",
                 f"{statistics.median(times) * 1000:.0f} ms", "<= 50 ms"))
    node.must("DELETE", "/v2/groups/thousand?force=true")
    node.gone()


def main():
    binary = os.path.abspath(OPTIONS.binary)
    if os.environ.get("BRAMBLE_BENCH_INSIDE") != "1":
        os.environ["BRAMBLE_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    rows = [("binary", f"{os.path.getsize(binary) / 1e6:.1f} MB", "<= 16 MB (Docker 191)")]
    try:
        if OPTIONS.only != "many":
            on_one_node(binary, rows)
        if OPTIONS.only != "one":
            on_many_nodes(binary, rows)
    finally:
        report(rows)


def on_one_node(binary, rows):
    root = tempfile.mkdtemp(prefix="bramble-bench-")
    node = Node(binary, root)
    try:
        measure(node, rows)
    finally:
        node.down()
        shutil.rmtree(root, ignore_errors=True)


def on_many_nodes(binary, rows):
    root = tempfile.mkdtemp(prefix="bramble-bench-")
    try:
        # Ten minutes unless told otherwise: an hourly or minutely write must not hide between.
        idle = OPTIONS.idle or (20 if QUICK else 600)
        cluster.measure(binary, root, rows, QUICK, idle)
    finally:
        shutil.rmtree(root, ignore_errors=True)


main()
