"""Minutes of the same inference: latency, temperature and clock over time, and when the device began to slow down.

Pure. The latency of an interval (about a second) is the median of its first inferences. *Minute 1* is the median of
the intervals in the first 60 s, *the end* that of the last 60 s; of a run under 3 minutes, of its first and its last
third.

**Throttling.** The rolling median over 10 s, centred, is compared with its lowest value in the first 30 s (what the
device can do, warmed up and not yet hot: a boost that ends after 15 s is seen, a slow start is not taken for it).
From where it is 10 % above that, for at least 20 s on end, the device throttles (the bursts of a busy computer are
shorter: with 10 s, one in twenty simulated ones that did not throttle was said to). In a centred window a step shows
where it is; the interval of the moment is the window's half to either side. Whatever makes the same inference slower
for so long counts, another program that takes the processor too: temperature and clock are beside it for that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.analyze.intervals import batch_interval
from harness.analyze.measured import MetricObject, absent, metric_object, why_none
from harness.analyze.rows import Planned, Row
from harness.analyze.stats import Floats, finite
from harness.analyze.status import number
from harness.errors import RunnerError
from harness.types import Run

WINDOW_S = 60.0  # minute 1 and the end
ROLLING_S = 10.0
REFERENCE_S = 30.0
SLOWER = 1.10
LASTS_S = 20.0
SHORTEST_S = 60.0  # a shorter run has no time to show it
MOST_POINTS = 200

WITHIN_ONE_RUN = "within one run"
TOO_FEW = "fewer than 40 intervals of a second"


def summary(run: Run) -> Mapping[str, Any]:
    """`Run.summary` of a sustained run, from its arrays (measure/intervals.py).

    seconds, inferences, window_s; minute1_ms, end_ms, and of each `…_ci95` over batches of time (None for too few);
    ratio of the end to minute 1; throttle_after_s, None where it did not; points: at most 200 of t_s, latency_ms, and
    c and khz, None where they were not told.
    Raises RunnerError for a run without intervals, or with impossible ones."""
    t, latency, length = (finite(run.arrays.get(f"sustained_{key}", ()), key) for key in ("t_s", "p50_ms", "length_s"))
    if not t.size == latency.size == length.size or (np.diff(t) <= 0).any() or latency.min() <= 0:
        raise RunnerError("the intervals of the sustained run contradict each other")
    seconds = float(t[-1] + length[-1] / 2)
    window = min(WINDOW_S, seconds / 3)
    first, last = latency[t <= window], latency[t >= seconds - window]
    first, last = first if first.size else latency[:1], last if last.size else latency[-1:]
    minute1, end = float(np.median(first)), float(np.median(last))
    return {
        "seconds": seconds,
        "inferences": int(finite(run.arrays.get("sustained_iterations", ()), "iterations").sum()),
        "window_s": window,
        "minute1_ms": minute1,
        "minute1_ci95": batch_interval(first),
        "end_ms": end,
        "end_ci95": batch_interval(last),
        "ratio": end / minute1,
        "throttle_after_s": throttle_after_s(t, latency, length),
        "points": _points(run, t, latency),
    }


def throttle_after_s(t: Floats, latency: Floats, length: Floats) -> float | None:
    """Seconds from the start to where the device began to throttle (see above); None where it did not.

    `t`: centres of the intervals in s, `length`: theirs in s, all of shape (intervals,)."""
    rolling = rolling_median(t, latency)
    early = np.flatnonzero((t >= ROLLING_S / 2) & (t <= REFERENCE_S - ROLLING_S / 2))
    reference = int(early[np.argmin(rolling[early])]) if early.size else 0
    slow = rolling >= SLOWER * rolling[reference]
    begun: int | None = None
    for i in range(reference + 1, t.size):
        if not slow[i]:
            begun = None
            continue
        begun = i if begun is None else begun
        if t[i] - t[begun] >= LASTS_S - length[begun]:  # both ends count as whole intervals
            return float(t[begun] - length[begun] / 2)
    return None


def rolling_median(t: Floats, values: Floats) -> Floats:
    """Median of the values within ROLLING_S / 2 of each moment; at the run's ends, of the half that is there."""
    low = np.searchsorted(t, t - ROLLING_S / 2, side="left")
    high = np.searchsorted(t, t + ROLLING_S / 2, side="right")
    return np.asarray([np.median(values[a:b]) for a, b in zip(low, high, strict=True)])


def _points(run: Run, t: Floats, latency: Floats) -> list[dict[str, float | None]]:
    """Neighbours in groups where there are more than MOST_POINTS: their mean time and their medians."""
    celsius, khz = (_by_interval(run, name, t.size) for name in ("c", "khz"))
    each = math.ceil(t.size / MOST_POINTS)
    return [
        {
            "t_s": float(t[i : i + each].mean()),
            "latency_ms": float(np.median(latency[i : i + each])),
            "c": _known_median(celsius[i : i + each]),
            "khz": _known_median(khz[i : i + each]),
        }
        for i in range(0, t.size, each)
    ]


def _by_interval(run: Run, name: str, size: int) -> Floats:
    """What each interval told, NaN where it told nothing (never stored so)."""
    out = np.full(size, np.nan)
    values = np.asarray(run.arrays.get(f"sustained_{name}", ()), np.float64)
    index = np.asarray(run.arrays.get(f"sustained_{name}_index", ()), np.int64)
    if values.size != index.size or (index < 0).any() or (index >= size).any():
        raise RunnerError(f"the {name} of the sustained run is not of its intervals")
    out[index] = values
    return out


def _known_median(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def sustained(row: Row, planned: Planned) -> dict[str, MetricObject]:
    """`sustained_ms` (its value is the end) and `throttle_after_s`, of the cell's one sustained run.

    A device that did not throttle has no moment at which it did: that metric is absent, says so, and
    `sustained_ms.unthrottled_s` is how long it was watched; as an objective it counts as at least that
    (figure.py). One run has no interval between runs: `interval` says of what `ci95` is."""
    if why := _why_none(row, planned):
        return dict.fromkeys(("sustained_ms", "throttle_after_s"), absent(why))
    found = row.counted("sustained")[-1].summary
    minute1, end, seconds = (number(found.get(key)) for key in ("minute1_ms", "end_ms", "seconds"))
    if minute1 is None or end is None or seconds is None:
        return dict.fromkeys(("sustained_ms", "throttle_after_s"), absent("the run has no summary"))
    moment = number(found.get("throttle_after_s"))
    long_enough = seconds >= SHORTEST_S * 0.99  # the last interval ends a little early or late
    intervals = {"minute1": _interval(found.get("minute1_ci95")), "end": _interval(found.get("end_ci95"))}
    own = intervals["end"]
    more = {
        "minute1": minute1, "end": end, "ratio": end / minute1, "seconds": seconds, "window_s": found.get("window_s"),
        "unthrottled_s": _watched_s(seconds, planned) if moment is None and long_enough else None,
        "interval": WITHIN_ONE_RUN,
        "ci95_of": {stat: absent(TOO_FEW) if ci is None else list(ci) for stat, ci in intervals.items()},
    }  # fmt: skip
    return {
        "sustained_ms": metric_object(
            "sustained_ms", end, own, "runner", why_no_ci=TOO_FEW, samples=found.get("inferences"), **more
        ),
        "throttle_after_s": _throttling(moment, seconds, long_enough),
    }


def _throttling(moment: float | None, seconds: float, long_enough: bool) -> MetricObject:
    if moment is not None:
        low, high = max(0.0, moment - ROLLING_S / 2), min(seconds, moment + ROLLING_S / 2)
        return metric_object("throttle_after_s", moment, (low, high), "derived", interval=WITHIN_ONE_RUN)
    if not long_enough:
        return absent(f"{seconds:.0f} s are too short to see it: sustained_minutes of at least 1")
    return absent(f"it did not throttle in {seconds / 60:.3g} minutes")


def _watched_s(seconds: float, planned: Planned) -> float:
    """The time that was asked for, the same for all variants: a last inference more or less is no merit."""
    asked = 60 * (planned.sustained_minutes or math.inf)
    return asked if seconds >= 0.99 * asked else seconds


def _why_none(row: Row, planned: Planned) -> str | None:
    if row.counted("sustained"):
        return None
    if planned.sustained_minutes is None:
        return "sustained_minutes not asked for"
    return "a quick session measures none" if planned.quick else why_none(row, "sustained")


def _interval(said: Any) -> tuple[float, float] | None:
    if not isinstance(said, list | tuple) or len(said) != 2:
        return None
    low, high = (number(value) for value in said)
    return None if low is None or high is None else (low, high)
