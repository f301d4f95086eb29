#!/usr/bin/env python3
"""Three nodes on one switch: they form a cluster by themselves, and run an app that is reached.

    three.py WORK [BRAMBLE UPDATE]

WORK holds n1.card, n2.card and n3.card. With UPDATE, another version for the same board: BRAMBLE
updates all of them, and the app is watched meanwhile. To be started in a network of its own.
"""

import pathlib
import subprocess
import sys
import threading
import time
import urllib.request

from machine import Machine

SWITCH, HOST, RANGE = "br0", "10.73.0.1/24", "10.73.0.100,10.73.0.150,10m"
# What each believes at power-on: before the kernel was built, today, after 32 bits of seconds.
CLOCKS = {"n1": "2009-01-01T00:00:00", "n2": "utc", "n3": "2040-06-01T12:00:00"}
MEMORY_MIB = 192
MEMORY_USED_MIB_MAX = 64
# Three machines without KVM on two busy cores.
FORMED_SECONDS_MAX = 300
RUNNING_SECONDS_MAX = 120
UPDATE_SECONDS_MAX = 1200
APP = {
    "id": "/hello", "instances": 2, "cpus": 0.1, "mem": 16,
    "constraints": [["hostname", "UNIQUE"]], "portDefinitions": [{"port": 0}],
    "healthChecks": [{"protocol": "HTTP", "path": "/", "portIndex": 0, "intervalSeconds": 2}],
    "cmd": "mkdir -p www/cgi-bin && hostname > www/index.html"
           " && printf '#!/bin/sh\\necho\\ncat /proc/meminfo\\n' > www/cgi-bin/memory"
           " && chmod +x www/cgi-bin/memory && exec httpd -f -p $PORT0 -h www",
}


def say(text):
    print(f"three: {text}", flush=True)


def run(*command):
    subprocess.run(command, check=True)


class Tap:
    """A machine's plug in the switch; DHCP says which address it was given."""

    def __init__(self, number, leases):
        self.name, self.mac, self.leases = f"tap{number}", f"52:54:00:73:00:{number:02x}", leases
        run("ip", "tuntap", "add", self.name, "mode", "tap")
        run("ip", "link", "set", self.name, "master", SWITCH, "up")

    def options(self):
        return (f"tap,id=n,ifname={self.name},script=no,downscript=no",
                f"virtio-net-pci,netdev=n,mac={self.mac}")

    def api(self):
        """Raises OSError where it has none yet."""
        for line in self.leases.read_text().splitlines():
            words = line.split()
            if words[1] == self.mac:
                return words[2], 8080
        raise OSError(f"{self.mac} has no address")


def network(work):
    """A switch with a DHCP server, and this program beside it. Gives where addresses are noted."""
    leases = work / "leases"
    leases.write_text("")
    run("ip", "link", "set", "lo", "up")
    # mDNS to everyone: nobody here is a multicast router.
    run("ip", "link", "add", SWITCH, "type", "bridge", "mcast_snooping", "0")
    run("ip", "address", "add", HOST, "dev", SWITCH)
    run("ip", "link", "set", SWITCH, "up")
    subprocess.Popen([
        "setpriv", "--pdeathsig", "KILL", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null",
        "--port=0", f"--interface={SWITCH}", f"--dhcp-range={RANGE}", f"--dhcp-leasefile={leases}",
        f"--pid-file={work}/dnsmasq.pid", "--user=root", "--dhcp-option=3",
    ])
    return leases


def fetch(address, path="/"):
    """Text of a page, or None."""
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return None


def formed(machine):
    """Whether all run apps, and all vote."""
    status, masters = machine.get("/v1/bramble/status"), machine.get("/v1/bramble/masters")
    return bool(status and masters) and sum(a["connected"] for a in status["agents"]) == 3 \
        and sum(m["standing"] == "voter" for m in masters) == 3


class Nodes:
    """The machines; each goes on in another boot when it restarts."""

    def __init__(self, work, leases):
        self.work, self.cards, self.taps = work, {}, {}
        self.machines, self.lock, self.over = {}, threading.Lock(), False
        for number, name in enumerate(CLOCKS, 1):
            self.taps[name] = Tap(number, leases)
            (work / name).mkdir()
        self.boots = {name: 0 for name in CLOCKS}

    def start(self, name):
        self.machines[name] = Machine(
            self.work / f"{name}.card", self.work / name, MEMORY_MIB,
            network=self.taps[name], clock=CLOCKS[name])
        self.boots[name] += 1

    def tails(self):
        return "\n".join(f"--- {name}\n{m.tail()}" for name, m in self.machines.items())

    def restarted(self):
        """Start again what went down by itself."""
        for name, machine in self.machines.items():
            if machine.process.poll() is not None:
                self.start(name)

    def wait(self, what, good, seconds):
        """Ask every node in turn until one says what is good."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            for machine in self.machines.values():
                assert machine.process.poll() is None, f"a machine ended by itself:\n{self.tails()}"
                answer = good(machine)
                if answer:
                    return answer, time.monotonic() - begun
            time.sleep(0.2)
        raise AssertionError(f"no {what} within {seconds} s:\n{self.tails()}")

    def end(self):
        for machine in self.machines.values():
            machine.cut()


def where(machine):
    """HOST:PORT of each running, healthy instance."""
    app = machine.get("/v2/apps//hello")
    tasks = app["app"]["tasks"] if app else []
    return [f"{t['host']}:{t['ports'][0]}" for t in tasks
            if t["state"] == "TASK_RUNNING" and any(c.get("alive") for c in t.get("healthCheckResults", []))]


def address_of(place, nodes):
    """Tasks say their node's name; its address is DHCP's."""
    host, port = place.split(":")
    return f"{nodes.taps[host].api()[0]}:{port}" if host in nodes.taps else place


def deployed(nodes):
    def both(machine):
        places = where(machine)
        return places if len(places) == 2 else None
    nodes.machines["n2"].post("/v2/apps", APP)
    places, seconds = nodes.wait("running app", both, RUNNING_SECONDS_MAX)
    answers = {fetch(address_of(place, nodes)) for place in places}
    assert None not in answers and len(answers) == 2, (places, answers)
    say(f"the app answers at {' and '.join(places)} after {seconds:.1f} s")
    return places


def memory(place, nodes):
    """What a node's system holds of its memory, in MiB: all that is not free or cache."""
    text = fetch(address_of(place, nodes), "/cgi-bin/memory")
    values = {line.split(":")[0]: int(line.split()[1]) for line in text.strip().splitlines()}
    return (values["MemTotal"] - values["MemAvailable"]) / 1024


def updated(nodes, bramble, update):
    """Update all, and ask for the app without a pause."""
    begun, asked, missed, worst = time.monotonic(), 0, 0, 0.0
    url = "http://%s:%d" % nodes.taps["n1"].api()
    command = [bramble, "--url", url, "os", "update", update]
    boots = dict(nodes.boots)
    client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        known, silent_since = [], None
        while client.poll() is None:
            assert time.monotonic() - begun < UPDATE_SECONDS_MAX, f"too long:\n{nodes.tails()}"
            nodes.restarted()
            down = [n for n, m in nodes.machines.items() if m.get("/v1/bramble/status") is None]
            for machine in nodes.machines.values():
                known = where(machine) or known
            asked += 1
            answers = [fetch(address_of(place, nodes)) for place in known]
            if any(answers):
                silent_since = None
            else:
                missed += 1
                silent_since = silent_since or time.monotonic()
                worst = max(worst, time.monotonic() - silent_since)
            say(f"{time.monotonic() - begun:.0f} s: app at {known}, no answer of {down}")
            time.sleep(1)
        output = client.communicate()[0]
    finally:
        if client.poll() is None:
            client.kill()
            client.communicate()
    assert client.returncode == 0, f"{output}\n{nodes.tails()}"
    for name, count in boots.items():
        assert nodes.boots[name] == count + 1, f"{name} started {nodes.boots[name] - count} times"
    views, _ = nodes.wait("word of the images", lambda m: m.get("/v1/bramble/os"), 60)
    assert [v["slots"]["version"] for v in views] == ["next"] * 3, views
    assert not missed, f"of {asked} looks, {missed} found no instance, for {worst:.1f} s"
    say(f"all updated in {time.monotonic() - begun:.0f} s; the app answered at all of {asked} looks")


def main():
    work = pathlib.Path(sys.argv[1]).resolve()
    nodes = Nodes(work, network(work))
    try:
        # The founder is not first: power comes back in any order.
        for name in ("n3", "n2", "n1"):
            nodes.start(name)
        _, seconds = nodes.wait("cluster of three", formed, FORMED_SECONDS_MAX)
        say(f"one cluster of three after {seconds:.1f} s")
        places = deployed(nodes)
        for place in places:
            used = memory(place, nodes)
            say(f"{place}: {used:.0f} MiB of memory in use")
            assert used <= MEMORY_USED_MIB_MAX, f"more than {MEMORY_USED_MIB_MAX} MiB"
        if len(sys.argv) > 2:
            updated(nodes, *sys.argv[2:4])
    finally:
        nodes.end()


if __name__ == "__main__":
    main()
