"""The variant to ship: the least of what is minimised, among those for which every constraint holds.

Over several places (devices, input cases) the robust choice: one that fits at every place, and whose worst ratio to
the best of each place is least. At one place that is plainly the least value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze.constraints import Judged, judge
from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure, figure
from harness.analyze.selection import judged_by
from harness.types import Constraint

Floats = NDArray[np.float64]
Result = Mapping[str, Any]
Place = tuple[Any, ...]
CELL = ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads", "cpus", "context")
DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class Decision:
    """`pick` is None where nothing fits: `reason` says so, and `closest` names what came nearest and what it misses.

    `undecided`: candidates that could fit, each with the constraints in question and what would settle them."""

    pick: dict[str, Any] | None
    reason: str | None = None
    closest: dict[str, Any] | None = None
    undecided: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """One shippable thing at every place: result index, figure to minimise and judged constraints by place."""

    name: tuple[Any, ...]
    at: Mapping[Place, int]
    figures: Mapping[Place, Figure]
    judged: Mapping[Place, tuple[Judged, ...]]

    def fits(self, without: Constraint | None = None) -> bool:
        return all(j.outcome == "holds" for js in self.judged.values() for j in js if j.constraint != without)

    @property
    def unmet(self) -> list[tuple[Place, Judged]]:
        return [(place, j) for place, js in self.judged.items() for j in js if j.outcome != "holds"]


def cell(result: Result) -> dict[str, Any]:
    """The identity keys of a result."""
    return {key: result[key] for key in CELL}


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

    For a metric where higher is better the largest value is taken. `raw[i]` belongs to `results[i]`.
    `selected_on`: with `validation`, that split's accuracy and loss are judged wherever the test's are named."""
    minimize = judged_by(minimize, selected_on)
    where = [replace(c, metric=judged_by(c.metric, selected_on)) for c in where]
    usable = [i for i, r in enumerate(results) if r["device"] and r["status"] == "ok" and r["reason"] is None]
    places = sorted({_place(r) for r in results if r["device"] is not None})
    if not usable:
        return Decision(pick=None, reason=_nothing_usable(results))
    candidates = _candidates(results, usable, places, minimize, where, confidence)
    if not candidates:
        return Decision(pick=None, reason=_no_candidate(results, usable, places, minimize))
    ordered = _ordered([c for c in candidates if c.fits()], places)
    undecided = tuple(_misses(c, results) for c in candidates if c.unmet and _open(c))
    if not ordered:
        closest = min(candidates, key=_how_far)
        missed = _misses(closest, results)
        return Decision(pick=None, reason=_none_fits(missed), closest=missed, undecided=undecided)
    best = ordered[0]
    chosen = _named(best, results, places)
    chosen["probability"] = _probability(best, candidates, places, minimize, raw or [None] * len(results), seed)
    chosen["runner_up"] = _named(ordered[1], results, places) if len(ordered) > 1 else None
    chosen["binding"] = _binding(best, candidates, places, where)
    return Decision(pick=chosen, undecided=undecided)


def _place(result: Result) -> Place:
    return (str(result["device"]), str(result["device_id"]), str(result["input"]))


def _candidates(
    results: Sequence[Result], usable: Sequence[int], places: Sequence[Place], minimize: str,
    where: Sequence[Constraint], confidence: float,
) -> list[_Candidate]:  # fmt: skip
    """What is usable at every place, in an order that does not hang on the order of the results."""
    at: dict[tuple[Any, ...], dict[Place, int]] = {}
    for i in usable:
        name = tuple(results[i][k] for k in CELL if k not in ("input", "device", "device_id", "context"))
        at.setdefault(name, {})[_place(results[i])] = i
    out = []
    for name, where_at in at.items():
        found = {place: figure(results[i], minimize) for place, i in where_at.items()}
        figures = {place: f for place, f in found.items() if isinstance(f, Figure)}
        if len(figures) == len(places):
            judged = {p: tuple(judge(results[i], c, confidence) for c in where) for p, i in where_at.items()}
            out.append(_Candidate(name=name, at=where_at, figures=figures, judged=judged))
    return sorted(out, key=lambda c: [str(part) for part in c.name])


def _ordered(fits: Sequence[_Candidate], places: Sequence[Place]) -> list[_Candidate]:
    """The fitting ones, best first."""
    if not fits:
        return []
    values = np.array([[c.figures[p].oriented(c.figures[p].value) for p in places] for c in fits])
    scores = _worst_ratio(values[:, :, None], np.ones((len(fits), 1), dtype=bool))[:, 0]
    return [fits[i] for i in np.argsort(scores, kind="stable")]


def _worst_ratio(values: Floats, feasible: NDArray[np.bool_]) -> Floats:
    """(candidates, draws): the worst over places of value to best feasible value; infinite where not feasible.

    `values` (candidates, places, draws), less is better. Where all have one sign the logarithm of the ratio is
    taken, else the difference."""
    if (values > 0).all():
        values = np.log(values)
    elif (values < 0).all():
        values = -np.log(-values)
    masked = np.where(feasible[:, None, :], values, np.inf)
    with np.errstate(invalid="ignore"):
        worst: Floats = (masked - masked.min(axis=0)).max(axis=1)
    return np.where(feasible, worst, np.inf)


def _probability(
    best: _Candidate, candidates: Sequence[_Candidate], places: Sequence[Place], minimize: str,
    raw: Sequence[Raw | None], seed: int,
) -> float | dict[str, str]:  # fmt: skip
    """How probable it is that the pick fits and nothing that fits is better, over joint draws of all figures.

    A candidate for which a constraint cannot be judged is left out; one that hardly fits counts as rarely."""
    known = [c for c in candidates if all(j.probability is not None for js in c.judged.values() for j in js)]
    known = [c for c in known if c is best or all((j.probability or 0) > 0 for js in c.judged.values() for j in js)]
    if len(known) > 1 and any(f.low is None for c in known for f in c.figures.values()):
        return {"absent": f"{minimize} has no interval"}
    rng = np.random.default_rng(seed)
    values = np.empty((len(known), len(places), DRAWS))
    feasible = np.ones((len(known), DRAWS), dtype=bool)
    for p, place in enumerate(places):
        figures = [c.figures[place] for c in known]
        drawn = draw(figures, minimize, [raw[c.at[place]] for c in known], DRAWS, rng).T
        values[:, p] = np.array([f.oriented(1.0) for f in figures])[:, None] * drawn
        for i, c in enumerate(known):
            for j in c.judged[place]:
                feasible[i] &= _holds(j, drawn[i] if j.constraint.metric == minimize else None, rng)
    scores = _worst_ratio(values, feasible)
    mine = scores[known.index(best)]
    return float((np.isfinite(mine) & (mine <= scores.min(axis=0))).mean())


def _holds(judged: Judged, drawn: Floats | None, rng: np.random.Generator) -> NDArray[np.bool_]:
    """In which draws the constraint holds: by the drawn values of what is minimised, else with its own P(holds)."""
    constraint = judged.constraint
    if drawn is None:
        return rng.random(DRAWS) < (judged.probability or 0.0)
    below = drawn < constraint.bound if constraint.op == "<" else drawn <= constraint.bound
    above = drawn > constraint.bound if constraint.op == ">" else drawn >= constraint.bound
    return below if constraint.op in ("<", "<=") else above


def _binding(
    best: _Candidate, candidates: Sequence[_Candidate], places: Sequence[Place], where: Sequence[Constraint]
) -> str | None:
    """The constraint without which another variant would be picked; of several, the one that costs most.

    Where only leaving out several at once would change the pick, the one that most candidates do not meet.
    None where nothing binds: the pick would be the same without any constraint."""
    gains: list[tuple[float, str]] = []
    everyone = _ordered(candidates, places)
    rank = {c.name: i for i, c in enumerate(everyone)}
    if everyone[0] is best:
        return None
    for constraint in where:
        relaxed = _ordered([c for c in candidates if c.fits(without=constraint)], places)
        if relaxed[0] is not best:
            gains.append((rank[relaxed[0].name], str(constraint)))
    if gains:
        return min(gains)[1]
    unmet = Counter(str(j.constraint) for c in candidates for _, j in c.unmet)
    return unmet.most_common(1)[0][0] if unmet else None


def _named(candidate: _Candidate, results: Sequence[Result], places: Sequence[Place]) -> dict[str, Any]:
    """The candidate's cell; `*` for the device, and for the input case, where there are several."""
    own = cell(results[candidate.at[places[0]]])
    if len({p[:2] for p in places}) > 1:
        own["device"] = own["device_id"] = "*"
        if len({results[i]["context"] for i in candidate.at.values()}) > 1:
            own["context"] = "*"
    if len({p[2] for p in places}) > 1:
        own["input"] = "*"
    return own


def _open(candidate: _Candidate) -> bool:
    return not any(j.outcome == "fails" for _, j in candidate.unmet)


def _how_far(candidate: _Candidate) -> tuple[int, int, float]:
    unmet = [j for _, j in candidate.unmet]
    failing = sum(j.outcome == "fails" for j in unmet)
    return failing, len(unmet), max((j.relative for j in unmet), default=0.0)


def _misses(candidate: _Candidate, results: Sequence[Result]) -> dict[str, Any]:
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
