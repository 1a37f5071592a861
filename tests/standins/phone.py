"""A stand-in phone: Android's real adbd on this machine, with a small file tree and a network of its own.

Real are the wire protocol, the keys, the shell, the files, and a link of MTU 1500 that can be cut. Not real is the
framework: `getprop`, `settings`, `dumpsys`, `cmd`, `input` and `svc` are scripts (adbd/bin) that keep their state in
ROOT/data/fake. No number measured on it is a phone's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.standins import adbd_build
from tests.standins.sshd import free_port

PORT = 5555
why_no_phone = adbd_build.why_not
build_adbd = adbd_build.build


class Phone:
    """`with Phone() as phone:` — `phone.uri` is for `--device`; `phone.root` is its file tree, seen from here."""

    def __init__(self, arm64: bool = False) -> None:
        """`arm64`: it says that it is one, and runs arm64's programs by QEMU (its shell stays this machine's)."""
        self._arm64 = arm64

    def __enter__(self) -> Phone:
        self._adbd = build_adbd()
        self.folder = Path(tempfile.mkdtemp(prefix="harness-phone-"))
        self.folder.chmod(0o755)  # the phone's shell is another user
        self.root = self.folder / "root"
        self._init: psutil.Process | None = None
        self._number = 0
        try:
            _run(str(adbd_build.RECIPE / "mkroot.sh"), str(self.root))
            self._start()
            self.set_property("ro.serialno", self.serial)
            if self._arm64:
                self.set_property("ro.product.cpu.abi", "arm64-v8a")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what it is called ---------------------------------------------------------------------------------------

    @property
    def serial(self) -> str:
        return f"STANDIN{self._number:04d}"

    @property
    def host(self) -> str:
        return f"10.231.{self._number}.2"

    @property
    def address(self) -> str:
        """Its serial at an adb server."""
        return f"{self.host}:{PORT}"

    @property
    def uri(self) -> str:
        return f"adb+tcp://{self.address}"

    # -- what happens to it --------------------------------------------------------------------------------------

    def cut(self) -> None:
        """Out of the network's reach: nothing passes, and nobody is told."""
        self.inside("ip", "link", "set", "eth0", "down", network=True)

    def mend(self) -> None:
        self.inside("ip", "link", "set", "eth0", "up", network=True)

    def restart(self) -> None:
        """adbd dies and is started again by init, as after `adb root`."""
        old = self.adbd_pid()
        psutil.Process(old).kill()
        _until(lambda: self.adbd_pid() not in (0, old) and self._listens(), "adbd did not start again")

    def reboot(self) -> None:
        """Every process ends; what starts again has another boot id. Files stay, /proc/uptime goes on."""
        self._stop()
        self._start()

    def secure(self, on: bool = True) -> None:
        """Whether it wants a key that it knows; see `person`."""
        self.set_property("ro.adb.secure", "1" if on else "0")
        self.restart()

    @contextmanager
    def person(self, answer: str = "ok", always: bool = False) -> Iterator[None]:
        """Somebody sits before its screen and answers each “Allow USB debugging?”: ok or no."""
        script, door = adbd_build.RECIPE / "dialog.py", f"/proc/{self.adbd_pid()}/root/dev/socket/adbd"
        keys = [str(self.root / "data/misc/adb/adb_keys")] if always else []
        process = subprocess.Popen([sys.executable, str(script), door, answer, *keys], stdout=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            yield
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def small(self, folder: str, size: str) -> Iterator[None]:
        """In place of this folder, a file system that holds no more than `size` (as mount takes it)."""
        self.inside("mount", "-t", "tmpfs", "-o", f"size={size},mode=1777", "none", f"{self.root}{folder}")
        try:
            yield
        finally:
            self.inside("umount", "-l", f"{self.root}{folder}")

    # -- what it says --------------------------------------------------------------------------------------------

    def set_property(self, name: str, value: str) -> None:
        file = self.root / "system/build.prop"
        kept = [line for line in file.read_text().splitlines() if not line.startswith(f"{name}=")]
        file.write_text("\n".join([*kept, f"{name}={value}"]) + "\n")

    def dumpsys(self, service: str, text: str) -> None:
        """From now on this is what `dumpsys SERVICE` prints."""
        (self.root / "data/fake/dumpsys" / service).write_text(text)

    def settings(self) -> dict[str, str]:
        """All that the framework's stand-ins keep: settings, screen, modes."""
        return {file.name: file.read_text().strip() for file in sorted((self.root / "data/fake/state").iterdir())}

    # -- how it runs ---------------------------------------------------------------------------------------------

    def processes(self, *words: str) -> list[psutil.Process]:
        """Those that run on it with these words among their arguments."""
        found = []
        for process in self._init.children(recursive=True) if self._init else []:
            with suppress(psutil.NoSuchProcess):
                if set(words) <= set(process.cmdline()):
                    found.append(process)
        return found

    def adbd_pid(self) -> int:
        """As this machine counts; 0 while there is none."""
        for process in self._init.children() if self._init else []:
            with suppress(psutil.NoSuchProcess):
                if process.name() == "adbd":
                    return int(process.pid)
        return 0

    def inside(self, *argv: str, network: bool = False) -> str:
        """A command of this machine's among the phone's mounts, or in its network."""
        assert self._init is not None
        return _run("nsenter", f"--target={self._init.pid}", "--net" if network else "--mount", *argv)

    def _start(self) -> None:
        self._claim_network()
        self._log = (self.folder / "log").open("ab")
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
        argv += ["--propagation", "private", str(adbd_build.RECIPE / "device.sh"), str(self._adbd), str(self.root)]
        argv += [str(PORT), "ADBD_UID=2000", "ADBD_AUTH_SOCKET=1", f"ADBD_ADDRESS={self.host}"]
        argv += ["QEMU_CPU=cortex-a76"]  # QEMU's default CPU computes wrong int8 results, silently
        self._outer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)
        _until(lambda: psutil.Process(self._outer.pid).children() != [], "the stand-in did not start")
        self._init = psutil.Process(self._outer.pid).children()[0]
        _run("ip", "link", "set", self._near + "p", "name", "eth0", "netns", str(self._init.pid))
        for link in ("lo", "eth0"):
            self.inside("ip", "link", "set", link, "mtu", "1500", "up", network=True)
        self.inside("ip", "address", "add", f"{self.host}/24", "dev", "eth0", network=True)
        _until(self._listens, "adbd does not listen")

    def _stop(self) -> None:
        if self._init is not None:
            self._outer.kill()  # the namespaces end with it, and everything in them
            self._outer.wait()
            self._log.close()
            self._init.wait(timeout=10)
            self._init = None
        if self._number:
            subprocess.run(["ip", "link", "delete", self._near], capture_output=True, check=False)

    @property
    def _near(self) -> str:
        return f"hphone{self._number}"

    def _claim_network(self) -> None:
        """A link of a number that nobody else has: making it is the claim. The old number is tried first."""
        for number in [self._number, *range(1, 255)] if self._number else range(1, 255):
            name = f"hphone{number}"
            argv = ["ip", "link", "add", name, "mtu", "1500", "type", "veth", "peer", "name", name + "p", "mtu", "1500"]
            if subprocess.run(argv, capture_output=True, check=False).returncode == 0:
                self._number = number
                _run("ip", "address", "add", f"10.231.{number}.1/24", "dev", name)
                _run("ip", "link", "set", name, "up")
                return
        raise RuntimeError("no network link can be made for a stand-in phone; is there a module veth?")

    def _listens(self) -> bool:
        with suppress(OSError), socket.create_connection((self.host, PORT), timeout=1):
            return True
        return False


_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_QEMU = Path("/usr/lib/binfmt.d/qemu-aarch64.conf")


def why_no_arm64() -> str | None:
    """What is missing for a phone of another architecture, or None; tells the kernel of QEMU where nobody did."""
    if (reason := why_no_phone()) is not None:
        return reason
    if shutil.which("aarch64-linux-gnu-g++") is None:
        return "there is no cross compiler here; apt-get install g++-aarch64-linux-gnu"
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(_BINFMT)], capture_output=True, check=False)
    if not (_BINFMT / "qemu-aarch64").exists():
        if not _QEMU.exists():
            return "there is no QEMU here; apt-get install qemu-user-static"
        try:
            (_BINFMT / "register").write_text(_QEMU.read_text().strip())
        except OSError as error:
            return f"this kernel runs no other architecture's programs: {error.strerror}"
    return None


class AdbServer:
    """A real adb server on a port of its own, with a key of its own; `server.uri(phone)` is for `--device`."""

    def __enter__(self) -> AdbServer:
        import adbutils

        self._adb = adbutils.adb_path()
        self.folder = Path(tempfile.mkdtemp(prefix="harness-adb-"))
        self.port = free_port()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ADB_", "ANDROID_"))}
        self._env = clean | {"HOME": str(self.folder), "ADB_MDNS_AUTO_CONNECT": "0"}
        self._log = (self.folder / "log").open("ab")
        self._server = subprocess.Popen(
            [self._adb, "-P", str(self.port), "nodaemon", "server"],
            env=self._env, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        try:
            _until(lambda: not socket.socket().connect_ex(("127.0.0.1", self.port)), "the adb server did not start")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def adb(self, *words: str) -> str:
        argv = [self._adb, "-P", str(self.port), *words]
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=60, check=False).stdout

    def uri(self, phone: Phone) -> str:
        """The phone through this server, which is connected to it first."""
        if f"{phone.address}\tdevice" not in self.adb("devices"):
            self.adb("disconnect", phone.address)
            self.adb("connect", phone.address)
            _until(lambda: f"{phone.address}\tdevice" in self.adb("devices"), "adb does not connect", 20)
        return f"adb://{phone.address}?server={self.address}"


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv[:6])} failed: {done.stderr[-1000:]}")
    return done.stdout


def _until(holds: Callable[[], bool], otherwise: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise RuntimeError(otherwise)
        time.sleep(0.05)


@pytest.fixture(scope="session")
def phone() -> Iterator[Phone]:
    """A phone that all tests of the session share; who changes what it is starts their own."""
    if (reason := why_no_phone()) is not None:
        pytest.skip(reason)
    with Phone() as device:
        yield device


@pytest.fixture(scope="session")
def arm64_phone() -> Iterator[Phone]:
    if (reason := why_no_arm64()) is not None:
        pytest.skip(reason)
    with Phone(arm64=True) as device:
        yield device


@pytest.fixture(scope="session")
def adb_server() -> Iterator[AdbServer]:
    with AdbServer() as server:
        yield server
