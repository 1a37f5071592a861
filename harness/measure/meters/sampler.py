"""`device_scripts/meter.sh` on a device: what there is of a meter, and its readings, as the device tells them.

All of it is data: bounded, of the right kind, and refused where it is not what the script writes."""

from __future__ import annotations

import json
import math
import re
import tempfile
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, RunnerError

MAX_BYTES = 64 << 20
LIMIT_S = 9000.0  # then the device itself ends it: longer than the longest window with its warm-up
MAX_RAILS = 64
#: /proc/uptime has steps of 0.01 s, and the shell needs some time from the stamp to the reading
STAMP_S = 0.01

_PATH = re.compile(r"(?!.*\.\.)/[A-Za-z0-9_./:+-]{1,250}|vcgencmd")
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,9})?")


@dataclass(frozen=True, kw_only=True)
class Found:
    """One line of a look. `value`: what else the meter's kind tells (device_scripts/meter.sh); `-` is None."""

    readable: bool
    path: str
    value: str | None
    name: str


@dataclass(frozen=True, kw_only=True)
class Reading:
    """`t_s`: seconds since the device's boot, just before it."""

    t_s: float
    words: tuple[str, ...]


def look(bench: Any, kind: str) -> list[Found]:
    """What the device has of this kind of meter. Raises TransportError when the link fails."""
    argv = ["sh", bench.depot.script("meter.sh"), "look", bench.spec.sysroot, kind]
    done = bench.depot.transport.run(argv)
    return looked(done.stdout[: 1 << 16].decode("utf-8", "replace"))


def looked(text: str) -> list[Found]:
    found = []
    for line in text.split("\n")[:MAX_RAILS]:
        state, _, rest = line.partition(" ")
        path, _, rest = rest.partition(" ")
        value, _, name = rest.partition(" ")
        if state in ("readable", "unreadable") and _PATH.fullmatch(path):
            told = None if value == "-" else value[:100]
            found.append(Found(readable=state == "readable", path=path, value=told, name=clean(name) or "unnamed"))
    return found


class Sampler:
    """One detached meter.sh beside the run that is metered."""

    def __init__(self, bench: Any, kind: str, period_s: float, paths: Sequence[str]) -> None:
        """Starts it, and waits until a first reading is there."""
        self._bench, self._run = bench, f"meter-{uuid.uuid4().hex}"
        argv = ["sh", bench.depot.script("meter.sh"), kind, bench.spec.sysroot, f"{period_s:g}", *paths]
        notes = json.dumps({"run": self._run, "purpose": "meter"}).encode()
        bench.depot.start(self._run, argv, notes, LIMIT_S)
        self._pause_s = 2 * period_s
        bench.depot.clock.sleep(self._pause_s)

    def stop(self) -> list[Reading]:
        """Waits for one more reading, then ends it. Raises RunnerError, and TransportError when the link fails."""
        depot = self._bench.depot
        try:
            depot.clock.sleep(self._pause_s)
            state = depot.end(self._run)
            with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
                path = Path(scratch) / "readings"
                depot.transport.pull(f"{depot.run_dir(self._run)}/result.jsonl", path)
                if path.stat().st_size > MAX_BYTES:
                    raise RunnerError(f"the meter wrote more than {MAX_BYTES >> 20} MiB")
                found = readings(path.read_bytes())
                if not found:
                    raise RunnerError(f"the meter read nothing ({state}){self._last_words(Path(scratch))}")
                return found
        finally:
            with suppress(HarnessError):  # what a dead link leaves is removed when the device is opened next
                depot.end(self._run)
                depot.remove(depot.run_dir(self._run))

    def _last_words(self, scratch: Path) -> str:
        depot = self._bench.depot
        depot.transport.pull(f"{depot.run_dir(self._run)}/stderr", scratch / "stderr")
        with (scratch / "stderr").open("rb") as stream:
            said = clean(stream.readline(400).decode("utf-8", "replace"))
        return f": {said}" if said else ""


def readings(raw: bytes) -> list[Reading]:
    """Raises RunnerError where a line is not understood, or time goes back; a last line without an end is left out."""
    out: list[Reading] = []
    for number, line in enumerate(raw.split(b"\n")[:-1]):
        words = line[:20_000].decode("utf-8", "replace").split(" ")
        stamp = decimal(words[0])
        if stamp is None or stamp < 0:
            raise RunnerError(f"line {number + 1} of the meter is not understood: {clean(' '.join(words))[:100]!r}")
        if out and stamp < out[-1].t_s:
            raise RunnerError(f"line {number + 1} of the meter: time goes back, from {out[-1].t_s:g} to {stamp:g} s")
        out.append(Reading(t_s=stamp, words=tuple(words[1:])))
    return out


def numbers(found: Sequence[Reading], count: int, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(stamps, values × `scale`, flat) of readings with `count` numbers each; one with a `-` is left out: what is
    missing then is a gap in time. Raises RunnerError for a reading of any other form."""
    stamps, values = [], []
    for reading in found:
        if len(reading.words) != count:
            raise RunnerError(f"the meter gave {len(reading.words)} values at {reading.t_s:g} s, not {count}")
        if "-" in reading.words:
            continue
        row = [decimal(word) for word in reading.words]
        if None in row:
            raise RunnerError(f"the meter's values are no numbers: {clean(' '.join(reading.words))[:100]!r}")
        stamps.append(reading.t_s)
        values += [value * scale for value in row if value is not None]
    if not stamps:
        raise RunnerError("the meter could not be read during the run")
    return tuple(stamps), tuple(values)


def decimal(word: str) -> float | None:
    """A number as the kernel writes it; None for anything else."""
    if not _NUMBER.fullmatch(word):
        return None
    value = float(word)
    return value if math.isfinite(value) else None


def clean(text: str) -> str:
    return "".join(c for c in text[:200] if c.isprintable()).strip()


def unreadable(found: Sequence[Found], what: str, remedy: str) -> str | None:
    """Why none of what was found can be read, or None where all can."""
    if not found:
        return f"this device has no {what}"
    shut = [one.name for one in found if not one.readable]
    return f"this login may not read {', '.join(shut[:4])} ({remedy})" if shut else None


def chosen(found: Sequence[Found], wanted: Sequence[str]) -> list[Found] | str:
    """Those that the device's entry names under `rails`, or all; or why that cannot be."""
    names = [one.name for one in found]
    if missing := [name for name in wanted if name not in names]:
        return f"it has no rail {missing[0]!r}, only: {', '.join(names[:12]) or 'none'}"
    return [one for one in found if one.name in wanted] if wanted else list(found)


def rails_of(bench: Any) -> tuple[str, ...]:
    return tuple(bench.spec.energy.get("rails") or ())


def calibration(bench: Any, usual: float) -> float:
    """One standard deviation of the meter's calibration, as a fraction: the user's own figure, or the usual one."""
    return float(bench.spec.energy.get("uncertainty") or usual)
