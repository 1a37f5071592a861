"""A Debian arm64 board in QEMU, reached over SSH: a true aarch64 kernel with its own pages, and no idea of speed.

Nothing that is timed on it means anything; what it shows is that bundles load there, that facts are read and that a
whole experiment goes through. The system is built once (minutes) and kept; each start boots a throw-away copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness.locks import file_lock
from harness.paths import cache_dir
from tests.standins.sshd import free_port

#: bytes of a page -> Debian's suite and kernel package; a Raspberry Pi 5 has 16 KiB pages by default
SYSTEMS = {4096: ("bookworm", "linux-image-arm64"), 16384: ("trixie", "linux-image-arm64-16k")}
_NEEDED = {
    "mmdebstrap": "mmdebstrap", "arch-test": "arch-test", "qemu-aarch64-static": "qemu-user-static",
    "qemu-system-aarch64": "qemu-system-arm", "qemu-img": "qemu-utils", "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
}  # fmt: skip
_BOOT_S = 300.0


def why_no_board() -> str | None:
    """What is missing, or None."""
    if os.geteuid() != 0:
        return "only root can build the board's system"
    missing = [package for tool, package in _NEEDED.items() if shutil.which(tool) is None]
    return f"apt-get install --no-install-recommends {' '.join(missing)}" if missing else None


def image(page_size: int) -> Path:
    """The folder with root.ext4, vmlinuz, initrd.img and the keys; built where it is not there yet."""
    name = f"pi-{page_size >> 10}k"
    folder = cache_dir() / "standins" / name
    with file_lock(folder.with_name(f"{name}.lock")):
        if not (folder / "root.ext4").is_file():
            script = Path(__file__).with_name("build_image.sh")
            with (folder.parent / f"{name}.log").open("wb") as log:
                done = subprocess.run([script, folder, *SYSTEMS[page_size]], stdout=log, stderr=subprocess.STDOUT)
            if done.returncode != 0:
                raise RuntimeError(f"the board's system was not built, see {log.name}")
    return folder


class Board:
    """`with Board(4096) as board:` — `board.uri`, and `board.config` for HARNESS_SSH_CONFIG."""

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size

    def __enter__(self) -> Board:
        system = image(self.page_size)
        self.folder = Path(tempfile.mkdtemp(prefix="harness-pi-"))
        self.port = free_port()
        self.uri = f"ssh://pi@127.0.0.1:{self.port}"
        self.config = self.folder / "ssh_config"
        key = " ".join((system / "host_key.pub").read_text().split()[:2])
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {key}\n")
        self.config.write_text(
            f"Host *\n  IdentityFile {system}/id_pi\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n  BatchMode yes\n"
        )
        overlay = self.folder / "overlay.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", system / "root.ext4", "-F", "raw", overlay], check=True
        )
        self._console = (self.folder / "console.log").open("wb")
        # A named CPU: the default one has SME, under which QEMU 7.2 computes XNNPACK's int8 wrong without a word.
        self._machine = subprocess.Popen(
            [
                "qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a76", "-smp", "2", "-m", "2048",
                "-accel", "tcg,thread=multi,tb-size=512", "-nographic", "-no-reboot",
                "-kernel", system / "vmlinuz", "-initrd", system / "initrd.img",
                "-append", "root=/dev/vda rw console=ttyAMA0 quiet net.ifnames=0 mitigations=off",
                "-drive", f"if=none,id=d,file={overlay},format=qcow2,cache=unsafe", "-device", "virtio-blk-pci,drive=d",
                "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{self.port}-:22",
                "-device", "virtio-net-pci,netdev=n,romfile=", "-device", "virtio-rng-pci",
            ],
            stdin=subprocess.DEVNULL, stdout=self._console, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            self._await_ssh()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._machine.kill()
        self._machine.wait()
        self._console.close()
        with suppress(OSError):
            shutil.rmtree(self.folder)

    def _await_ssh(self) -> None:
        ask = ["ssh", "-F", self.config, "-p", str(self.port), "-o", "ConnectTimeout=10", "pi@127.0.0.1", "true"]
        until = time.monotonic() + _BOOT_S
        while subprocess.run(ask, capture_output=True).returncode != 0:
            if self._machine.poll() is not None or time.monotonic() > until:
                last = (self.folder / "console.log").read_text(errors="replace")[-1000:]
                raise RuntimeError(f"the board does not come up: {last}")
            time.sleep(1)
