"""What is said of one metric of one cell on two sides, and the plain kinds of it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from harness.analyze.intervals import Interval
from harness.analyze.moved import Moved
from harness.analyze.paired import PRACTICAL

#: `missing`: planned or there on one side, and not on the other
Outcome = Literal["worse", "better", "same", "inconclusive", "incomparable", "missing"]
Design = Literal["paired", "unpaired", "exact", "samples"]
#: practical relative change of a metric where nothing else is said; of the others it is PRACTICAL
THRESHOLDS = {"accuracy": 0.005}
NO_RATIO = "a figure is not positive: there is no ratio"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Fields as in compare.py's `Compared`; `reasons` become its `reason`, the weightiest first."""

    outcome: Outcome
    design: Design | None = None
    base: float | None = None
    head: float | None = None
    ratio: float | None = None
    ci95: Interval | None = None
    n: int = 0
    p_value: float | None = None
    minimum_detectable: float | None = None
    reasons: tuple[str, ...] = ()
    moved: tuple[Moved, ...] = ()


def threshold_of(metric: str) -> float:
    return THRESHOLDS.get(metric, PRACTICAL)


def percent(share: float) -> str:
    """`2 %`, `0.5 %`, `3.1 %`, `120 %`."""
    return f"{100 * share:.2g} %" if abs(share) < 1 else f"{100 * share:.0f} %"


def ratio_of(base: float, head: float) -> float | None:
    """head / base; None where there is no ratio: a figure is not positive, or too large for one."""
    if not (math.isfinite(base) and math.isfinite(head) and base > 0 and head > 0):
        return None
    ratio = head / base
    return ratio if math.isfinite(ratio) and ratio > 0 else None


def exactly(base: float, head: float, *, lower_is_better: bool, threshold: float) -> Judgement:
    """Of figures without spread: a change counts from the threshold on, and no test is needed to see it."""
    ratio = ratio_of(base, head)
    if ratio is None:
        return Judgement(outcome="inconclusive", design="exact", base=base, head=head, reasons=(NO_RATIO,))
    edge = 1 + threshold
    outcome: Outcome = "same"
    if not 1 / edge < ratio < edge:
        outcome = "worse" if (ratio > 1) == lower_is_better else "better"
    reasons = (f"it differs by less than {percent(threshold)}",) if outcome == "same" and ratio != 1 else ()
    return Judgement(outcome=outcome, design="exact", base=base, head=head, ratio=ratio, reasons=reasons)
