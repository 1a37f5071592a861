"""What the Python API and the pytest fixture hand out: results whose figures are judged by their intervals.

    result.latency_ms.p95 < 40

is no comparison of two numbers. It holds where the interval says so with the asked confidence, fails where it says the
contrary as surely, and raises `Undecided` between: a test that is green by luck tells nobody anything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Number, Real
from typing import Any

from harness.analyze.constraints import Judged, judge
from harness.analyze.figure import Figure, figure
from harness.errors import NotMeasured, Undecided, UsageError
from harness.metrics import METRICS, metric, nearest
from harness.types import Constraint

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """Whether a figure keeps a bound: `bool(answer)`, which raises Undecided where the interval does not tell.

    Example: `(result.latency_ms < 40).probability`."""

    judged: Judged
    said: str
    by: str = ""

    @property
    def outcome(self) -> str:
        """`holds`, `fails` or `undecided`."""
        return self.judged.outcome

    @property
    def probability(self) -> float | None:
        """P(it holds), 0 to 1; None where there is no interval."""
        return self.judged.probability

    def __bool__(self) -> bool:
        if self.outcome == "undecided":
            raise Undecided(f"{self.said}: undecided{self.by}", self.judged.needs)
        return self.outcome == "holds"

    def __eq__(self, other: object) -> bool:
        """`== True` asks as `bool()` does, and raises Undecided as it does: no answer is unlike both."""
        return bool(self) is other if isinstance(other, bool) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # what equals True would need its hash

    def __repr__(self) -> str:
        return f"{self.said}: {self.outcome}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """One figure of a result, `METRIC` or `METRIC.STAT`, in its unit, with its 95 % interval.

    `value.p95` is the same metric's other statistic, where it has that. `<`, `<=`, `>`, `>=` with a number (in `unit`)
    give an `Answer`. `==` is for exact figures such as size_bytes, which are also compared with each other: a measured
    one equals nothing. `float(value)`, `round(value, 2)` and `f"{value:.2f}"` give the number alone; there is no
    arithmetic, which would lose the interval.

    Raises NotMeasured where a number is asked for and the figure is absent (`absent` is the reason), or judged and the
    result is not `ok`; UsageError for a bound that is no number.

    Example: `result.latency_ms.p95 < 40`, `result.latency_ms.ci95`, `result.energy_j.absent`."""

    metric: str
    result: Mapping[str, Any]
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        metric(self.metric)

    @property
    def absent(self) -> str | None:
        """Why it could not be measured; None where it was."""
        found = figure(self.result, self.metric)
        return found if isinstance(found, str) else _not_reached(found)

    @property
    def value(self) -> float:
        """The number, in `unit`. Raises NotMeasured where it is absent."""
        return self._figure().value

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95 % interval, in `unit`; None where there is none (one repeat). Raises NotMeasured."""
        found = self._figure()
        return None if found.low is None or found.high is None else (found.low, found.high)

    @property
    def unit(self) -> str:
        """`ms`, `bytes`, `J`, …; `1` for a plain number."""
        base = self.metric.partition(".")[0]
        return str(self.result.get("metrics", {}).get(base, {}).get("unit", METRICS[base].unit))

    @property
    def simulated(self) -> bool:
        """Whether it comes of a simulated device; what is known of the file itself, such as its size, does not."""
        found = self.result.get("metrics", {}).get(self.metric.partition(".")[0], {})
        return _simulated(self.result) and found.get("source") != "host"

    def __float__(self) -> float:
        return self.value

    def __int__(self) -> int:
        """Of exact whole numbers. Raises UsageError for another: what is measured is never a whole number."""
        found = self._figure()
        if not found.exact or not found.value.is_integer():
            raise UsageError(f"{self!r} is not a whole number", "float(value) is the number")
        return int(found.value)

    def __round__(self, digits: int | None = None) -> float:
        return round(self.value, digits)

    def __format__(self, spec: str) -> str:
        return format(int(self) if spec.endswith("d") else self.value, spec) if spec else str(self)

    def __bool__(self) -> bool:
        raise UsageError(
            f"{self.metric} by itself is neither true nor false",
            f"compare it: {self.metric} < a number of {self.unit}; or ask for its .value, or why it is .absent",
        )

    def __getattr__(self, stat: str) -> Value:
        if stat.startswith("_") or stat in self.__dataclass_fields__:  # such are asked of an unfinished copy too
            raise AttributeError(stat)
        base, _, known = self.metric.partition(".")
        if known or stat not in METRICS[base].stats:
            has = ", ".join(METRICS[base].stats) if not known else ""
            raise AttributeError(f"{self.metric} has no statistic {stat!r}" + (f"; it has: {has}" if has else ""))
        return Value(metric=f"{base}.{stat}", result=self.result, confidence=self.confidence)

    def __dir__(self) -> list[str]:
        stats = METRICS[self.metric].stats if self.metric in METRICS else ()
        return [*super().__dir__(), *stats]

    def __lt__(self, bound: float) -> Answer:
        return self._judged("<", bound)

    def __le__(self, bound: float) -> Answer:
        return self._judged("<=", bound)

    def __gt__(self, bound: float) -> Answer:
        return self._judged(">", bound)

    def __ge__(self, bound: float) -> Answer:
        return self._judged(">=", bound)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Value):
            return self is other or self._usable().value == self._exactly(other)
        if isinstance(other, bool) or not isinstance(other, Number):
            return NotImplemented  # None, …: the same object or not
        found = self._usable()
        if not found.exact or found.at_least or not isinstance(other, Real):
            raise UsageError(
                f"{self!r} and {other}: a measured value equals no number", "< or >, which ask its interval, or .value"
            )
        return found.value == other

    __hash__ = None  # type: ignore[assignment]  # what equals a number would need the number's

    def __repr__(self) -> str:
        found = figure(self.result, self.metric)
        if isinstance(found, str):
            return f"<{self.metric} absent: {found}>"
        kind = ("simulated " if self.simulated else "") + ("at least " if found.at_least else "")
        unit = "" if self.unit == "1" else f" {self.unit}"
        status = self.result.get("status", "ok")
        of = "" if status == "ok" else f", of a result that is {status}"
        return f"<{self.metric} {kind}{number(found.value)}{unit}{_interval(found)}{of}>"

    def _figure(self) -> Figure:
        found = figure(self.result, self.metric)
        if isinstance(found, str) or found.at_least:
            raise NotMeasured(f"{self.metric} of {self.result['variant']} is absent: {self.absent}")
        return found

    def _usable(self) -> Figure:
        """Raises NotMeasured for what is not `ok` as well: a fast wrong answer keeps no bound."""
        found, status = figure(self.result, self.metric), self.result.get("status", "ok")
        if isinstance(found, str):
            raise NotMeasured(f"{self.metric} of {self.result['variant']} is absent: {found}")
        if status != "ok":
            raise NotMeasured(f"{self.metric} of {self.result['variant']}: {status}: {self.result.get('reason')}")
        return found

    def _judged(self, op: Any, bound: float) -> Answer:
        limit = self._bound(op, bound)
        found = self._usable()
        judged = judge(self.result, Constraint(metric=self.metric, op=op, bound=limit), self.confidence)
        by = f" ({judged.why})" if judged.why else ""
        if judged.probability is not None:
            count = f" by {found.samples} {found.counted}" if found.samples is not None else ""
            by = f" (P {judged.probability:.3g}{count}; {self.confidence:g} is asked for)"
        return Answer(judged=judged, said=f"{self!r} {op} {limit:g}", by=by)

    def _bound(self, op: str, bound: Any) -> float:
        if isinstance(bound, Value):
            return self._exactly(bound)
        try:
            limit = math.nan if isinstance(bound, bool) or not isinstance(bound, Real) else float(bound)
        except OverflowError:
            limit = math.nan
        if math.isnan(limit):
            raise UsageError(f"{self.metric} {op} {bound!r:.80}: the bound is not a number", f"in {self.unit}")
        return limit

    def _exactly(self, other: Value) -> float:
        """The number of another figure with which this one is compared. Raises UsageError unless both are exact."""
        if not (self._usable().exact and other._usable().exact) or self.unit != other.unit:
            raise UsageError(
                f"{self.metric} is compared with another value, {other.metric}: two intervals are no bound",
                "harness.compare(base, head) tells two results apart; sort by key=lambda r: r.latency_ms.value",
            )
        return other.value


def _simulated(result: Mapping[str, Any]) -> bool:
    return bool(result.get("simulated")) or str(result.get("device_id") or "").startswith("sim://")


def _not_reached(found: Figure) -> str | None:
    return f"it was watched for {found.value:.0f} s, and it had not come by then" if found.at_least else None


def number(x: float) -> str:
    """As figures are told: four digits, thousands in full."""
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def _interval(found: Figure) -> str:
    if found.exact:
        return ""
    if found.low is None or found.high is None:
        return ", no interval"
    return f" ({number(found.low)} to {number(found.high)})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One variant's file on one device, as `run --json` has it (`document`, described in docs/contract.md).

    Each metric is an attribute, a `Value`, its unit in its name: `result.latency_ms`, `result.size_bytes`.

    Example: `assert result.status == "ok" and result.latency_ms.p95 < 40`."""

    document: Mapping[str, Any]
    confidence: float = CONFIDENCE

    @property
    def variant(self) -> str:
        return str(self.document["variant"])

    @property
    def device(self) -> str | None:
        """As the user named it; None for what could not be built."""
        return None if self.document["device"] is None else str(self.document["device"])

    @property
    def status(self) -> str:
        """`ok`, `failed`, `skipped` or `invalid`; only `ok` is ranked, and judged."""
        return str(self.document["status"])

    @property
    def reason(self) -> str | None:
        """Why it is not `ok`, or is `ok` and not ranked."""
        return None if self.document["reason"] is None else str(self.document["reason"])

    @property
    def caveats(self) -> tuple[str, ...]:
        """What stands beside its numbers: noisy, drift, …"""
        return tuple(self.document["caveats"])

    @property
    def simulated(self) -> bool:
        """Whether the device is a simulated one: then no time, memory or energy of it is measured."""
        return _simulated(self.document)

    def __getattr__(self, name: str) -> Value:
        if name not in METRICS:
            raise AttributeError(f"no metric {name!r}: {nearest(name, METRICS)}")
        return Value(metric=name, result=self.document, confidence=self.confidence)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *METRICS]

    def __repr__(self) -> str:
        told = f": {self.reason}" if self.reason else ""
        kind = "simulated " if self.simulated else ""
        return f"<{self.variant} on {kind}{self.device}, {self.status}{told}>"
