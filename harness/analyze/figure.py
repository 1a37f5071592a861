"""A number out of a result's metric objects, with its interval and direction: what fronts and picks reason about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.analyze.intervals import Z95
from harness.metrics import METRICS, TASK_METRICS
from harness.types import Objective

#: what is counted where it is not the repeats: more of it would narrow the interval, but not of what is made once
COUNTED = {"cold_load_ms": "cold loads", "sustained_ms": "once", "throttle_after_s": "once"}
COUNTED |= dict.fromkeys(TASK_METRICS, "samples")

#: metrics whose intervals were made on logarithms: their spread is a factor
FACTORS = frozenset((
    "latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms", "throughput_ips",
    "peak_memory_bytes",
))  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`low`/`high`: the 95 % interval, None where there is none. `factor`: spread is multiplicative (log-normal).

    `lower_is_better` is the metric's direction, for a task metric the one that the experiment gives. `samples`: how
    many values (`counted`: `samples`, `repeats`, `cold loads`, or several `seeds`) made the interval, where more would
    narrow it as 1/√n. `at_least`: the value was not reached while it was watched for; how far it goes is not known."""

    value: float
    low: float | None
    high: float | None
    factor: bool
    lower_is_better: bool
    samples: int | None = None
    counted: str = "repeats"
    at_least: bool = False

    @property
    def exact(self) -> bool:
        return self.low == self.high == self.value

    def sigma(self, upwards: bool) -> float | None:
        """Standard deviation towards one side, from that half of the interval.

        Of the logarithm for a factor, and then from its whole width: the median of the runs may lie at the edge of
        an interval of their geometric mean."""
        if self.low is None or self.high is None:
            return None
        if self.factor:
            return math.log(self.high / self.low) / (2 * Z95)
        return abs((self.high if upwards else self.low) - self.value) / Z95

    def oriented(self, value: float) -> float:
        """`value` such that less is better."""
        return value if self.lower_is_better else -value


def figure(result: Mapping[str, Any], metric: str) -> Figure | str:
    """The figure named `METRIC[.STAT]`, or the reason why there is none.

    Of a variant with several seeds it is the mean over them, with the interval that has both parts (seeds.py)."""
    name, stat = Objective(metric=metric).key
    found = result.get("metrics", {}).get(name)
    if not isinstance(found, Mapping):
        return "not measured"
    if "absent" in found:
        if name == "throttle_after_s" and (watched := _unthrottled_s(result)) is not None:
            return Figure(
                value=watched, low=watched, high=watched, factor=False, lower_is_better=False, counted="once",
                at_least=True,
            )  # fmt: skip
        return str(found["absent"])
    value = found.get(stat)
    if isinstance(value, Mapping):
        return str(value.get("absent", "not measured"))
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return f"{name} has no {stat}"
    interval = found.get("ci95") if stat == "value" else found.get("ci95_of", {}).get(stat)
    better = found.get("better") or METRICS[name].better
    counted = COUNTED.get(name, "repeats")
    samples = {"repeats": result.get("repeats"), "once": None}.get(counted, found.get("samples"))
    if seeds := found.get("seeds"):
        value, interval, samples, counted = seeds["mean"], seeds["ci95"], None, "seeds"
    low, high = map(float, interval) if isinstance(interval, list | tuple) else (None, None)
    return Figure(
        value=float(value), low=low, high=high, lower_is_better=better == "lower",
        factor=name in FACTORS and value > 0 and (low is None or low > 0),
        samples=samples if isinstance(samples, int) else None, counted=counted,
    )  # fmt: skip


def _unthrottled_s(result: Mapping[str, Any]) -> float | None:
    """For how long a device was watched that did not throttle: better than any that did in that time, not unknown."""
    watched = result["metrics"].get("sustained_ms", {}).get("unthrottled_s")
    return float(watched) if isinstance(watched, int | float) and watched > 0 else None
