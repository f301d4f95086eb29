#!/usr/bin/env python3
"""Take a node's power away at random moments, of its first boot and of an update: it always comes
back, by itself.

    powercuts.py IMAGE UPDATE BRAMBLE WORK [CUTS] [SEED]

UPDATE is another version for the same board, BRAMBLE the program of this machine.
First boots and updates go side by side. Prints what was measured on the way as its last line.
"""

import concurrent.futures
import json
import os
import pathlib
import random
import subprocess
import sys
import time

import machine
from machine import Machine, fresh

DISK_BYTES = 2 << 30
SETTINGS = "[bramble]\nopen-api = true\n"
# Of a first boot, until well after the API answers: data is grown and keys are made in it.
AFTER_ANSWER_SECONDS = 6
UPDATE_SECONDS_MAX = 400
STATUS = "/v1/bramble/status"
OS = "/v1/bramble/os"


def connected(status):
    return status is not None and any(agent["connected"] for agent in status["agents"])


def slots(node):
    views, _ = node.wait(OS, lambda views: bool(views) and views[0]["slots"] is not None)
    return views[0]["slots"]


def say(text):
    print(text, flush=True)


class Trial:
    def __init__(self, image, update, bramble, work, seed):
        self.image, self.update, self.bramble = image, update, bramble
        self.work = pathlib.Path(work)
        self.work.mkdir(exist_ok=True)
        self.random = random.Random(seed)
        self.measured = {}

    def new_disk(self):
        return fresh(self.image, self.work / "disk.img", DISK_BYTES, SETTINGS)

    def plain_boot(self):
        """Without a cut: how long it takes, and what it uses."""
        with Machine(self.new_disk(), self.work) as node:
            _, answered = node.wait(STATUS)
            _, whole = node.wait(STATUS, connected)
            time.sleep(AFTER_ANSWER_SECONDS)
            say(f"first boot: API after {answered:.1f} s, agent after {whole:.1f} s")
        with Machine(self.work / "disk.img", self.work) as node:
            _, again = node.wait(STATUS)
            say(f"second boot: API after {again:.1f} s")
        self.measured.update(first_boot_s=round(answered, 1), boot_s=round(again, 1))
        return whole

    def first_boots(self, cuts, whole):
        for n in range(cuts):
            moment = self.random.uniform(0.5, whole + AFTER_ANSWER_SECONDS)
            disk = self.new_disk()
            with Machine(disk, self.work) as node:
                ended = node.ended(moment)
                assert not ended, f"the machine ended by itself:\n{node.tail()}"
            with Machine(disk, self.work) as node:
                node.wait(STATUS, connected)
                say(f"first boot cut after {moment:.1f} s: it came back")

    def start_update(self, node):
        command = [self.bramble, "--url", node.url, "os", "update", self.update]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run_update(self, disk, cut_after):
        """Update a node; restarts are boots. Gives how long it took, or None where it was cut."""
        node = Machine(disk, self.work)
        client = None
        try:
            node.wait(STATUS, connected)
            old = slots(node)
            client, begun = self.start_update(node), time.monotonic()
            while client.poll() is None:
                passed = time.monotonic() - begun
                if cut_after is not None and passed > cut_after:
                    return None
                assert passed < UPDATE_SECONDS_MAX, f"the update takes too long:\n{node.tail()}"
                if node.process.poll() is not None:
                    # It restarts into the new slot; the client finds it where it was.
                    node = Machine(disk, self.work, network=node.network)
                time.sleep(0.05)
            output = client.communicate()[0]
            if cut_after is not None:
                return None
            assert client.returncode == 0, f"{output}\n{node.tail()}"
            now = slots(node)
            assert now["slot"] != old["slot"] == old["lasting"], (old, now)
            assert now["lasting"] == now["slot"] and now["version"] != old["version"], (old, now)
            return time.monotonic() - begun
        finally:
            node.cut()
            if client is not None and client.poll() is None:
                client.kill()
                client.communicate()

    def updates(self, cuts):
        disk = self.new_disk()
        with Machine(disk, self.work) as node:
            node.wait(STATUS, connected)
        kept = self.work / "before-update.img"
        os.replace(disk, kept)
        subprocess.run(["cp", "--sparse=always", kept, disk], check=True)
        whole = self.run_update(disk, None)
        say(f"update: {whole:.1f} s, confirmed")
        self.measured["update_s"] = round(whole, 1)
        for _ in range(cuts):
            moment = self.random.uniform(0.2, whole)
            subprocess.run(["cp", "--sparse=always", kept, disk], check=True)
            self.run_update(disk, moment)
            before = machine.lasting(disk)
            with Machine(disk, self.work) as node:
                node.wait(STATUS, connected)
                now = slots(node)
                # Whatever runs is whole; what is on trial is not lasting, and goes by itself.
                assert now["lasting"] == before, (before, now)
                trial = now["trialSecondsLeft"] is not None
                assert trial == (now["slot"] != now["lasting"]), now
                say(f"update cut after {moment:.1f} s: it came back on slot {now['slot']}"
                    f"{', on trial' if trial else ''}")
            if trial:
                with Machine(disk, self.work) as node:
                    node.wait(STATUS, connected)
                    assert slots(node)["slot"] == before
                    say("  and without a word went back")


def main():
    image, update, bramble, work = sys.argv[1:5]
    cuts = int(sys.argv[5]) if len(sys.argv) > 5 else 20
    seed = int(sys.argv[6]) if len(sys.argv) > 6 else random.SystemRandom().randrange(1 << 32)
    say(f"power cuts with seed {seed}")
    trial = Trial(image, update, bramble, work, seed)
    whole = trial.plain_boot()
    # A machine is one thread: two of them take no longer than one.
    updates = Trial(image, update, bramble, trial.work / "updates", seed + 1)
    with concurrent.futures.ThreadPoolExecutor() as both:
        halves = [
            both.submit(trial.first_boots, cuts // 2, whole),
            both.submit(updates.updates, cuts - cuts // 2),
        ]
        for half in concurrent.futures.as_completed(halves):
            half.result()
    say(json.dumps(trial.measured | updates.measured))


if __name__ == "__main__":
    main()
