"""What is measured on three masters and three agents."""

import json
import select
import socket
import statistics
import threading
import time

from lab import Lab

APP = {"cmd": "sleep 100000", "cpus": 0.01, "mem": 16, "instances": 0}
CLIENTS = 64


def measure(binary, root, rows, quick, idle_seconds):
    """Add a row for each measure: name, value, target."""
    lab = Lab(binary, root, masters=3, agents=3)
    try:
        rows.append(("six nodes, start to formed", f"{lab.form():.1f} s", "<= 5 s (Swarm 8.1)"))
        leader_kills(lab, rows, 3 if quick else 10)
        power_offs(lab, rows, 1 if quick else 5)
        replicated_writes(lab, rows, 3 if quick else 10)
        idle_writes(lab, rows, idle_seconds)
    except Exception:
        for host in lab.hosts:
            print(f"--- {host.name}")
            print("".join(open(host.log, errors="replace").readlines()[-40:]))
        raise
    finally:
        lab.close()


def leader_kills(lab, rows, rounds):
    lab.masters[0].call("POST", "/v2/apps", {"id": "written", **APP})
    times = []
    for round_number in range(rounds):
        leader = lab.wait("a leader", lab.leader)
        others = [host for host in lab.masters if host is not leader]
        times.append(kill_and_write(leader, others, round_number))
        lab.start(leader)
        lab.wait("all in one cluster again", lab.is_formed)
        # What the return of a master sets off is not what is measured.
        time.sleep(1)
    rows.append((f"leader kill to write accepted, median of {rounds}",
                 f"{statistics.median(times):.2f} s",
                 "<= 1.0 s (etcd 1.54, ZooKeeper 1.07, Swarm 11.4)"))
    rows.append(("  the slowest of them", f"{max(times):.2f} s", ""))


def kill_and_write(leader, others, round_number):
    """Seconds from the kill to the first write that any other master accepted."""
    accepted = threading.Event()
    first = []

    def write(host):
        attempt = 0
        while not accepted.is_set():
            attempt += 1
            body = {"env": {"ROUND": f"{round_number}-{host.name}-{attempt}"}}
            status, _ = host.try_call("PUT", "/v2/apps/written?force=true", body)
            if status == 200:
                first.append(time.monotonic())
                accepted.set()
            time.sleep(0.005)

    begin = time.monotonic()
    leader.kill()
    writers = [threading.Thread(target=write, args=(host,)) for host in others]
    for writer in writers:
        writer.start()
    if not accepted.wait(60):
        raise TimeoutError("no write accepted within 60 s of the leader's death")
    for writer in writers:
        writer.join()
    return min(first) - begin


def power_offs(lab, rows, rounds):
    master = lab.masters[0]
    count = 2 * len(lab.hosts)
    app = {**APP, "id": "moved", "instances": count, "constraints": [["hostname", "GROUP_BY"]]}
    master.call("POST", "/v2/apps", app)

    def places():
        status, answer = master.try_call("GET", "/v2/apps/moved/tasks")
        tasks = answer["tasks"] if status == 200 else []
        return [task["host"] for task in tasks if task["state"] == "TASK_RUNNING"]

    lab.wait(f"{count} tasks", lambda: len(places()) == count)
    times = []
    for round_number in range(rounds):
        # One that holds some: after a first death, who comes back is empty until it is given work.
        held = places()
        victim = max(lab.agents, key=lambda host: held.count(host.name))
        begin = time.monotonic()
        victim.power_off()
        lab.wait("the tasks elsewhere", lambda: len(
            [host for host in places() if host != victim.name]) == count, 0.02)
        times.append(time.monotonic() - begin)
        victim.boot()
        lab.start(victim)
        lab.wait("the agent's return", lambda: lab.connected() == len(lab.hosts))
    rows.append((f"agent power-off to running elsewhere, median of {rounds}",
                 f"{statistics.median(times):.1f} s", "<= 5 s (Swarm 17.5)"))
    master.call("DELETE", "/v2/apps/moved?force=true")
    lab.wait("no task", lambda: not places())


def secret_write(client, value):
    """The smallest write that there is: one command, as a put of etcd is."""
    return b"/v1/bramble/secrets/w%d" % client, b'{"value":"%d"}' % value


def app_write(client, value):
    """What users write most: an app changes, and with it comes and goes a deployment."""
    return b"/v2/apps/w%d?force=true" % client, b'{"env":{"VALUE":"%d"}}' % value


class Connection:
    """A client that writes one value after the other into something of its own."""

    def __init__(self, host, number, write):
        self.number, self.write, self.writes = number, write, 0
        self.host = host
        self.socket = socket.create_connection((host.address, 8080))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def send(self):
        path, body = self.write(self.number, self.writes)
        self.socket.sendall(
            b"PUT %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (path, len(body), body))

    def receive(self):
        """Take what has come; whether the answer is whole."""
        part = self.socket.recv(65536)
        if not part:
            raise ConnectionError(f"{self.host.name} closed a connection")
        self.received += part
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n")
                      if line.startswith(b"content-length"))
        if len(body) < length:
            return False
        if not head.startswith((b"HTTP/1.1 200", b"HTTP/1.1 201")):
            raise ConnectionError(f"{self.host.name} answered {head[:200]} {body[:500]}")
        self.received = b""
        self.writes += 1
        return True


def writes_per_second(hosts, write, seconds):
    """Let the clients write to these hosts; gives accepted writes a second and the median wait."""
    clients = [Connection(hosts[n % len(hosts)], n, write) for n in range(CLIENTS)]
    events = select.epoll()
    by_file, sent, waits = {}, {}, []
    for client in clients:
        file = client.socket.fileno()
        by_file[file] = client
        events.register(file, select.EPOLLIN)
    begin = time.monotonic()
    end = begin + seconds
    for client in clients:
        sent[client.number] = time.monotonic()
        client.send()
    while (now := time.monotonic()) < end:
        for file, _ in events.poll(1):
            client = by_file[file]
            if client.receive():
                waits.append(time.monotonic() - sent[client.number])
                sent[client.number] = time.monotonic()
                client.send()
    elapsed = now - begin
    for client in clients:
        client.socket.close()
    return len(waits) / elapsed, statistics.median(waits) * 1000


def replicated_writes(lab, rows, seconds):
    leader = lab.wait("a leader", lab.leader)
    for number in range(CLIENTS):
        leader.call("POST", "/v2/apps", {"id": f"w{number}", **APP})
    others = [host for host in lab.masters if host is not leader]
    for name, write, hosts in (("secrets, at the leader", secret_write, [leader]),
                               ("secrets, at all masters", secret_write, [leader, *others]),
                               ("apps, at the leader", app_write, [leader])):
        rate, wait = writes_per_second(hosts, write, seconds)
        rows.append((f"writes by {CLIENTS} clients: {name}",
                     f"{rate:.0f}/s", f">= 2000/s (etcd 3048); median wait {wait:.0f} ms"))
    for number in range(CLIENTS):
        leader.call("DELETE", f"/v2/apps/w{number}?force=true")
        leader.call("DELETE", f"/v1/bramble/secrets/w{number}")


def written_bytes(host):
    for line in open(f"/proc/{host.process.pid}/io"):
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    return 0


def idle_writes(lab, rows, seconds):
    lab.masters[0].call("POST", "/v2/apps", {**APP, "id": "idle", "instances": 6})
    lab.wait("idle tasks", lambda: json.dumps(
        lab.masters[0].call("GET", "/v2/apps/idle/tasks")[1]).count("TASK_RUNNING") == 6)
    # The end of what went before: deployments, a snapshot that was due.
    time.sleep(min(20, seconds))
    before = [written_bytes(host) for host in lab.hosts]
    time.sleep(seconds)
    per_day = [(written_bytes(host) - start) * 86400 / seconds / 1e6
               for host, start in zip(lab.hosts, before)]
    rows.append((f"idle writes per node and day, from {seconds} s, most and median",
                 f"{max(per_day):.2f} MB, {statistics.median(per_day):.2f}", "<= 1 MB"))
