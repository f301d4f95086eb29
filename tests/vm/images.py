"""Boot images of nodes side by side, and wait for each one's API to say its name.

    images.py DIRECTORY BOARD...

An image's own disk stays as it is. Machines end with this program.
"""

import http.client
import json
import pathlib
import subprocess
import sys
import time

from machine import free_port, partition

# Four emulated machines on two busy cores.
SECONDS_MAX = 420
# The Pi's card reader wants a power of two.
CARD_BYTES = 512 << 20
MAC = "b8:27:eb:12:34:56"


def nic(port):
    return f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:8080"


def bios(directory, port):
    return "x86", [
        "qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "384",
        "-drive", f"file={directory}/x86.img,format=raw,if=virtio,snapshot=on",
        "-netdev", nic(port), "-device", "virtio-net-pci,netdev=n,romfile=",
    ]


def uefi(directory, port):
    """On other hardware, too: AHCI and an e1000e."""
    return "x86", [
        "qemu-system-x86_64", "-machine", "q35,accel=tcg", "-m", "384",
        "-bios", "/usr/share/ovmf/OVMF.fd",
        "-drive", f"file={directory}/x86.img,format=raw,if=none,id=d,snapshot=on",
        "-device", "ide-hd,drive=d", "-netdev", nic(port),
        "-device", "e1000e,netdev=n,romfile=",
    ]


def arm64(directory, port):
    return "arm64-uefi", [
        "qemu-system-aarch64", "-machine", "virt,accel=tcg", "-cpu", "cortex-a53", "-m", "384",
        "-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
        "-drive", f"file={directory}/arm64-uefi.img,format=raw,if=none,id=d,snapshot=on",
        "-device", "virtio-blk-pci,drive=d", "-netdev", nic(port),
        "-device", "virtio-net-pci,netdev=n,romfile=",
    ]


def raspi3b(directory, port):
    """QEMU is the firmware here: it loads kernel, device tree and initramfs from the slot."""
    card = directory / "pi.card"
    subprocess.run(["cp", "--sparse=always", directory / "pi.img", card], check=True)
    with open(card, "r+b") as image:
        image.truncate(CARD_BYTES)
        slot = partition(image, 2)
        for name in ("vmlinuz", "initramfs", "bcm2837-rpi-3-b.dtb"):
            (directory / f"pi.{name}").write_bytes(slot.get(name))
        settings = slot.get("config.txt").decode()
        words = slot.get("cmdline.txt").decode().strip()
        boot = partition(image, 1).get("autoboot.txt").decode()
    assert "kernel=vmlinuz" in settings and "boot_partition=2" in boot, (settings, boot)
    return "pi", [
        "qemu-system-aarch64", "-machine", "raspi3b", "-m", "1024",
        "-kernel", f"{directory}/pi.vmlinuz", "-initrd", f"{directory}/pi.initramfs",
        "-dtb", f"{directory}/pi.bcm2837-rpi-3-b.dtb",
        "-append", f"{words} bramble.slot=a dwc_otg.fiq_fsm_enable=0"
        " bramble.watchdog=off",
        "-drive", f"file={card},format=raw,if=sd",
        "-netdev", nic(port), "-device", f"usb-net,netdev=n,mac={MAC}",
    ]


class Boot:
    def __init__(self, name, make, directory):
        self.name, self.port = name, free_port()
        self.board, command = make(directory, self.port)
        self.console = directory / f"{name}.log"
        serial = ["-display", "none", "-no-reboot", "-serial"]
        if name == "raspi3b":
            # Linux's console is the second one here, by the name the Pi's firmware gives it.
            serial += ["null", "-serial"]
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command, *serial, f"file:{self.console}"],
            stdin=subprocess.DEVNULL)
        self.started = time.monotonic()

    def leader(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/v1/bramble/status")
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def ready(self):
        status = self.leader()
        if status is None or not any(agent["connected"] for agent in status["agents"]):
            return False
        name = f"node-{self.board}"
        assert name in json.dumps(status), f"{self.name} is not called {name}: {status}"
        return True

    def tail(self):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-40:])


def main(directory, boards):
    makers = {"bios": bios, "uefi": uefi, "arm64": arm64, "raspi3b": raspi3b}
    wanted = {"x86": ["bios", "uefi"], "arm64-uefi": ["arm64"], "pi": ["raspi3b"]}
    boots = [Boot(name, makers[name], directory) for board in boards for name in wanted[board]]
    waiting = list(boots)
    try:
        while waiting:
            for boot in list(waiting):
                if boot.ready():
                    seconds = time.monotonic() - boot.started
                    print(f"images: {boot.name}: a cluster of one after {seconds:.1f} s", flush=True)
                    waiting.remove(boot)
                    boot.process.kill()
                elif boot.process.poll() is not None:
                    sys.exit(f"{boot.name} ended by itself:\n{boot.tail()}")
                elif time.monotonic() - boot.started > SECONDS_MAX:
                    sys.exit(f"{boot.name} gave no answer in {SECONDS_MAX} s:\n{boot.tail()}")
            time.sleep(0.2)
    finally:
        for boot in boots:
            boot.process.kill()
            boot.process.wait()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:])
