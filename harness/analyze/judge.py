"""One metric of one cell on two sides: which design its figures allow, and what comes of it. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analyze.between import Spreads
from harness.analyze.counterparts import Counterparts, There
from harness.analyze.digest import Known
from harness.analyze.judgement import NO_RATIO, Judgement, exactly, ratio_of
from harness.analyze.moved import Moved, differing, factors_of, said
from harness.analyze.paired import compare_paired
from harness.analyze.sampled import sampled
from harness.analyze.unpaired import unpaired

EXACT = ("size_bytes", "compressed_bytes")
#: measured by one run of a session
ONCE = ("sustained_ms",)
SAME_FILE = "the same file"


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """The sessions that know the metric and are alike; `base`, `head` are not empty."""

    metric: str
    base: Sequence[There]
    head: Sequence[There]
    threshold: float

    def known(self, there: There) -> Known:
        return there.found.metrics[self.metric]

    @property
    def lower_is_better(self) -> bool:
        return self.known(self.head[-1]).lower_is_better

    def value(self, there: There) -> float:
        found = self.known(there).value
        assert found is not None  # `_knowing` left out what has none
        return found

    def figure(self, side: Sequence[There]) -> float:
        """In the metric's unit: the median over the sessions."""
        return statistics.median(map(self.value, side))


def judge(
    pair: Counterparts, metric: str, spreads: Spreads, across: frozenset[str], threshold: float
) -> Judgement | None:
    """None where neither side has the metric. `across`: the factors that may differ."""
    base, head = (_knowing(side, metric) for side in (pair.base, pair.head))
    if not base and not head:
        return None
    if not base or not head:
        return _one_sided(pair, metric, base, head)
    if shared := {t.session for t in base} & {t.session for t in head}:
        base, head = ([t for t in side if t.session in shared] for side in (base, head))
    factors = [f for f in factors_of(metric) if f not in across]
    alike_base, alike_head = _alike(base, head[-1], factors), _alike(head, head[-1], factors)
    if not alike_base:
        found = differing(base[-1].found, head[-1].found, factors)
        return Judgement(
            outcome="incomparable", base=_figure(base, metric), head=_figure(head, metric), reasons=(said(found),)
        )
    sides = _Sides(metric=metric, base=alike_base, head=alike_head, threshold=threshold)
    notes = [*pair.notes, *_unlike(base, alike_base, "base"), *_unlike(head, alike_head, "head")]
    notes += _across(sides, across)
    judged = _judged(sides, bool(shared), spreads)
    return replace(judged, reasons=(*judged.reasons, *notes))


def _judged(sides: _Sides, shared: bool, spreads: Spreads) -> Judgement:
    if shared and [(b.session, b.found) for b in sides.base] == [(h.session, h.found) for h in sides.head]:
        return _same_file(sides)
    if sides.metric in EXACT:
        newest = sides.value(sides.base[-1]), sides.value(sides.head[-1])
        return exactly(*newest, lower_is_better=sides.lower_is_better, threshold=sides.threshold)
    if sides.metric == "accuracy":
        base, head = sides.base[-1], sides.head[-1]
        return sampled(
            base, head, (sides.known(base), sides.known(head)), same_inputs=_same_inputs(base, head),
            lower_is_better=sides.lower_is_better, threshold=sides.threshold,
        )  # fmt: skip
    figures = sides.figure(sides.base), sides.figure(sides.head)
    if sides.metric in ONCE:
        judged = Judgement(outcome="inconclusive", reasons=("measured once a session: there is no spread to judge by",))
    elif shared:
        judged = _paired(sides)
    else:
        judged = unpaired(
            sides.metric, sides.base, sides.head, spreads, lower_is_better=sides.lower_is_better,
            threshold=sides.threshold,
        )  # fmt: skip
    ratio = ratio_of(*figures) if judged.ratio is None else judged.ratio
    return replace(judged, base=figures[0], head=figures[1], ratio=ratio)


def _knowing(side: Sequence[There], metric: str) -> list[There]:
    found = [(t, t.found.metrics.get(metric)) for t in side]
    return [t for t, known in found if known is not None and known.value is not None and math.isfinite(known.value)]


def _one_sided(pair: Counterparts, metric: str, base: Sequence[There], head: Sequence[There]) -> Judgement:
    name, side = ("head", pair.head) if base else ("base", pair.base)
    known = side[-1].found.metrics.get(metric)
    why = known.absent if known and known.absent else "not measured"
    return Judgement(
        outcome="missing", base=_figure(base, metric), head=_figure(head, metric), reasons=(f"{name}: {why}",)
    )


def _figure(side: Sequence[There], metric: str) -> float | None:
    """The median over the sessions that know it, where there is one."""
    values = [known.value for t in side if (known := t.found.metrics[metric]).value is not None]
    return statistics.median(values) if values else None


def _alike(side: Sequence[There], like: There, factors: Sequence[str]) -> list[There]:
    return [t for t in side if not differing(t.found, like.found, factors)]


def _unlike(side: Sequence[There], alike: Sequence[There], name: str) -> list[str]:
    lost = len(side) - len(alike)
    return [f"{name}: {lost} of {len(side)} sessions left out, under other conditions"] if lost else []


def _across(sides: _Sides, across: frozenset[str]) -> list[str]:
    found: dict[str, Moved] = {}
    for b in sides.base:
        for moved in differing(b.found, sides.head[-1].found, [f for f in factors_of(sides.metric) if f in across]):
            found[moved.factor] = moved
    return [f"across {said(found.values())}"] if found else []


def _same_inputs(base: There, head: There) -> bool:
    one, two = (t.found.conditions.get("inputs") for t in (base, head))
    return base.session == head.session or (one is not None and one == two)


def _same_file(sides: _Sides) -> Judgement:
    """Base and head are one and the same result: there is nothing to test."""
    value = sides.figure(sides.head)
    return Judgement(
        outcome="same", design="exact" if sides.metric in EXACT else "paired", base=value, head=value,
        ratio=1.0, n=0, reasons=(SAME_FILE,),
    )  # fmt: skip


def _paired(sides: _Sides) -> Judgement:
    """By blocks; those of several sessions together."""
    base, head = (_blocks(side, sides.metric) for side in (sides.base, sides.head))
    if any(not (v > 0 and math.isfinite(v)) for v in (*base.values(), *head.values())):
        return Judgement(outcome="inconclusive", design="paired", reasons=(NO_RATIO,))
    if not base.keys() & head.keys():
        return Judgement(outcome="inconclusive", design="paired", reasons=("the two share no block",))
    number = {block: i for i, block in enumerate(sorted(base.keys() | head.keys()))}
    found = compare_paired(
        {number[b]: v for b, v in base.items()}, {number[b]: v for b, v in head.items()},
        lower_is_better=sides.lower_is_better, threshold=sides.threshold,
    )  # fmt: skip
    return Judgement(
        outcome=found.verdict, design="paired", ratio=found.ratio, ci95=found.ci95, n=found.n, p_value=found.p_value,
        minimum_detectable=found.minimum_detectable, reasons=found.reasons,
    )  # fmt: skip


def _blocks(side: Sequence[There], metric: str) -> Mapping[tuple[str, int], float]:
    return {(t.session, block): v for t in side for block, v in t.found.metrics[metric].blocks.items()}
