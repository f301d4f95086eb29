"""A machine that runs a node's image: QEMU, and us as its boot loader.

The kernel is started directly and unpacked, so that a boot takes seconds; which slot it is of is read from the
image as GRUB would read it, and a one-shot choice is cleared before the boot, as GRUB does.
"""

import hashlib
import http.client
import json
import lzma
import os
import pathlib
import socket
import struct
import subprocess
import time

SECTOR = 512
GRUB_BLOCK = 1024
GRUB_HEADER = b"# GRUB Environment Block\n"
# A machine without KVM on two busy cores.
BOOT_SECONDS_MAX = 120
# What is asked before the machine's network is up is lost, though the connection is made: ask anew.
ASK_SECONDS = 1


class Fat:
    """Reads files of a FAT32 file system inside an image, and overwrites one in place."""

    def __init__(self, file, start):
        self.file, self.start = file, start
        boot = self.read(0, SECTOR)
        self.cluster_bytes = struct.unpack_from("<H", boot, 11)[0] * boot[13]
        reserved, tables = struct.unpack_from("<HB", boot, 14)
        table_sectors = struct.unpack_from("<I", boot, 36)[0]
        self.root = struct.unpack_from("<I", boot, 44)[0]
        self.table = reserved * SECTOR
        self.data = self.table + tables * table_sectors * SECTOR

    def read(self, at, count):
        self.file.seek(self.start + at)
        return self.file.read(count)

    def chain(self, cluster):
        while 2 <= cluster < 0x0FFFFFF8:
            yield cluster
            cluster = struct.unpack("<I", self.read(self.table + 4 * cluster, 4))[0] & 0x0FFFFFFF

    def place(self, cluster):
        return self.data + (cluster - 2) * self.cluster_bytes

    def content(self, cluster):
        return b"".join(self.read(self.place(c), self.cluster_bytes) for c in self.chain(cluster))

    def entries(self, cluster):
        """Name, first cluster and size of what is in a directory."""
        raw, long_name = self.content(cluster), {}
        for at in range(0, len(raw), 32):
            entry = raw[at:at + 32]
            if entry[0] == 0:
                return
            if entry[0] == 0xE5:
                long_name = {}
            elif entry[11] == 0x0F:
                long_name[entry[0] & 0x3F] = entry[1:11] + entry[14:26] + entry[28:32]
            else:
                name = b"".join(long_name[n] for n in sorted(long_name)).decode("utf-16-le")
                name = name.split("\0")[0]
                if not name:
                    stem, suffix = entry[:8].decode().strip(), entry[8:11].decode().strip()
                    name = f"{stem}.{suffix}" if suffix else stem
                long_name = {}
                high, low = struct.unpack_from("<H", entry, 20)[0], struct.unpack_from("<H", entry, 26)[0]
                yield name, high << 16 | low, struct.unpack_from("<I", entry, 28)[0]

    def find(self, path):
        cluster, size = self.root, 0
        for part in path.split("/"):
            found = [e for e in self.entries(cluster) if e[0].lower() == part.lower()]
            if not found:
                raise FileNotFoundError(path)
            _, cluster, size = found[0]
        return cluster, size

    def get(self, path):
        cluster, size = self.find(path)
        return self.content(cluster)[:size]

    def put(self, path, content):
        """Overwrite a file with as many bytes."""
        cluster, size = self.find(path)
        assert len(content) == size, (path, size, len(content))
        for n, cluster in enumerate(self.chain(cluster)):
            part = content[n * self.cluster_bytes:(n + 1) * self.cluster_bytes]
            self.file.seek(self.start + self.place(cluster))
            self.file.write(part)
        self.file.flush()


def partition(image, number):
    """A FAT partition of an open image."""
    image.seek(446 + 16 * (number - 1) + 8)
    return Fat(image, struct.unpack("<I", image.read(4))[0] * SECTOR)


def environment(block):
    assert len(block) == GRUB_BLOCK and block.startswith(GRUB_HEADER), block[:40]
    lines = block[len(GRUB_HEADER):].decode().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def unpacked(kernel):
    """The kernel inside a bzImage: ours to unpack, which an emulated processor does for seconds.
    QEMU starts it by its PVH entry."""
    setup_sectors = kernel[0x1F1] or 4
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = (setup_sectors + 1) * SECTOR + offset
    packed = kernel[start:start + length]
    # The kernel's build appends the unpacked size, which is no part of the stream.
    return lzma.LZMADecompressor().decompress(packed)


def load(path, into):
    """Be the boot loader: gives the slot, its kernel and its initramfs."""
    with open(path, "r+b") as image:
        config = partition(image, 1)
        values = environment(config.get("boot/grub/grubenv"))
        slot = values.get("slot") or "a"
        if values.get("try"):
            slot, values["try"] = values["try"], ""
            block = GRUB_HEADER + "".join(f"{k}={v}\n" for k, v in values.items()).encode()
            config.put("boot/grub/grubenv", block.ljust(GRUB_BLOCK, b"#"))
        files = partition(image, {"a": 2, "b": 3}[slot])
        packed = files.get("vmlinuz")
        kernel = into / f"vmlinux-{hashlib.sha256(packed).hexdigest()[:16]}"
        if not kernel.exists():
            for old in into.glob("vmlinux-*"):
                old.unlink()
            unfinished = into / "vmlinux"
            unfinished.write_bytes(unpacked(packed))
            unfinished.rename(kernel)
        (into / "initramfs").write_bytes(files.get("initramfs"))
    return slot, kernel, into / "initramfs"


def lasting(path):
    with open(path, "rb") as image:
        return environment(partition(image, 1).get("boot/grub/grubenv")).get("slot")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Forwarded:
    """A network of the machine's own, of which a port of ours reaches its API."""

    def __init__(self):
        self.port = free_port()

    def options(self):
        return f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:8080", "virtio-net-pci,netdev=n"

    def api(self):
        return "127.0.0.1", self.port


class Machine:
    """One boot of an image. Ends with `cut`, or by itself. `clock` is what it believes at power-on.
    A network (as `Forwarded`) is kept over boots."""

    def __init__(self, image, work, memory=192, arguments="", network=None, clock="utc"):
        self.work, self.network = pathlib.Path(work), network or Forwarded()
        self.slot, kernel, initramfs = load(image, self.work)
        netdev, device = self.network.options()
        self.console = self.work / "console.log"
        words = f"console=ttyS0 quiet panic=10 bramble.slot={self.slot} {arguments}"
        # In one thread: QEMU before 8.1 races with a kernel that patches its own code on another
        # processor, which then takes the patch's int3 for ever, and both stand still.
        command = [
            "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
            "-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", str(memory),
            "-display", "none", "-no-reboot", "-serial", f"file:{self.console}",
            "-kernel", str(kernel), "-initrd", str(initramfs), "-append", words,
            "-drive", f"file={image},format=raw,if=virtio",
            "-netdev", netdev, "-device", device, "-device", "i6300esb", "-rtc", f"base={clock}",
        ]
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    @property
    def url(self):
        host, port = self.network.api()
        return f"http://{host}:{port}"

    def get(self, path, seconds=5):
        """An answer's JSON, or None."""
        connection = None
        try:
            connection = http.client.HTTPConnection(*self.network.api(), timeout=seconds)
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return json.loads(body) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            if connection is not None:
                connection.close()

    def post(self, path, body):
        """As a user does."""
        command = ["curl", "-sS", "--fail-with-body", "-m", "60",
                   "-H", "Content-Type: application/json", "-d", json.dumps(body), self.url + path]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{path}: {done.stdout} {done.stderr}"

    def wait(self, path, good=lambda answer: answer is not None, seconds=BOOT_SECONDS_MAX):
        """Wait for an answer; gives it, and the seconds since power-on."""
        while time.monotonic() - self.started < seconds:
            if self.process.poll() is not None:
                raise AssertionError(f"the machine ended by itself:\n{self.tail()}")
            answer = self.get(path, ASK_SECONDS)
            if good(answer):
                return answer, time.monotonic() - self.started
            time.sleep(0.1)
        raise AssertionError(f"no answer of {path} after {seconds} s:\n{self.tail()}")

    def tail(self):
        text = self.console.read_text(errors="replace") if self.console.exists() else ""
        return "\n".join(text.splitlines()[-40:])

    def cut(self):
        """Take its power away."""
        self.process.kill()
        self.process.wait()

    def ended(self, seconds):
        """Whether it went down by itself within a time."""
        try:
            self.process.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.cut()


def fresh(image, path, size, settings=""):
    """A copy of an image on a disk of `size` bytes, with a `bramble.toml` of ours."""
    subprocess.run(["cp", "--sparse=always", str(image), str(path)], check=True)
    os.truncate(path, max(size, os.path.getsize(path)))
    if settings:
        with open(path, "r+b") as disk:
            config = partition(disk, 1)
            room = len(config.get("bramble.toml"))
            config.put("bramble.toml", settings.encode().ljust(room, b"\n"))
    return path
