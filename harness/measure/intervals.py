"""The `interval` lines of a sustained run -> arrays, one value per interval (of about a second)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.errors import RunnerError
from harness.measure.runner import Lines

Arrays = dict[str, "np.ndarray[Any, Any]"]

MOST_SAMPLES = 64  # of an interval, its first ones
LONGEST_NS = 2**62
INTERVAL_NS = 1_000_000_000
STOPPED_NS = 2_000_000_000  # reading many slow sensors between two intervals takes less
COLDEST_MC, HOTTEST_MC = -40_000, 150_000  # a sensor beyond them is broken, or shows something else
FASTEST_KHZ = 100_000_000


def arrays(lines: Lines) -> Arrays:
    """Of every interval, in order, `sustained_…`:

    `t_s` its centre since the start of the first, `length_s`, `iterations`, `p50_ms` of its first ≤ 64 inferences,
    `mean_ms` of all of them; `counts` how many raw samples it has, `ns` these samples, one interval after the other.
    Where at least one interval tells it: `c` the hottest zone in °C, `khz` the highest clock; `c_index` and
    `khz_index` say of which intervals.
    Raises RunnerError for lines that no runner of ours writes."""
    found = lines.all("interval")
    if not found:
        return {}
    for number, line in enumerate(found):
        _check(line, number)
    start, end = (np.asarray([line[key] for line in found], np.int64) for key in _STAMPS)
    if (start[1:] < end[:-1]).any():
        raise RunnerError("an interval of the runner's begins before the last one ended")
    iterations = np.asarray([line["iterations"] for line in found], np.uint64)
    sums = np.asarray([line["sum_ns"] for line in found], np.float64)
    out: Arrays = {
        "t_s": ((start - start[0]) + (end - start[0])) / 2e9,
        "length_s": (end - start) / 1e9,
        "iterations": iterations,
        "p50_ms": np.asarray([float(np.median(line["samples_ns"])) / 1e6 for line in found]),
        "mean_ms": sums / iterations / 1e6,
        "ns": np.concatenate([np.asarray(line["samples_ns"], np.uint64) for line in found]),
        "counts": np.asarray([len(line["samples_ns"]) for line in found], np.uint64),
        **_told("c", [_hottest_c(line.get("zones_mc")) for line in found], np.dtype(np.float64)),
        **_told("khz", [_fastest_khz(line.get("clocks_khz")) for line in found], np.dtype(np.uint64)),
    }
    return {f"sustained_{name}": values for name, values in out.items()}


_STAMPS = ("start_boottime_ns", "end_boottime_ns")


def stopped(lines: Lines) -> str | None:
    """Why the run was not one load without a pause: an interval that took far longer than its second and its longest
    inference, or a pause between two of them. CLOCK_BOOTTIME goes on while a device sleeps; None where all is well."""
    found = lines.all("interval")
    long = sum(line["end_boottime_ns"] - line["start_boottime_ns"] > _allowed_ns(line) for line in found)
    long += sum(b["start_boottime_ns"] - a["end_boottime_ns"] > STOPPED_NS for a, b in pairwise(found))
    return f"suspended: the device slept, or stopped the runner, in {long} of {len(found)} intervals" if long else None


def _allowed_ns(line: Mapping[str, Any]) -> int:
    """An interval ends with the inference that is under way when its second is over."""
    return INTERVAL_NS + 2 * int(line["max_ns"]) + STOPPED_NS


def _check(line: Mapping[str, Any], number: int) -> None:
    samples = line.get("samples_ns")
    whole = ("index", *_STAMPS, "iterations", "sum_ns", "min_ns", "max_ns")
    sound = (
        all(_whole(line.get(key)) for key in whole)
        and isinstance(samples, list)
        and 1 <= len(samples) <= MOST_SAMPLES
        and all(_whole(value) for value in samples)
        and line["index"] == number
        and line[_STAMPS[0]] < line[_STAMPS[1]]
        and len(samples) <= line["iterations"]
        and line["min_ns"] <= min(samples) <= max(samples) <= line["max_ns"]
        and line["min_ns"] * line["iterations"] <= line["sum_ns"] <= line["max_ns"] * line["iterations"]
    )
    if not sound:
        raise RunnerError(f"interval {number} of the runner's output contradicts itself")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LONGEST_NS


def _hottest_c(zones: Any) -> float | None:
    """°C of the hottest thermal zone that can be believed."""
    known = _within(zones, COLDEST_MC, HOTTEST_MC)
    return max(known) / 1000 if known else None


def _fastest_khz(clocks: Any) -> int | None:
    known = _within(clocks, 1, FASTEST_KHZ)
    return max(known) if known else None


def _within(said: Any, least: int, most: int) -> list[int]:
    values = said.values() if isinstance(said, Mapping) else ()
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool) and least <= v <= most]


def _told(name: str, values: Sequence[float | None], dtype: np.dtype[Any]) -> Arrays:
    """Two arrays, of what was told and of which intervals; none where nothing was told."""
    known = {i: value for i, value in enumerate(values) if value is not None}
    if not known:
        return {}
    return {name: np.asarray(list(known.values()), dtype), f"{name}_index": np.asarray(list(known), np.uint64)}
