"""What `Run.conditions` says of a run's surroundings, read as typed values. Pure.

It is stored JSON, and much of it is what a device wrote: each value is taken only as what it must be, the rest is as
if it had not been said. Nothing here raises."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.analyze.status import number
from harness.types import Snapshot

When = Literal["before", "after"]
MAX_CPUS = 1024
MAX_ENTRIES = 4096
_MAX_KHZ = 100_000_000
_MAX_TICKS = 1 << 53
_MAX_NS = 1e13
_HEX = re.compile(r"(0x)?[0-9a-fA-F]{1,256}")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A group of CPUs with one clock. `ticks`: kHz -> time spent there since boot, in the kernel's ticks of 10 ms;
    empty where the kernel does not tell."""

    cpus: frozenset[int]
    max_khz: int | None = None
    ticks: Mapping[int, int]


def sentinel_ns(conditions: Mapping[str, Any], when: When) -> float | None:
    """The calibration kernel's median at that end of the run, in ns."""
    samples = [
        value
        for line in _lines(conditions, "sentinel", when)
        for sample in _list(line.get("samples_ns"))
        if (value := number(sample)) is not None and 1 <= value <= _MAX_NS
    ]
    return statistics.median(samples) if samples else None


def policies(conditions: Mapping[str, Any], when: When) -> dict[str, Policy]:
    """The frequency policies by name, as the runner read them at that end of its timed part."""
    found = {}
    for line in _lines(conditions, "clocks", when):
        for said in _list(line.get("policies")):
            if isinstance(said, Mapping) and isinstance(name := said.get("policy"), str):
                found[name[:40]] = Policy(
                    cpus=frozenset(cpu for c in _list(said.get("cpus")) if (cpu := whole(c, MAX_CPUS)) is not None),
                    max_khz=whole(said.get("max_khz"), _MAX_KHZ),
                    ticks=_ticks(said.get("time_in_state")),
                )
    return found


def _ticks(said: Any) -> dict[int, int]:
    found: dict[int, int] = {}
    for pair in _list(said):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            return {}
        khz, ticks = whole(pair[0], _MAX_KHZ), whole(pair[1], _MAX_TICKS)
        if khz is None or ticks is None:
            return {}  # shares of a table that is half understood would be wrong
        found[khz] = ticks
    return found


def cpu_counts(conditions: Mapping[str, Any]) -> dict[int, int]:
    """CPU -> iterations that ran on it; empty where the runner did not tell."""
    counts: dict[int, int] = {}
    for line in _lines(conditions, "placement"):
        said = line.get("cpu_counts")
        for key, value in list(said.items())[:MAX_ENTRIES] if isinstance(said, Mapping) else ():
            cpu = whole(int(key), MAX_CPUS) if isinstance(key, str) and re.fullmatch(r"[0-9]{1,4}", key) else None
            count = whole(value, _MAX_TICKS)
            if cpu is not None and count:
                counts[cpu] = counts.get(cpu, 0) + count
    return counts


def cpus_asked(conditions: Mapping[str, Any]) -> frozenset[int] | None:
    """The CPUs that the run was bound to; None for any. Where `cpu_mask` does not say what was asked for, the mask
    that the runner read back once it was set."""
    runner = conditions.get("runner")
    said = conditions.get("cpu_mask", runner.get("cpu_mask") if isinstance(runner, Mapping) else None)
    if not isinstance(said, str) or not _HEX.fullmatch(said):
        return None
    mask = int(said, 16)
    return frozenset(cpu for cpu in range(MAX_CPUS) if mask >> cpu & 1) or None


def gate_state(conditions: Mapping[str, Any]) -> Any:
    gate = conditions.get("gate")
    return gate.get("state") if isinstance(gate, Mapping) else None


def snapshot(conditions: Mapping[str, Any], when: When) -> Snapshot | None:
    """The Snapshot that was stored as a plain mapping; None where there is none. Fields that are wrong are unknown."""
    said = conditions.get(when)
    if not isinstance(said, Mapping):
        return None
    return Snapshot(
        uptime_s=number(said.get("uptime_s")),
        zones_c={k: c for k, v in _named(said.get("zones_c")) if (c := number(v)) is not None},
        skin_c=number(said.get("skin_c")),
        battery_c=number(said.get("battery_c")),
        battery_percent=whole(said.get("battery_percent"), 100),
        charging=_flag(said.get("charging")),
        thermal_status=whole(said.get("thermal_status"), 6),
        throttled=whole(said.get("throttled"), 0xFFFFFFFF),
        max_khz={k: khz for k, v in _named(said.get("max_khz")) if (khz := whole(v, _MAX_KHZ)) is not None},
        governors={k: v for k, v in _named(said.get("governors")) if isinstance(v, str)},
        loadavg=number(said.get("loadavg")),
        screen_on=_flag(said.get("screen_on")),
    )


def whole(value: Any, most: int) -> int | None:
    """A whole number from 0 to `most`, or None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _list(value: Any) -> list[Any]:
    return list(value[:MAX_ENTRIES]) if isinstance(value, list | tuple) else []


def _named(value: Any) -> list[tuple[str, Any]]:
    entries = list(value.items())[:MAX_ENTRIES] if isinstance(value, Mapping) else []
    return [(key[:80], entry) for key, entry in entries if isinstance(key, str)]


def _lines(conditions: Mapping[str, Any], kind: str, when: When | None = None) -> Iterator[Mapping[str, Any]]:
    for line in _list(conditions.get(kind)):
        if isinstance(line, Mapping) and (when is None or line.get("when") == when):
            yield line
