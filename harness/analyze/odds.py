"""How probable it is that a candidate is the one to ship, and whose rivalry keeps that from being surer.

Everything is drawn jointly, as often as `DRAWS`: what is minimised with the covariance over blocks, and whether each
constraint holds from draws of the constraint's own metric. Those of metrics which the same runs made share their
blocks' draws (a p95 and a median rise together), and those of accuracy their samples': two variants that are both
compared with one reference are both right about it or both wrong, and what one file loses it loses on every device.
How often a constraint holds at a place stays what `judge` said.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analyze.constraints import Judged
from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure, figure
from harness.analyze.places import Name, Place, Result, worst_ratio
from harness.metrics import TASK_METRICS
from harness.types import Constraint, Objective

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
DRAWS = 4000


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One shippable thing at every place: result index, figure to minimise and judged constraints by place."""

    name: Name
    at: Mapping[Place, int]
    figures: Mapping[Place, Figure]
    judged: Mapping[Place, tuple[Judged, ...]]

    def fits(self, without: Constraint | None = None) -> bool:
        return all(j.outcome == "holds" for js in self.judged.values() for j in js if j.constraint != without)

    @property
    def unmet(self) -> list[tuple[Place, Judged]]:
        return [(place, j) for place, js in self.judged.items() for j in js if j.outcome != "holds"]

    @property
    def everything(self) -> list[Judged]:
        return [j for js in self.judged.values() for j in js]


@dataclass(frozen=True, kw_only=True)
class Odds:
    """`best`: P(it fits, and nothing that fits is better), of the candidate asked about. `fits`: P(it fits).

    `rivals`: each other candidate -> P(it is the best one where the one asked about fits). `ahead`: each other ->
    P(the one asked about is better than it, whether they fit or not)."""

    best: float
    fits: float
    rivals: Mapping[Name, float]
    ahead: Mapping[Name, float]


def odds(
    best: Candidate, candidates: Sequence[Candidate], places: Sequence[Place], minimize: str,
    results: Sequence[Result], raw: Sequence[Raw | None], seed: int,
) -> Odds | None:  # fmt: skip
    """None where there are several and some figure to minimise has no interval: then nobody knows.

    A candidate for which a constraint cannot be judged is left out; one that hardly fits counts as rarely."""
    known = [c for c in candidates if all(j.probability is not None for j in c.everything)]
    known = [c for c in known if c is best or all((j.probability or 0) > 0 for j in c.everything)]
    if len(known) > 1 and any(f.low is None for c in known for f in c.figures.values()):
        return None
    values = np.empty((len(known), len(places), DRAWS))
    for p, place in enumerate(places):
        figures = [c.figures[place] for c in known]
        beside = _Beside(known=known, place=place, results=results, raw=raw, seed=(seed, p))
        values[:, p] = beside.drawn(minimize, figures, range(len(known)))
        values[:, p] *= np.array([f.oriented(1.0) for f in figures])[:, None]
    ahead = _ahead(values, known.index(best))
    if len(places) == 1:  # what is never better is no rival; over several places it may still be the best of one
        racing = [i for i, c in enumerate(known) if c is best or ahead[i] < 1]
        known, values = [known[i] for i in racing], values[racing]
        ahead = ahead[racing]
    feasible = np.ones((len(known), DRAWS), dtype=bool)
    for p, place in enumerate(places):
        beside = _Beside(known=known, place=place, results=results, raw=raw, seed=(seed, p))
        drawn = values[:, p] * known[0].figures[place].oriented(1.0)
        for which in range(len(known[0].judged[place])):
            feasible &= beside.holds(which, minimize, drawn)
    scores = worst_ratio(values, feasible)
    mine = known.index(best)
    least = np.isfinite(scores[mine]) & (scores[mine] <= scores.min(axis=0))
    leader = np.argmin(scores, axis=0)
    lost = np.isfinite(scores[mine]) & ~least
    others = [i for i in range(len(known)) if i != mine]
    return Odds(
        best=float(least.mean()), fits=float(feasible[mine].mean()),
        rivals={known[i].name: float((lost & (leader == i)).mean()) for i in others},
        ahead={known[i].name: float(ahead[i]) for i in others},
    )  # fmt: skip


def _ahead(values: Floats, mine: int) -> Floats:
    """(candidates,): P(the one at `mine` is better than each), a tie counting half."""
    scores = worst_ratio(values)
    found: Floats = (np.sign(scores - scores[mine]).mean(axis=1) + 1) / 2
    return found


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """The candidates at one place."""

    known: Sequence[Candidate]
    place: Place
    results: Sequence[Result]
    raw: Sequence[Raw | None]
    seed: tuple[int, int]

    def drawn(self, metric: str, figures: Sequence[Figure], of: Sequence[int]) -> Floats:
        """(of, draws) of one metric in its unit."""
        raw = [self.raw[self.known[k].at[self.place]] for k in of]
        blocks = [block for r in raw if r is not None for block in r.blocks.get(metric, ())]
        own: tuple[int, ...]
        if Objective(metric=metric).key[0] in TASK_METRICS:
            own = (self.seed[0], zlib.crc32(metric.encode()))  # one file, the same samples: one truth on every device
        else:  # what the same runs measured shares its draws
            own = (*self.seed, min(blocks) if blocks else zlib.crc32(metric.encode()))
        return draw(figures, metric, raw, DRAWS, np.random.default_rng(own)).T

    def holds(self, which: int, minimize: str, drawn: Floats) -> Bools:
        """(candidates, draws): where the constraint of this number holds. `drawn`: what is minimised."""
        judged = [c.judged[self.place][which] for c in self.known]
        constraint = judged[0].constraint
        if constraint.metric == minimize:
            return _inside(drawn, constraint)
        chances = [j.probability or 0.0 for j in judged]
        out = np.repeat(np.array([[chance >= 1.0] for chance in chances]), DRAWS, axis=1)
        open_ = [i for i, chance in enumerate(chances) if 0.0 < chance < 1.0]
        found = [figure(self.results[self.known[i].at[self.place]], constraint.metric) for i in open_]
        figures = [f for f in found if isinstance(f, Figure)]
        if not open_ or len(figures) < len(open_):
            return out
        values = self.drawn(constraint.metric, figures, open_) * (1.0 if constraint.op in ("<", "<=") else -1.0)
        rng = np.random.default_rng((self.seed[0], which, 1))
        for i, row in zip(open_, values, strict=True):
            if np.ptp(row) == 0:  # no sample of it differs from the reference's: the interval alone is known
                row = rng.standard_normal(DRAWS)  # the same on every device
            count = round(chances[i] * DRAWS)
            if count:
                out[i] = row <= np.partition(row, count - 1)[count - 1]
        return out


def _inside(drawn: Floats, constraint: Constraint) -> Bools:
    below = drawn < constraint.bound if constraint.op == "<" else drawn <= constraint.bound
    above = drawn > constraint.bound if constraint.op == ">" else drawn >= constraint.bound
    return below if constraint.op in ("<", "<=") else above
