"""What the Python API and the pytest fixture hand out: results whose figures are judged by their intervals.

    result.latency_ms.p95 < 40

is no comparison of two numbers. It holds where the interval says so with the asked confidence, fails where it says the
contrary as surely, and raises `Undecided` between: a test that is green by luck tells nobody anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.analyze.constraints import Judged, judge
from harness.analyze.figure import Figure, figure
from harness.errors import NotMeasured, Undecided, UsageError
from harness.metrics import METRICS, nearest
from harness.types import Constraint

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether a figure keeps a bound. Its truth value raises Undecided where the interval does not tell."""

    judged: Judged
    said: str

    @property
    def outcome(self) -> str:
        """`holds`, `fails` or `undecided`."""
        return self.judged.outcome

    @property
    def probability(self) -> float | None:
        """P(it holds); None where there is no figure or no interval."""
        return self.judged.probability

    def __bool__(self) -> bool:
        if self.outcome == "undecided":
            raise Undecided(f"{self.said}: undecided", self.judged.needs)
        return self.outcome == "holds"

    def __repr__(self) -> str:
        return f"{self.said}: {self.outcome}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """One figure of a result, `METRIC` or `METRIC.STAT`, in its unit, with its 95 % interval.

    `value.p95` is the same metric's other statistic, where it has that. `<`, `<=`, `>`, `>=` with a number give an
    `Answer`. Where the figure is absent, `absent` is the reason, and asking for the number raises NotMeasured."""

    metric: str
    result: Mapping[str, Any]
    confidence: float = CONFIDENCE

    @property
    def absent(self) -> str | None:
        """Why it could not be measured; None where it was."""
        found = figure(self.result, self.metric)
        return found if isinstance(found, str) else None

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
        base = self.metric.partition(".")[0]
        return str(self.result.get("metrics", {}).get(base, {}).get("unit", METRICS[base].unit))

    def __float__(self) -> float:
        return self.value

    def __getattr__(self, stat: str) -> Value:
        base, _, known = self.metric.partition(".")
        if known or stat not in METRICS[base].stats:
            has = ", ".join(METRICS[base].stats) if not known else ""
            raise AttributeError(f"{self.metric} has no statistic {stat!r}" + (f"; it has: {has}" if has else ""))
        return Value(metric=f"{base}.{stat}", result=self.result, confidence=self.confidence)

    def __lt__(self, bound: float) -> Answer:
        return self._judged("<", bound)

    def __le__(self, bound: float) -> Answer:
        return self._judged("<=", bound)

    def __gt__(self, bound: float) -> Answer:
        return self._judged(">", bound)

    def __ge__(self, bound: float) -> Answer:
        return self._judged(">=", bound)

    def __repr__(self) -> str:
        found = figure(self.result, self.metric)
        if isinstance(found, str):
            return f"<{self.metric} absent: {found}>"
        interval = "" if found.low is None else f" ({found.low:.4g} to {found.high:.4g})"
        return f"<{self.metric} {found.value:.4g}{self._spelt()}{interval}>"

    def _figure(self) -> Figure:
        found = figure(self.result, self.metric)
        if isinstance(found, str):
            raise NotMeasured(f"{self.metric} of {self.result['variant']} is absent: {found}")
        return found

    def _judged(self, op: Any, bound: float) -> Answer:
        if isinstance(bound, Value):
            raise UsageError(
                f"{self.metric} is compared with another measured value: two intervals are no bound",
                "harness.compare(base, head) tells two results apart",
            )
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            raise UsageError(f"{self.metric} {op} {bound!r}: the bound is not a number", f"in {self.unit}")
        self._figure()
        judged = judge(self.result, Constraint(metric=self.metric, op=op, bound=float(bound)), self.confidence)
        return Answer(judged=judged, said=f"{self!r} {op} {bound:g}{self._why(judged)}")

    def _why(self, judged: Judged) -> str:
        return f" ({judged.why})" if judged.why else ""

    def _spelt(self) -> str:
        return "" if self.unit == "1" else f" {self.unit}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """One variant's file on one device, as `run --json` has it (`document`); each metric is an attribute, a `Value`."""

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
        """`ok`, `failed`, `skipped` or `invalid`; only `ok` is ranked."""
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
        """Whether the device is a simulated one: then no number of it is measured."""
        return str(self.document["device_id"] or "").startswith("sim://")

    def __getattr__(self, metric: str) -> Value:
        if metric not in METRICS:
            raise AttributeError(f"no metric {metric!r}: {nearest(metric, METRICS)}")
        return Value(metric=metric, result=self.document, confidence=self.confidence)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *METRICS]

    def __repr__(self) -> str:
        told = f": {self.reason}" if self.reason else ""
        kind = "simulated " if self.simulated else ""
        return f"<{self.variant} on {kind}{self.device}, {self.status}{told}>"
