"""Any meter that a program on this computer reads: it prints a header, then a line a reading (docs/energy.md).

    t_s,watts          or      t_s,joules
    0.000,3.21                 0.000,0.0

The times are the program's own; what matters is their differences. They are brought to this computer's clock by when
the lines arrive (the promptest line counts), and to the device's by asking it for its time, before and behind."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

from harness.clock import WALL, clock_of, stopping
from harness.errors import RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.meters import sampler

UNCERTAINTY = 0.01
HEADERS = {"t_s,watts": "power", "t_s,joules": "counter"}
MAX_LINE, MAX_LINES = 200, 2_000_000
FIRST_LINE_S = 10.0  # in which a program must have begun
#: how far the program's time may be from this computer's: lines that arrive late, and a clock of its own
LATE_S, CLOCK = 0.5, 0.01
ASKED = 5  # times that the device is asked for its time; the quickest answer counts

_LINE = re.compile(r"(-?[0-9]{1,12}(?:\.[0-9]{1,12})?),(-?[0-9]{1,12}(?:\.[0-9]{1,12})?(?:e-?[0-9]{1,2})?)")


class Exec:
    def __init__(self) -> None:
        self._lines: list[tuple[float, bytes]] = []  # when it arrived, what it is

    def unfit(self, bench: Any) -> str | None:
        command = bench.spec.energy.get("command")
        if not command:
            return "the device's entry has no energy: {command: […]}"
        if shutil.which(command[0]) is None:
            return f"there is no program {command[0]!r} on this computer"
        if clock_of(bench.depot.transport) is not WALL:
            return "a real meter cannot watch a simulated device"
        return None

    def start(self, bench: Any) -> None:
        self._bench, self._uncertainty = bench, sampler.calibration(bench, UNCERTAINTY)
        self._before = clock_offset(bench)
        # a pipe that nobody reads would stop a program that talks
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # open until the trace is read
        try:
            self._process = subprocess.Popen(
                list(bench.spec.energy["command"]),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,  # its children end with it
            )
        except OSError as error:
            raise RunnerError(f"the meter's program cannot be started: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        began = time.monotonic()
        while len(self._lines) < 3 and self._waits(began + FIRST_LINE_S):
            bench.depot.clock.sleep(0.05)

    def _read(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        while len(self._lines) < MAX_LINES and (line := stream.readline(MAX_LINE)):
            self._lines.append((time.monotonic(), line))

    def stop(self) -> EnergyTrace:
        try:
            last = self._lines[-1][0] if self._lines else 0.0
            until = time.monotonic() + 1.0  # one more line, or two
            while self._waits(until) and self._tail() <= last:
                self._bench.depot.clock.sleep(0.05)
            code = self._process.poll()
        finally:
            self._end()
        if code is not None:
            raise RunnerError(f"the meter's program ended by itself, with exit {code}{self._last_words()}")
        return trace(self._lines, [self._before, clock_offset(self._bench)], self._uncertainty)

    def _waits(self, until: float) -> bool:
        return self._process.poll() is None and not stopping.is_set() and time.monotonic() < until

    def _tail(self) -> float:
        return self._lines[-1][0] if self._lines else 0.0

    def _end(self) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        self._reader.join(1.0)

    def _last_words(self) -> str:
        self._stderr.seek(0)
        said = sampler.clean(self._stderr.readline(400).decode("utf-8", "replace"))
        return f": {said}" if said else ""


def clock_offset(bench: Any) -> tuple[float, float]:
    """(What to add to this computer's monotonic time to have the device's time since boot, how far off it may be), in
    seconds."""
    best: tuple[float, float] | None = None
    for _ in range(ASKED):
        before = time.monotonic()
        done = bench.depot.transport.run(["cat", "/proc/uptime"])
        after = time.monotonic()
        uptime = sampler.decimal(done.stdout[:40].decode("ascii", "replace").partition(" ")[0])
        if uptime is None:
            raise RunnerError("the device does not tell its time (/proc/uptime)")
        found = (uptime - (before + after) / 2, (after - before) / 2 + sampler.STAMP_S)
        best = found if best is None or found[1] < best[1] else best
    assert best is not None
    return best


def trace(
    lines: list[tuple[float, bytes]], offsets: list[tuple[float, float]], uncertainty: float = UNCERTAINTY
) -> EnergyTrace:
    """`lines`: (host's time of arrival, the line). Raises RunnerError."""
    kind, arrived, told, values = _understood(lines)
    if len(told) < 3:
        raise RunnerError(f"the meter's program gave {len(told)} readings")
    took, said = arrived[-1] - arrived[0], told[-1] - told[0]
    if took > 5.0 and abs(said - took) > LATE_S + CLOCK * took:
        raise RunnerError(f"the meter's program counts {said:g} s where {took:g} s pass")
    prompt = min(a - t for a, t in zip(arrived, told, strict=True))  # any delay of a line only makes it later
    (one, one_off), (two, two_off) = offsets[0], offsets[-1]
    shift = prompt + (one + two) / 2
    gaps = sorted(b - a for a, b in itertools.pairwise(told))
    return EnergyTrace(
        kind="power" if kind == "power" else "counter",
        clock="mapped",
        rails=("external",),
        t_s=tuple(t + shift for t in told),
        values=tuple(values),
        period_s=gaps[len(gaps) // 2],
        uncertainty=uncertainty,
        clock_s=max(one_off, two_off) + abs(one - two) / 2,
        notes={"covers": "whatever the meter is connected to"},
    )


def _understood(lines: list[tuple[float, bytes]]) -> tuple[str, list[float], list[float], list[float]]:
    if not lines:
        raise RunnerError("the meter's program printed nothing; does it flush its lines?")
    header = "".join(lines[0][1].decode("utf-8", "replace").split())
    if header not in HEADERS:
        raise RunnerError(f"the meter's program began with {sampler.clean(header)[:80]!r}, not t_s,watts or t_s,joules")
    arrived: list[float] = []
    told: list[float] = []
    values: list[float] = []
    body = lines[1:] if lines[-1][1].endswith(b"\n") else lines[1:-1]  # cut off in the middle when it was ended
    for number, (at, line) in enumerate(body):
        match = _LINE.fullmatch(line.decode("utf-8", "replace").replace(" ", "").strip())
        if match is None:
            what = sampler.clean(line.decode("utf-8", "replace"))[:80]
            raise RunnerError(f"line {number + 2} of the meter's program is not understood: {what!r}")
        if told and float(match[1]) <= told[-1]:
            raise RunnerError(f"line {number + 2} of the meter's program: its time does not go on")
        arrived.append(at)
        told.append(float(match[1]))
        values.append(float(match[2]))
    return HEADERS[header], arrived, told, values


_: type[Meter] = Exec
