"""Two releases side by side: every cell and metric that both have, judged. Pure.

Three designs, by what there is (MEASUREMENT 5.1):
- paired: base and head in the same blocks of one session. The mean log-ratio over blocks, t-interval, robust twin.
- unpaired: sessions of their own. Each side is divided by the reference variant that was interleaved in its session,
  and the interval includes what one session differs from another (between.py). `worse` needs the whole interval
  beyond the practical threshold.
- exact: figures without spread (the file's size), and scores over the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analyze.between import Spreads
from harness.analyze.counterparts import EVERY_DEVICE, Counterparts, counterparts
from harness.analyze.digest import JUDGED, Digest
from harness.analyze.families import q_values
from harness.analyze.intervals import Interval
from harness.analyze.judge import judge
from harness.analyze.judgement import Design, Judgement, threshold_of
from harness.analyze.judgement import Outcome as Outcome
from harness.analyze.moved import Moved as Moved
from harness.analyze.moved import expanded, moved
from harness.analyze.paired import ALPHA
from harness.metrics import METRICS
from harness.types import Cell

#: the metric of a row that stands for a whole cell, of which one side has no result
EVERY_METRIC = "*"
_TOLD = ("worse", "better", "incomparable")  # rows for which it is told what moved


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of one cell. `base`, `head`: the figures in the metric's unit; `ratio` head / base with its interval.

    `metric` is EVERY_METRIC where a side has no result at all; `device` is EVERY_DEVICE where nothing was built, and
    then of `cell` only variant, exporter and input are known. `ratio` is of the figures divided by the reference where
    the reason says so. `reason`: why it is not `worse` or `better`, why it cannot be compared, or what is missing; and
    what stands beside a verdict (the robust twin does not agree, across which factor). `q_value`: adjusted over the
    family of all comparisons of this call. `moved`: what else changed, what is likely to explain it first.
    `confirmed`: of `worse` after a paired re-measurement; None where none was made. `unit`: None is the metric's."""

    cell: Cell
    device: str
    metric: str
    design: Design | None
    base: float | None
    head: float | None
    ratio: float | None = None
    ci95: Interval | None = None
    outcome: Outcome
    n: int = 0
    p_value: float | None = None
    q_value: float | None = None
    minimum_detectable: float | None = None
    threshold: float
    reason: str | None = None
    moved: tuple[Moved, ...] = ()
    confirmed: bool | None = None
    unit: str | None = None


def compare(
    base: Sequence[Digest],
    head: Sequence[Digest],
    stored: Sequence[Digest],
    *,
    across: frozenset[str] = frozenset(),
    thresholds: Mapping[str, float] | None = None,
) -> list[Compared]:
    """Every shared (cell, metric) in the order of the head's cells, then what has no counterpart.

    `base`, `head`: the sessions of each side (several of one label are used together; equal session ids mean paired).
    `stored`: every session of the experiment, for the spread between sessions. `across`: factors that may differ,
    named as digest.py names them. `thresholds`: metric -> practical relative change; default THRESHOLDS, else
    PRACTICAL."""
    spreads = Spreads(stored, {d.reference for d in (*base, *head)})
    allowed, limits = expanded(across), thresholds or {}
    own_metric = any(d.task not in (None, "accuracy") for d in (*base, *head))
    found, without = [], []
    for pair in counterparts(base, head):
        if pair.missing is not None:
            without.append(_missing(pair))
            continue
        for metric in JUDGED:
            threshold = limits.get(metric, threshold_of(metric))
            if (judged := judge(pair, metric, spreads, allowed, threshold)) is not None:
                unit = "1" if metric == "accuracy" and own_metric else None
                found.append(replace(_row(pair, metric, judged, threshold), unit=unit))
    return [*_family(found), *without]


def _row(pair: Counterparts, metric: str, judged: Judgement, threshold: float) -> Compared:
    told = judged.outcome in _TOLD
    return Compared(
        cell=pair.cell, device=pair.device, metric=metric, design=judged.design, base=judged.base, head=judged.head,
        ratio=judged.ratio, ci95=judged.ci95, outcome=judged.outcome, n=judged.n, p_value=judged.p_value,
        minimum_detectable=judged.minimum_detectable, threshold=threshold,
        reason="; ".join(judged.reasons) or None,
        moved=moved(pair.base[-1].found, pair.head[-1].found) if told else (),
    )  # fmt: skip


def _missing(pair: Counterparts) -> Compared:
    return Compared(
        cell=pair.cell, device=pair.device, metric=EVERY_METRIC, design=None, base=None, head=None,
        outcome="missing", threshold=threshold_of(EVERY_METRIC), reason=pair.missing,
    )  # fmt: skip


def _family(found: Sequence[Compared]) -> list[Compared]:
    """With q-values; who asks so many questions at once is told of a difference only where it stands out of all."""
    q = q_values([row.p_value for row in found])
    tested = sum(value is not None for value in q)
    out = []
    for row, value in zip(found, q, strict=True):
        if value is not None and value > ALPHA and row.outcome in ("worse", "better"):
            why = f"seemed {row.outcome}, but is not sure enough among {tested} comparisons (q = {value:.3f})"
            row = replace(row, outcome="inconclusive", moved=(), reason="; ".join(filter(None, (why, row.reason))))
        out.append(replace(row, q_value=value))
    return out


def verdict(compared: Sequence[Compared], allow_missing: int = 0) -> str:
    """`worse`, else `incomparable` where more than `allow_missing` are incomparable or missing, else `better`,
    `inconclusive` or `same`; `incomparable` where nothing was compared."""
    outcomes = [row.outcome for row in compared]
    if "worse" in outcomes:
        return "worse"
    lost = sum(outcome in ("incomparable", "missing") for outcome in outcomes)
    if lost > allow_missing or lost == len(outcomes):
        return "incomparable"
    return next(outcome for outcome in ("better", "inconclusive", "same") if outcome in outcomes)


def as_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The rows of `compare --json` (CONTRACT 7), every key always there."""
    return [_document(row) for row in compared]


def _document(row: Compared) -> dict[str, Any]:
    cell = row.cell
    nowhere = row.device == EVERY_DEVICE and not cell.device_id  # nothing was built: what it would be is not known
    place: dict[str, Any] = dict.fromkeys(("seed", "backend", "device_id", "cpus", "context")) if nowhere else {}
    known = METRICS.get(row.metric)
    return {
        "variant": cell.variant, "seed": cell.seed, "exporter": cell.exporter, "backend": cell.backend,
        "input": cell.input, "device": row.device, "device_id": cell.device_id or None, "threads": cell.threads,
        "cpus": cell.cpus, "context": cell.context, **place,
        "metric": row.metric, "unit": row.unit or (known.unit if known else None),
        "base": row.base, "head": row.head, "ratio": row.ratio, "ci95": list(row.ci95) if row.ci95 else None,
        "outcome": row.outcome, "minimum_detectable": row.minimum_detectable, "reason": row.reason,
        "design": row.design, "n": row.n, "p_value": row.p_value, "q_value": row.q_value,
        "threshold": row.threshold, "confirmed": row.confirmed,
        "moved": [{"factor": m.factor, "base": m.base, "head": m.head} for m in row.moved],
    }  # fmt: skip
