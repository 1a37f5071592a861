"""How many repeats are enough: which results deserve one more, and why the others do not (MEASUREMENT T3).

    asked = next_repeat(results, raw, objectives=…, where=…, confidence=0.9, target_ci=0.01)
    while asked.cells and time is left:
        measure one more latency block that holds `asked.cells` (indices into `results`), in random order
        results, raw = of the session as it is now
        asked = next_repeat(results, raw, …)

Stateless: everything follows from the runs that are stored, so a schedule that was cut off goes on as it would have.
One device at a time: `results` and `raw` are the lane's part of the results document, of which front and pick are made.

A result is settled when its latency interval is as narrow as `target_ci` at three checks in a row (stopping at the
first is stopping when luck says so: 71 % of such intervals cover instead of 91 %); or when its place is clear: it is
on the front, or off it, in 99 of 100 joint draws, or within 2 % of the edge in 95, where nobody needs to know; and no
constraint on it is open, and it is not in the race for the pick. What is not settled gets a repeat, and
so do its rivals, in the same block: only runs of one block can be compared without what drifts. A fixed number of
repeats is for A/B comparisons, whose test this would bias.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze.constraints import Judged, judge
from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure, figure
from harness.analyze.intervals import t_quantile
from harness.analyze.objectives import ranking
from harness.analyze.seeds import represented
from harness.analyze.selection import judged_by
from harness.analyze.stats import sd
from harness.types import Constraint, Objective

MAX_REPEATS = 20
#: checks in a row at which an interval must be narrow
CHECKS = 3
#: as improbable as this is out of the question
CLEAR = 0.01
#: nearer to the edge of the front than this factor nobody needs to know on which side
PRACTICAL = 0.02
#: how sure it must be that a result is as near as that
NEAR = 0.95
DRAWS = 1000
#: what latency runs measure: more of them make these intervals narrower, and no others
REPEATED = frozenset(("latency_ms", "throughput_ips", "first_inference_ms", "load_ms"))

Result = Mapping[str, Any]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Amount:
    """`cells`: indices of the results that get one more repeat, ascending. `why`: index of each result -> why it gets
    one, or why not. `settled`: no more is asked for; else the block is worth making."""

    cells: tuple[int, ...] = ()
    why: Mapping[int, str] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        return not self.cells

    @property
    def reason(self) -> str:
        """In one line, for the log."""
        if self.settled:
            return "every result is settled"
        return f"{len(self.cells)} of {len(self.why)} results get one more repeat: {self.why[self.cells[0]]}"


def next_repeat(
    results: Sequence[Result], raw: Sequence[Raw], *,
    objectives: Sequence[str], minimize: str | None = "latency_ms", where: Sequence[Constraint] = (),
    confidence: float = 0.9, target_ci: float, selected_on: str = "test",
    spent: Mapping[int, int] | None = None, cap: int = MAX_REPEATS,
) -> Amount:  # fmt: skip
    """`objectives`, `minimize`, `where`, `confidence`, `selected_on`: as the front and the pick are made (choose.py);
    `minimize` None where nothing is picked. `target_ci`: half width over value.

    `spent`: index -> latency repeats that were planned so far, also those that came to nothing; by default those that
    count. The cap is on these, so that a device that spoils every run comes to an end."""
    spoken_for = represented(results)
    why = {i: f"represented by seed {seed}" for i, seed in spoken_for.items()}
    indices = [i for i in range(len(results)) if i not in why]
    ranked = ranking(results, indices, [judged_by(o, selected_on) for o in objectives])
    for i in set(indices) - set(ranked.ranked):
        why[i] = ranked.unranked.get(i) or results[i]["reason"] or f"the result is {results[i]['status']}"
    constraints = [replace(c, metric=judged_by(c.metric, selected_on)) for c in where]
    best = judged_by(minimize, selected_on) if minimize else None
    used = {i: max(int(results[i]["repeats"]), (spent or {}).get(i, 0)) for i in ranked.ranked}
    asked: set[int] = set()
    for case in dict.fromkeys(results[i]["input"] for i in ranked.ranked):
        chosen = [k for k, i in enumerate(ranked.ranked) if results[i]["input"] == case]
        place = _Place(
            at=[ranked.ranked[k] for k in chosen], results=results, raw=raw, metrics=ranked.objectives,
            table=[ranked.figures[k] for k in chosen],
        )  # fmt: skip
        said, more = _asked(place, constraints, best, confidence, target_ci, used, cap)
        why |= said
        asked |= more
    return Amount(cells=tuple(sorted(asked)), why=dict(sorted(why.items())))


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The ranked results of one input case: their indices, and their figures by [result][objective]."""

    at: Sequence[int]
    results: Sequence[Result]
    raw: Sequence[Raw]
    metrics: Sequence[str]
    table: Sequence[Sequence[Figure]]

    def drawn(self, metric: str, figures: Sequence[Figure], of: Sequence[int], seed: int) -> Floats:
        """(results, draws) of one metric, less is better; one that no repeat makes surer as its figure stands."""
        if not _repeats(metric):
            values = np.array([f.value for f in figures])[:, None] * np.ones(DRAWS)
        else:
            values = draw(figures, metric, [self.raw[self.at[k]] for k in of], DRAWS, np.random.default_rng(seed)).T
        oriented: Floats = values * np.array([f.oriented(1.0) for f in figures])[:, None]
        return oriented


def _repeats(metric: str) -> bool:
    return Objective(metric=metric).key[0] in REPEATED


def _asked(
    place: _Place, where: Sequence[Constraint], minimize: str | None, confidence: float, target_ci: float,
    used: Mapping[int, int], cap: int,
) -> tuple[dict[int, str], set[int]]:  # fmt: skip
    """By index: why it gets one more repeat or not, and those that do."""
    judged = [[judge(place.results[i], c, confidence) for c in where] for i in place.at]
    reasons = _single(place, judged)
    rivals: dict[int, set[int]] = {}
    if not reasons:
        for found in (_about_the_front(place), _about_the_pick(place, judged, minimize, confidence)):
            for k, (reason, against) in found.items():
                reasons.setdefault(k, reason)
                rivals.setdefault(k, set()).update(against)
        for k, own in enumerate(judged):
            if open_ := next((j for j in own if j.outcome == "undecided" and _repeats(j.constraint.metric)), None):
                reasons.setdefault(k, f"{open_.constraint} is undecided")
    narrow = {k for k, i in enumerate(place.at) if _narrow(place.raw[i], _watched(place.metrics, minimize), target_ci)}
    want = {k for k in reasons if k not in narrow and used[place.at[k]] < cap}
    beside = {r for k in want for r in rivals.get(k, ()) if used[place.at[r]] < cap} - want
    why = {}
    for k, i in enumerate(place.at):
        if k in want:
            why[i] = reasons[k]
        elif k in beside:
            why[i] = "a rival of one that is not settled"
        elif k in reasons:
            why[i] = f"its interval is within {target_ci:.1%}" if k in narrow else f"it has had {cap} repeats"
        else:
            why[i] = "its place is clear"
    return why, {place.at[k] for k in want | beside}


def _single(place: _Place, judged: Sequence[Sequence[Judged]]) -> dict[int, str]:
    """Results of which a figure that repeats make has no interval at all: nothing can be said before they have."""
    found: dict[int, str] = {}
    for k, figures in enumerate(place.table):
        lacking = [m for m, f in zip(place.metrics, figures, strict=True) if _repeats(m) and f.low is None]
        unjudged = [j for j in judged[k] if j.probability is None and j.value is not None]
        lacking += [j.constraint.metric for j in unjudged if _repeats(j.constraint.metric)]
        if lacking:
            found[k] = f"{lacking[0]} has no interval yet"
    return found


def _about_the_front(place: _Place) -> dict[int, tuple[str, set[int]]]:
    """Those whose place on the front is open: reason, and the rivals that it hangs on.

    Seen from the result's own side: with all its figures 2 % better, and 2 % worse, is the answer the same?"""
    columns = [list(column) for column in zip(*place.table, strict=True)]
    everyone = range(len(place.at))
    named = zip(place.metrics, columns, strict=True)
    drawn = np.stack([place.drawn(metric, column, everyone, s) for s, (metric, column) in enumerate(named)])
    movable = np.array([_repeats(m) for m in place.metrics])
    found = {}
    for k in everyone:
        beats = _beats(drawn, k, movable, 0.0)
        on = 1.0 - float(beats.any(axis=0).mean())
        if CLEAR < on < 1 - CLEAR and not _at_the_edge(drawn, k, movable):
            odds = beats.mean(axis=1)
            against = {r for r in everyone if r != k and CLEAR < odds[r] < 1 - CLEAR}
            found[k] = f"on the front with a probability of {on:.2f}", against
    return found


def _beats(drawn: Floats, k: int, movable: Bools, shift: float) -> Bools:
    """(results, draws): which results dominate result k, `shift` > 0 making k that much better."""
    own = drawn[:, k].copy()  # (objectives, draws)
    own[movable] *= np.where(own[movable] > 0, 1 - shift, 1 + shift)
    no_worse = (drawn <= own[:, None]).all(axis=0)
    better = (drawn < own[:, None]).any(axis=0)
    out: Bools = np.logical_and(no_worse, better)
    out[k] = False
    return out


def _at_the_edge(drawn: Floats, k: int, movable: Bools) -> bool:
    """On the front when 2 % better, off it when 2 % worse, both in 95 of 100 draws: no more repeats would matter."""
    on = [1.0 - float(_beats(drawn, k, movable, shift).any(axis=0).mean()) for shift in (PRACTICAL, -PRACTICAL)]
    return on[0] >= NEAR and on[1] <= 1 - NEAR


def _about_the_pick(
    place: _Place, judged: Sequence[Sequence[Judged]], minimize: str | None, confidence: float
) -> dict[int, tuple[str, set[int]]]:
    """The one that would be picked, and those that could be 2 % better, where `confidence` is not reached."""
    if minimize is None or not _repeats(minimize):
        return {}
    fits = [k for k, own in enumerate(judged) if all(j.outcome != "fails" for j in own)]
    pairs = [(k, figure(place.results[place.at[k]], minimize)) for k in fits]
    known = [(k, f) for k, f in pairs if isinstance(f, Figure) and f.low is not None]
    if len(known) < 2:
        return {}
    drawn = place.drawn(minimize, [f for _, f in known], [k for k, _ in known], len(place.metrics))
    leader = min(range(len(known)), key=lambda c: known[c][1].oriented(known[c][1].value))
    shifted = drawn[leader] * np.where(drawn[leader] > 0, 1 - PRACTICAL, 1 + PRACTICAL)
    others = np.delete(drawn, leader, axis=0)
    if float((shifted <= others.min(axis=0)).mean()) >= confidence:
        return {}  # nothing is better by more than 2 %
    odds = (drawn < shifted).mean(axis=1)
    race = {known[c][0] for c in range(len(known)) if c != leader and odds[c] > CLEAR} | {known[leader][0]}
    return {k: ("in the race for the pick", race - {k}) for k in race}


def _watched(metrics: Sequence[str], minimize: str | None) -> list[str]:
    """The figures whose intervals `target_ci` is about."""
    asked = [m for m in (*metrics, *([minimize] if minimize else [])) if _repeats(m)]
    return list(dict.fromkeys(asked))


def _narrow(raw: Raw, metrics: Sequence[str], target_ci: float) -> bool:
    """Whether the intervals of all these were narrow at the last three checks: after each of the last three repeats."""
    series = [list(raw.blocks[m].values()) for m in metrics if m in raw.blocks]
    checks = [values[: len(values) - back] for values in series for back in range(CHECKS)]
    return bool(series) and all(len(values) > 1 and _half_width(values) <= target_ci for values in checks)


def _half_width(values: Sequence[float]) -> float:
    """Of the t-interval on logarithms, as a share of the value."""
    logs = [math.log(v) for v in values]
    return math.expm1(min(700.0, t_quantile(len(logs) - 1) * sd(logs) / math.sqrt(len(logs))))
