"""The variant to ship: the least of what is minimised, among those for which every constraint holds.

Over several places (devices, input cases) the robust choice: one that fits at every place, and whose worst ratio to
the best of each place is least. At one place that is plainly the least value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze.constraints import judge
from harness.analyze.draws import Raw
from harness.analyze.figure import Figure, figure
from harness.analyze.odds import Candidate, Odds, odds
from harness.analyze.places import CELL, Place, Result, by_name, cell, cell_over, worst_ratio
from harness.analyze.places import places as places_of
from harness.analyze.racing import could_fit, racing
from harness.analyze.selection import judged_by
from harness.analyze.settle import settle
from harness.types import Constraint

__all__ = ["CELL", "NEAREST", "Decision", "cell", "decide"]

Floats = NDArray[np.float64]
#: how many near misses are told where nothing fits
NEAREST = 3


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`pick` is None where nothing fits: `reason` says so, and `nearest` names what came nearest and what each misses.

    `pick` has, beside its cell: `probability`, `runner_up`, `binding`, and `settle` (what further measuring would make
    it as sure as asked for; None where it is). `undecided`: candidates that could fit, each with the constraints in
    question and what would settle them. `racing`: indices of the results whose further latency runs would make the
    answer surer; empty where it is sure enough, and where such runs would not help."""

    pick: dict[str, Any] | None
    reason: str | None = None
    nearest: tuple[dict[str, Any], ...] = ()
    undecided: tuple[dict[str, Any], ...] = ()
    racing: tuple[int, ...] = field(default=(), compare=False)  # hangs on the order of the results

    @property
    def closest(self) -> dict[str, Any] | None:
        return self.nearest[0] if self.nearest else None


def decide(
    results: Sequence[Result],
    *,
    minimize: str = "latency_ms",
    where: Sequence[Constraint] = (),
    confidence: float = 0.9,
    raw: Sequence[Raw | None] | None = None,
    selected_on: str = "test",
    seed: int = 0,
) -> Decision:
    """The pick over all places in `results`; rows without a device, and those not ranked, are no candidates.

    For a metric where higher is better the largest value is taken; another only where the runs, paired by block, say as
    surely as `confidence` that it is better (`_better`). `raw[i]` belongs to `results[i]`.
    `selected_on`: with `validation`, that split's accuracy and loss are judged wherever the test's are named."""
    minimize = judged_by(minimize, selected_on)
    where = [replace(c, metric=judged_by(c.metric, selected_on)) for c in where]
    usable = [i for i, r in enumerate(results) if r["device"] and r["status"] == "ok" and r["reason"] is None]
    places = places_of(results)
    if not usable:
        return Decision(pick=None, reason=_nothing_usable(results))
    candidates = _candidates(results, usable, places, minimize, where, confidence)
    if not candidates:
        return Decision(pick=None, reason=_no_candidate(results, usable, places, minimize))
    ordered = _ordered([c for c in candidates if c.fits()], places)
    undecided = tuple(_misses(c, results) for c in candidates if c.unmet and _open(c))
    if not ordered:
        nearest = tuple(_misses(c, results) for c in sorted(candidates, key=_how_far)[:NEAREST])
        return Decision(
            pick=None, reason=_none_fits(nearest[0]), nearest=nearest, undecided=undecided,
            racing=could_fit([c for c in candidates if c.unmet and _open(c)]),
        )  # fmt: skip
    best, values = ordered[0], raw or [None] * len(results)
    found = odds(best, candidates, places, minimize, results, values, seed)
    if (better := _better(ordered, found, confidence)) is not None:
        best, ordered = better, [better, *(c for c in ordered if c is not better)]
        found = odds(best, candidates, places, minimize, results, values, seed)
    chosen = cell_over(results, best.at)
    chosen["probability"] = {"absent": f"{minimize} has no interval"} if found is None else found.best
    chosen["runner_up"] = cell_over(results, ordered[1].at) if len(ordered) > 1 else None
    chosen["binding"] = _binding(best, candidates, places, where)
    chosen["settle"] = settle(best, candidates, found, results, minimize, confidence)
    race = racing(best, candidates, found, results, minimize, confidence)
    return Decision(pick=chosen, undecided=undecided, racing=race)


def _candidates(
    results: Sequence[Result], usable: Sequence[int], places: Sequence[Place], minimize: str,
    where: Sequence[Constraint], confidence: float,
) -> list[Candidate]:  # fmt: skip
    """What is usable at every place, in an order that does not hang on the order of the results."""
    out = []
    for name, where_at in by_name(results, usable).items():
        found = {place: figure(results[i], minimize) for place, i in where_at.items()}
        figures = {place: f for place, f in found.items() if isinstance(f, Figure)}
        if len(figures) == len(places):
            judged = {p: tuple(judge(results[i], c, confidence) for c in where) for p, i in where_at.items()}
            out.append(Candidate(name=name, at=where_at, figures=figures, judged=judged))
    return out


def _ordered(fits: Sequence[Candidate], places: Sequence[Place]) -> list[Candidate]:
    """The fitting ones, best first."""
    if not fits:
        return []
    values: Floats = np.array([[c.figures[p].oriented(c.figures[p].value) for p in places] for c in fits])
    scores = worst_ratio(values[:, :, None])[:, 0]
    return [fits[i] for i in np.argsort(scores, kind="stable")]


def _better(ordered: Sequence[Candidate], found: Odds | None, confidence: float) -> Candidate | None:
    """A fitting one that is better than the least printed value, run against run, as surely as the rule asks: of few
    repeats the medians may say the contrary of what nearly every block says."""
    behind = {c.name: 1 - found.ahead.get(c.name, 1.0) for c in ordered[1:]} if found is not None else {}
    surest = max(ordered[1:], key=lambda c: behind.get(c.name, 0.0), default=None)
    return surest if surest is not None and behind.get(surest.name, 0.0) >= confidence else None


def _binding(
    best: Candidate, candidates: Sequence[Candidate], places: Sequence[Place], where: Sequence[Constraint]
) -> str | None:
    """The constraint without which another variant would be picked; of several, the one that costs most.

    Where only leaving out several at once would change the pick, the one that most candidates do not meet.
    None where nothing binds: the pick would be the same without any constraint."""
    gains: list[tuple[float, str]] = []
    everyone = _ordered(candidates, places)
    first = _ordered([c for c in candidates if c.fits()], places)[0]  # `_better` may have put another before it
    rank = {c.name: i for i, c in enumerate(everyone)}
    if everyone[0] is first:
        return None
    for constraint in where:
        relaxed = _ordered([c for c in candidates if c.fits(without=constraint)], places)
        if relaxed[0] is not first:
            gains.append((rank[relaxed[0].name], str(constraint)))
    if gains:
        return min(gains)[1]
    unmet = Counter(str(j.constraint) for c in candidates for _, j in c.unmet)
    return unmet.most_common(1)[0][0] if unmet else None


def _open(candidate: Candidate) -> bool:
    return not any(j.outcome == "fails" for _, j in candidate.unmet)


def _how_far(candidate: Candidate) -> tuple[int, int, float]:
    unmet = [j for _, j in candidate.unmet]
    failing = sum(j.outcome == "fails" for j in unmet)
    return failing, len(unmet), max((j.relative for j in unmet), default=0.0)


def _misses(candidate: Candidate, results: Sequence[Result]) -> dict[str, Any]:
    """The cell at the place where it misses most, with every constraint that does not hold there."""
    place = max(candidate.judged, key=lambda p: [j.relative for j in candidate.judged[p] if j.outcome != "holds"])
    missed = [j.as_json() for j in candidate.judged[place] if j.outcome != "holds"]
    return {**cell(results[candidate.at[place]]), "misses": missed}


def _none_fits(missed: Mapping[str, Any]) -> str:
    first = missed["misses"][0]
    said = f"{first['constraint']} {first['outcome']}"
    value = f" at {first['value']:g}" if first["value"] is not None else f" ({first['why']})"
    needs = f"; {first['needs']}" if first["needs"] else ""
    return f"no variant fits; closest is {missed['variant']} as {missed['exporter']}: {said}{value}{needs}"


def _nothing_usable(results: Sequence[Result]) -> str:
    reasons = Counter(r["reason"] for r in results if r["reason"])
    return f"no result can be used: {reasons.most_common(1)[0][0]}" if reasons else "there are no results"


def _no_candidate(results: Sequence[Result], usable: Sequence[int], places: Sequence[Place], minimize: str) -> str:
    reasons = Counter(f for i in usable if isinstance(f := figure(results[i], minimize), str))
    if reasons:
        return f"no result has {minimize}: {reasons.most_common(1)[0][0]}"
    return f"no variant is usable at all {len(places)} places (devices and input cases)"
