#!/usr/bin/env python3
"""What a node makes of a bramble.toml that a person wrote, and of an image on its card.

    settings.py archive FILE     write the image of an app, as `docker save` does
    settings.py boot WORK        WORK holds node.img, flashed with that image, and key, key.pub
"""

import hashlib
import io
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import time

from machine import Forwarded, Machine, free_port, fresh, partition

DISK_BYTES = 1 << 30
# Not what DHCP would give there.
ADDRESS = "10.0.2.77"
IMAGE, WORDS = "kitchen/menu:7", "soup of the day"
APP = {
    "id": "/menu", "cpus": 0.1, "mem": 16, "cmd": "cat /menu && exec sleep 1000",
    "container": {"type": "DOCKER", "docker": {"image": IMAGE}},
    "constraints": [["rack", "LIKE", "7"]],
}
# Line 3 and the last are mistakes.
SETTINGS = """hostname = "pi-kitchen"
role = "auto"
hostnmae = "pi"
attributes = {{ rack = "7" }}
[network]
address = "{address}/24"
gateway = "10.0.2.2"
[ssh]
keys = ["{key}"]
[bramble]
open-api = true
dns-port = "many"
"""
# A machine without KVM on two busy cores.
SECONDS_MAX = 120
SSH_SECONDS_MAX = 60


def say(text):
    print(f"settings: {text}", flush=True)


def archive(path):
    """A userland, and a file that no other image has."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        def add(name, content, mode):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        add("bin/busybox", pathlib.Path(shutil.which("busybox")).read_bytes(), 0o755)
        for name in ("sh", "cat", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        add("menu", f"{WORDS}\n".encode(), 0o644)
    layer = layer.getvalue()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for member, content in ((name, config), ("layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


class Fixed(Forwarded):
    """The network of a machine that has the address it was told."""

    def __init__(self):
        super().__init__()
        self.ssh = free_port()

    def options(self):
        ports = ((self.port, 8080), (self.ssh, 22))
        forwards = [f"hostfwd=tcp:127.0.0.1:{ours}-{ADDRESS}:{theirs}" for ours, theirs in ports]
        return f"user,id=n,{','.join(forwards)}", "virtio-net-pci,netdev=n"


def over_ssh(node, key, command):
    """Run it on the node; gives what it said."""
    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes",
               "BatchMode=yes", f"ConnectTimeout={SSH_SECONDS_MAX}", "LogLevel=ERROR"]
    words = [word for option in options for word in ("-o", option)]
    done = subprocess.run(
        ["ssh", *words, "-i", str(key), "-p", str(node.network.ssh), "root@127.0.0.1", command],
        capture_output=True, text=True, timeout=SSH_SECONDS_MAX)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{node.tail()}"
    return done.stdout


def until(good, look, node):
    """Wait until what is seen is good; gives it."""
    begun = time.monotonic()
    while not good(seen := look()):
        assert time.monotonic() - begun < SECONDS_MAX, f"{seen}\n{node.tail()}"
        time.sleep(0.5)
    return seen


def told(card):
    """What the node wrote on its card for its owner."""
    with open(card, "rb") as image:
        return partition(image, 1).get("status.txt").decode()


def boot(work):
    key = work / "key"
    settings = SETTINGS.format(address=ADDRESS, key=(work / "key.pub").read_text().strip())
    card = fresh(work / "node.img", work / "card.img", DISK_BYTES, settings)
    with Machine(card, work, network=Fixed()) as node:
        agents = lambda status: status is not None and any(a["connected"] for a in status["agents"])
        status, seconds = node.wait("/v1/bramble/status", agents)
        assert status["agents"][0]["name"] == "pi-kitchen", status
        say(f"answers at its address after {seconds:.1f} s, by its name")
        node.post("/v2/apps", APP)
        runs = lambda app: app is not None and app["app"]["tasksRunning"] == 1
        until(runs, lambda: node.get("/v2/apps//menu"), node)
        # It runs a moment before it has said anything.
        until(lambda said: said.strip() == WORDS, lambda: over_ssh(node, key, "bramble logs menu"), node)
        say("the image it was flashed with runs; ssh lets its owner in")
        images = over_ssh(node, key, "bramble images")
        assert IMAGE in images, images
        # It is written when it has been the same for a while.
        text = until(lambda text: ": running" in text, lambda: told(card), node)
    for words in ("pi-kitchen: running", ADDRESS, "line 3: ", "hostnmae", "dns-port"):
        assert words in text, f"{words!r} is not in status.txt:\n{text}"
    say("status.txt names both mistakes")


if __name__ == "__main__":
    if sys.argv[1] == "archive":
        archive(sys.argv[2])
    else:
        boot(pathlib.Path(sys.argv[2]).resolve())
