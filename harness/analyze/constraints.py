"""Does a result satisfy `METRIC[.STAT] OP NUMBER`? Judged by P(holds), from the interval and not from the point."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.analyze.figure import Figure, figure
from harness.types import Constraint

Outcome = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One constraint on one result. `probability` is None where there is no figure or no interval.

    `short_by`: how far the value is on the wrong side of the bound, in the metric's unit; 0 when it is not; None
    without a figure. `relative` is the same as a share of the larger of bound and value. `needs`: what would settle
    it. `why`: why it could not be judged."""

    constraint: Constraint
    outcome: Outcome
    probability: float | None
    value: float | None = None
    short_by: float | None = None
    relative: float = math.inf
    needs: str | None = None
    why: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "constraint": str(self.constraint), "outcome": self.outcome, "probability": self.probability,
            "value": self.value, "short_by": self.short_by, "needs": self.needs, "why": self.why,
        }  # fmt: skip


def satisfied(value: float, constraint: Constraint) -> bool:
    return {
        "<=": value <= constraint.bound,
        "<": value < constraint.bound,
        ">=": value >= constraint.bound,
        ">": value > constraint.bound,
    }[constraint.op]


def judge(result: Mapping[str, Any], constraint: Constraint, confidence: float) -> Judged:
    """Holds at P ≥ `confidence`, fails at P ≤ 1 - `confidence`, else undecided; a value without spread is compared.

    The value is normal about the estimate (log-normal for a factor), its sd that half of the 95 % interval which
    lies towards the bound, over 1.96: with few repeats the t-interval's width is kept, which is the careful side."""
    found = figure(result, constraint.metric)
    if isinstance(found, str):
        return Judged(constraint=constraint, outcome="undecided", probability=None, why=found)
    inside = satisfied(found.value, constraint)
    short_by = 0.0 if inside else abs(found.value - constraint.bound)
    scale = max(abs(found.value), abs(constraint.bound))
    relative = short_by / scale if scale else 0.0
    beyond = constraint.bound > found.value
    if found.at_least and (beyond or (constraint.bound == found.value and constraint.op in ("<=", ">"))):
        return Judged(
            constraint=constraint, outcome="undecided", probability=None, value=found.value,
            short_by=short_by, relative=relative,
            why=f"it was watched for {found.value:.0f} s, and it had not come by then",
            needs=f"sustained_minutes of at least {math.ceil(constraint.bound / 60)}",
        )  # fmt: skip
    sigma = found.sigma(upwards=constraint.bound > found.value)
    if sigma is None:
        return Judged(
            constraint=constraint, outcome="undecided", probability=None, value=found.value, short_by=short_by,
            relative=relative, why="it has no interval", needs=_interval_from(found.counted),
        )  # fmt: skip
    distance = _distance(found, constraint.bound)
    probability = _probability(distance, sigma, inside, constraint)
    outcome: Outcome = "holds" if probability >= confidence else "undecided"
    if probability <= 1 - confidence:
        outcome = "fails"
    needs = _to_settle(found, sigma, distance, confidence) if outcome == "undecided" else None
    return Judged(
        constraint=constraint, outcome=outcome, probability=probability, value=found.value, short_by=short_by,
        relative=relative, needs=needs,
    )  # fmt: skip


def _distance(found: Figure, bound: float) -> float:
    """From estimate to bound on the scale of sigma; infinite where a positive factor can never reach the bound."""
    if not found.factor:
        return abs(bound - found.value)
    return abs(math.log(bound / found.value)) if bound > 0 else math.inf


def _probability(distance: float, sigma: float, inside: bool, constraint: Constraint) -> float:
    from scipy.special import ndtr

    if sigma == 0 or distance == math.inf:
        return 1.0 if inside else 0.0
    return float(ndtr(distance / sigma if inside else -distance / sigma))


def _to_settle(found: Figure, sigma: float, distance: float, confidence: float) -> str:
    """The remedy: the width of an interval shrinks as 1/√n."""
    from scipy.special import ndtri

    if distance == 0:
        return "the value lies on the bound: no number of samples settles that"
    if found.samples is None:
        return "more seeds or samples would settle it" if found.counted == "seeds" else _interval_from(found.counted)
    times = (sigma * float(ndtri(confidence)) / distance) ** 2
    return f"about {max(found.samples + 1, math.ceil(found.samples * times)):,} {found.counted} would settle it"


def _interval_from(counted: str) -> str:
    """What would give an interval at all, or a narrower one."""
    return {
        "repeats": "at least 2 repeats",
        "cold loads": "at least 2 cold_loads",
        "once": "a session measures it once: only another session tells more",
    }.get(counted, "a metric with a score per sample")
