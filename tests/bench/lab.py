"""Hosts on a bridge for the measurements: each a network namespace with a bramble of its own.

The process that uses it must be in a network namespace of its own already: the bridge is made
there, so that measuring reaches every host and nothing else.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import time

NETWORK = "10.78.0"
PATIENCE_S = 60


def run(*words):
    subprocess.run(words, check=True)


def cgroup_directories(parent):
    """Every directory of a cgroup parent in every hierarchy, deepest first."""
    for line in open("/proc/self/mounts"):
        _, point, kind, *_ = line.split(" ")
        if kind.startswith("cgroup"):
            for directory, _, _ in os.walk(point + parent, topdown=False):
                yield directory


class Host:
    """A machine with one bramble, started by `verb`."""

    def __init__(self, binary, root, number, verb, log):
        self.binary, self.number, self.verb = binary, number, verb
        self.name = f"n{number}"
        self.root = f"{root}/{self.name}"
        self.log = log
        os.makedirs(self.root)
        self.address = f"{NETWORK}.{number}"
        self.cgroup = f"/bramble-bench-{os.getpid()}-{number}"
        self.dirs = ["--data-dir", f"{self.root}/data", "--run-dir", f"{self.root}/run"]
        self.process = None
        self.boot()

    def boot(self):
        self.anchor = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.anchor.pid}/ns/net") == own:
            time.sleep(0.002)
        port = f"p{self.number}"
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0",
            "netns", str(self.anchor.pid))
        run("ip", "link", "set", port, "master", "br0", "up")
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "addr", "add", f"{self.address}/24", "brd", "+", "dev", "eth0")
        self.inside("ip", "link", "set", "eth0", "up")

    def enter(self):
        return ["nsenter", f"--net=/proc/{self.anchor.pid}/ns/net"]

    def inside(self, *words):
        run(*self.enter(), *words)

    def start(self, *extra):
        self.process = subprocess.Popen(
            [*self.enter(), self.binary, self.verb, "--name", self.name, *self.dirs,
             "--cgroup-parent", self.cgroup, *extra],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.log, "ab"))

    def verb_output(self, *words):
        """What a client verb prints on this host; empty when it fails."""
        done = subprocess.run([*self.enter(), self.binary, *words, "--run-dir", f"{self.root}/run"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
        return done.stdout.decode().strip() if done.returncode == 0 else ""

    def kill(self):
        """End bramble alone, without a word."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def power_off(self):
        """End everything on the host; not even a goodbye leaves it."""
        run("ip", "link", "set", f"p{self.number}", "down")
        if self.process:
            self.kill()
        self.end_tasks()
        self.anchor.kill()
        self.anchor.wait()
        shutil.rmtree(f"{self.root}/run", ignore_errors=True)

    def end_tasks(self):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and (pids := self.task_pids()):
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        for directory in cgroup_directories(self.cgroup):
            try:
                os.rmdir(directory)
            except OSError:
                pass

    def task_pids(self):
        found = set()
        for directory in cgroup_directories(self.cgroup):
            try:
                found.update(map(int, open(f"{directory}/cgroup.procs")))
            except OSError:
                pass
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                words = open(f"/proc/{pid}/cmdline").read().split("\0")
            except OSError:
                continue
            if len(words) > 2 and words[1] == "executor" and words[2].startswith(self.root + "/"):
                found.add(int(pid))
        return found

    def call(self, method, path, body=None, timeout=10):
        link = http.client.HTTPConnection(self.address, 8080, timeout=timeout)
        try:
            text = None if body is None else json.dumps(body)
            link.request(method, path, text, {"Content-Type": "application/json"})
            answer = link.getresponse()
            raw = answer.read()
            return answer.status, json.loads(raw) if raw else None
        finally:
            link.close()

    def try_call(self, *arguments, **options):
        """Like `call`; status 0 when there is no answer."""
        try:
            return self.call(*arguments, **options)
        except (OSError, http.client.HTTPException, ValueError):
            return 0, None


class Lab:
    """Masters (each an agent too) and agents on one bridge."""

    def __init__(self, binary, root, masters, agents):
        run("ip", "link", "add", "br0", "type", "bridge", "mcast_snooping", "0",
            "forward_delay", "0")
        run("ip", "addr", "add", f"{NETWORK}.254/24", "brd", "+", "dev", "br0")
        run("ip", "link", "set", "br0", "up")
        verbs = ["up"] * masters + ["agent"] * agents
        # Beside the directories, so that a failed run can be read.
        self.hosts = [Host(binary, root, n + 1, verb, f"{root}/n{n + 1}.log")
                      for n, verb in enumerate(verbs)]
        self.masters = self.hosts[:masters]
        self.agents = self.hosts[masters:]
        self.resources = ["--resources", "cpus:64;mem:16000;disk:16000;ports:[31000-32000]"]

    def start(self, host, *extra):
        http_flags = [] if host.verb == "agent" else ["--open-api"]
        host.start(*self.resources, *http_flags, *extra)

    def form(self):
        """Start all hosts; gives the seconds until all are in one cluster with all its voters."""
        begin = time.monotonic()
        first = self.masters[0]
        self.start(first)
        token = self.wait("a token", lambda: first.verb_output("token"))
        for host in self.hosts[1:]:
            self.start(host, "--token", token)
        self.wait("six nodes in one cluster", self.is_formed)
        return time.monotonic() - begin

    def is_formed(self):
        return self.leader() and self.voters() == len(self.masters) and \
            self.connected() == len(self.hosts)

    def leader(self):
        """The host that leads, if all masters say the same."""
        named = {self.said_leader(host) for host in self.masters if host.process.poll() is None}
        if len(named) != 1:
            return None
        name = named.pop()
        return next((host for host in self.masters if host.name == name), None)

    @staticmethod
    def said_leader(host):
        status, answer = host.try_call("GET", "/v2/leader")
        if status != 200:
            return None
        place = answer["leader"].rsplit(":", 1)[0]
        return f"n{place.rsplit('.', 1)[1]}" if place.startswith(NETWORK) else place

    def voters(self):
        """How many masters vote, as whoever led when that changed last has logged."""
        changes = [line for host in self.masters for line in open(host.log, errors="replace")
                   if "change=SetVoters(" in line]
        # A line begins with its time.
        return max(changes).split("SetVoters(")[1].count(",") + 1 if changes else 1

    def connected(self):
        status, answer = self.masters[0].try_call("GET", "/v1/bramble/agents")
        return sum(agent["connected"] for agent in answer) if status == 200 else 0

    def wait(self, what, seen, pause=0.01):
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := seen():
                return found
            time.sleep(pause)
        raise TimeoutError(f"not seen in {PATIENCE_S} s: {what}")

    def close(self):
        for host in self.hosts:
            host.power_off()
        subprocess.run(["ip", "link", "del", "br0"], check=False)
