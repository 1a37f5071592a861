"""The state of one simulated device: its clock, its body, its files, its processes. It lives as long as this process.

Time is the device's own: it passes when somebody sleeps by its clock or asks it something, and by nothing else."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from harness.clock import Clock, stopping
from harness.sim.address import Address, parse
from harness.sim.heat import Timeline
from harness.sim.noise import Bursts

UP_S = 3600.0  # it has been on for an hour when it is first seen
CALL_S = 0.01  # what a question over its link takes
HOME = "/home/sim"


@dataclass(frozen=True, kw_only=True)
class File:
    """A file on the device: what was pushed stays where it is on the host, what the device wrote is held here."""

    local: Path | None = None
    data: bytes = b""
    script: str | None = None  # the name of the harness's own script that this is

    @property
    def sha256(self) -> str:
        if self.local is None:
            return hashlib.sha256(self.data).hexdigest()
        stat = self.local.stat()
        return _file_sha256(self.local, stat.st_size, stat.st_mtime_ns)

    def read(self) -> bytes:
        return self.data if self.local is None else self.local.read_bytes()


@lru_cache(maxsize=4096)
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(kw_only=True)
class Process:
    """A detached process, its whole course computed when it began. `lines`: (when it is written, a line of stdout)."""

    argv: Sequence[str]
    start_t: float
    end_t: float
    exit_code: int = 0
    lines: list[tuple[float, bytes]] = field(default_factory=list)
    stderr: bytes = b""
    files: dict[str, File] = field(default_factory=dict)
    runner: bool = False
    killed: str | None = None  # "deadline", or "kill"

    def stdout(self, t: float) -> bytes:
        last = min(t, self.end_t)
        return b"".join(line for when, line in self.lines if when <= last)


class World:
    """All access holds `lock`."""

    def __init__(self, address: Address) -> None:
        self.address, self.profile = address, address.profile
        self.lock = threading.RLock()
        self.t = UP_S
        self.slept_s = 0.0
        self.files: dict[str, File] = {}
        self.folders: set[str] = set()
        self.sound: dict[Path | None, dict[str, Any]] = {}  # real models that were loaded: what they say of themselves
        self.processes: dict[str, Process] = {}
        self.lease: tuple[str, str, float, str] | None = None  # host, token, until, label
        self.started = 0  # processes so far
        self.calls = np.random.default_rng([address.seed, 3])
        self.bursts = Bursts(self.profile, np.random.default_rng([address.seed, 2]))
        self.timeline = Timeline(self.profile)
        self.timeline.extend(self.t, lambda level: self.profile.idle_w, UP_S)
        self.gauge_scale = 1.0 + self.profile.gauge_error * float(np.random.default_rng([address.seed, 4]).normal())
        self.boot_id = hashlib.blake2s(address.uri.encode(), digest_size=16).hexdigest()
        self.clock: Clock = VirtualClock(self)

    def advance(self, seconds: float) -> None:
        with self.lock:
            self.t += max(0.0, seconds)

    def rng(self) -> np.random.Generator:
        """Chance for the next process: the same for the nth process of each course."""
        self.started += 1
        return np.random.default_rng([self.address.seed, 1, self.started])

    def remove(self, path: str) -> None:
        """The file or folder, with all below it."""
        self.files = {name: file for name, file in self.files.items() if not _below(name, path)}
        self.processes = {name: held for name, held in self.processes.items() if not _below(name, path)}

    def running(self, process: Process) -> bool:
        return process.killed is None and self.t < process.end_t

    def kill(self, process: Process, why: str) -> None:
        if self.running(process):
            process.killed, process.end_t = why, self.t
            if process.runner:
                self.timeline.begin(self.t)


def _below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")


class VirtualClock:
    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.t

    def sleep(self, seconds: float) -> None:
        if not stopping.is_set():
            self._world.advance(seconds)


_worlds: dict[str, World] = {}
_making = threading.Lock()


def world(uri: str) -> World:
    """The device at this URI, as it was left. Raises UsageError for what is none."""
    with _making:
        if uri not in _worlds:
            _worlds[uri] = World(parse(uri))
        return _worlds[uri]


def forget(uri: str) -> None:
    """The device as new; what held it is gone."""
    with _making:
        _worlds.pop(uri, None)


_: type[Clock] = VirtualClock
