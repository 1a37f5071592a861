"""The scripts that run on devices, under every shell that a device may have."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from harness.paths import device_scripts_dir

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash"],
    "mksh": ["mksh"],  # Android's
    "busybox": ["busybox"],
}
#: what the scripts call; busybox's and toybox's own differ from coreutils
TOOLS = (
    *("sha256sum", "df", "du", "ls", "tail", "touch", "mkdir", "mv", "rm", "tar", "gzip", "sleep", "cat", "setsid"),
    *("sed", "tr", "grep", "head", "ln", "readlink", "date", "timeout", "sync", "tee"),
)


class Device:
    """A PATH with this shell as `sh`, and its own tools where it brings some."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir(parents=True)
        program = shutil.which(shell)
        assert program is not None
        (self.bin / "sh").symlink_to(program)
        tools = {"busybox": "busybox", "mksh": "toybox"}.get(shell)
        if tools is not None and (box := shutil.which(tools)):
            known = subprocess.run([box, *(["--list"] if tools == "busybox" else [])], capture_output=True, text=True)
            for tool in TOOLS:
                if tool in known.stdout.split():
                    (self.bin / tool).symlink_to(box)

    def run(self, script: str, *words: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [str(self.bin / "sh"), str(device_scripts_dir() / script), *words],
            input=stdin, capture_output=True, env={"PATH": f"{self.bin}:/usr/bin:/bin"}, timeout=60,
        )  # fmt: skip
        assert not done.stderr, done.stderr
        return done.stdout.decode().strip()


@pytest.fixture(params=SHELLS)
def device(request: pytest.FixtureRequest, tmp_path: Path) -> Device:
    if shutil.which(request.param) is None:
        pytest.skip(f"apt-get install {request.param}")
    return Device(request.param, tmp_path / "a device")


def ended(device: Device, folder: Path) -> str:
    for _ in range(300):
        if (state := device.run("runs.sh", "poll", str(folder))) not in ("waiting", "running"):
            return state
        time.sleep(0.05)
    raise AssertionError("it did not end")


def test_a_process_is_started_detached_and_says_how_it_ended(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    device.run("runs.sh", "start", str(folder), "60", "sh", "-c", 'echo "$1"; exit 7', "x", "a 'b' $(c)", stdin=b"{}")
    assert ended(device, folder) == "exit 7"
    assert (folder / "result.jsonl").read_text() == "a 'b' $(c)\n"
    assert (folder / "notes.json").read_bytes() == b"{}"


def test_a_hung_process_is_killed_on_the_device_without_any_host(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    device.run("runs.sh", "start", str(folder), "1", "sleep", "4713")
    assert ended(device, folder) == "deadline"
    assert subprocess.run(["pgrep", "-f", "sleep 4713"], capture_output=True).returncode == 1


def test_the_watchdog_goes_with_its_process(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    device.run("runs.sh", "start", str(folder), "4714", "sleep", "0.5")
    assert ended(device, folder) == "exit 0"
    for _ in range(40):
        if subprocess.run(["pgrep", "-f", "sleep 4714"], capture_output=True).returncode == 1:
            return
        time.sleep(0.05)
    raise AssertionError("the watchdog's sleep is left behind")


def test_end_kills_and_what_is_ended_cannot_begin(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    device.run("runs.sh", "start", str(folder), "60", "sleep", "4715")
    while device.run("runs.sh", "poll", str(folder)) == "waiting":
        time.sleep(0.02)
    assert device.run("runs.sh", "end", str(folder)) == "lost"
    assert subprocess.run(["pgrep", "-f", "sleep 4715"], capture_output=True).returncode == 1


def test_a_reboot_is_noticed(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    device.run("runs.sh", "start", str(folder), "60", "sleep", "4716")
    while device.run("runs.sh", "poll", str(folder)) == "waiting":
        time.sleep(0.02)
    pid = (folder / "pid").read_text()
    (folder / "pid").write_text(" ".join([*pid.split()[:2], "another-boot"]) + "\n")
    assert device.run("runs.sh", "poll", str(folder)) == "rebooted"
    (folder / "pid").write_text(pid)
    device.run("runs.sh", "end", str(folder))


def test_only_what_arrived_right_takes_its_place(device: Device, tmp_path: Path) -> None:
    partial, target = tmp_path / "a partial", tmp_path / "a target"
    digest = hashlib.sha256(b"right").hexdigest()
    for content, answer in ((b"wrong", "damaged"), (b"", "damaged"), (b"right", "ok")):
        partial.write_bytes(content)
        assert device.run("store.sh", "receive", str(partial), str(target), digest) == answer
        assert not partial.exists()
    assert target.read_bytes() == b"right"
    assert device.run("store.sh", "receive", str(partial), str(target), digest) == "ok"  # asked twice
    assert device.run("store.sh", "receive", str(partial), str(tmp_path / "else"), digest) == "missing"


def test_room_is_made_by_least_recent_use_and_only_of_our_own(device: Device, tmp_path: Path) -> None:
    folder = tmp_path / "work dir"
    for part in ("store", "bundles"):
        (folder / part).mkdir(parents=True)
    names = [f"{i:064x}" for i in range(4)]
    for age, name in enumerate(reversed(names)):  # the first is the youngest
        path = folder / "store" / f"{name}.pte"
        path.write_bytes(b"x" * 300_000)
        subprocess.run(["touch", "-d", f"@{1_000_000_000 + age * 1000}", str(path)], check=True)
    (folder / "store" / "theirs").write_bytes(b"x" * 300_000)
    budget = 5 * 300_000 // 1024  # five such files and no more: one must go for one that comes
    said = device.run("store.sh", "room", str(folder), "350", str(budget), f"{names[3]}.pte")
    assert f"removed {names[2]}.pte" in said  # the oldest is needed: the next one goes
    left = {path.name for path in (folder / "store").iterdir()}
    assert {"theirs", f"{names[3]}.pte", f"{names[0]}.pte"} <= left
    assert f"{names[2]}.pte" not in left
    assert said.splitlines()[-1].split()[0] == "free"


def test_a_parcel_is_unpacked(device: Device, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.so").write_bytes(b"elf")
    subprocess.run(["tar", "-czf", "parcel", "lib/a.so"], cwd=tmp_path, check=True)
    said = device.run("store.sh", "unpack", str(tmp_path / "parcel"), str(tmp_path / "a bundle"))
    assert said == "ok"
    assert (tmp_path / "a bundle" / "lib" / "a.so").read_bytes() == b"elf"
