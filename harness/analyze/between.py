"""How much one session differs from the next though nothing was changed: what an unpaired comparison has to allow for.

Told from the reference variant, which is measured in every session and seldom changes: the standard deviation of its
mean logarithm over the stored sessions with the same file under the same conditions. Each holds what the runs of a
session leave open too, so that it is rather too large than too small. Fewer than FEWEST say too little: a standard
deviation from 6 is known to within a factor of 2, one from 3 to within a factor of 6. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.analyze.digest import CellDigest, Digest
from harness.analyze.judgement import percent
from harness.analyze.moved import differing, factors_of
from harness.analyze.stats import sd
from harness.types import Cell

ASSUMED_SD = 0.05
FEWEST = 6


@dataclass(frozen=True, kw_only=True)
class Spread:
    """`sd` is of the logarithm of a session's mean; `sessions`: how many are stored. `assumed`: they were too few."""

    sd: float
    sessions: int
    assumed: bool

    @property
    def df(self) -> float:
        """Degrees of freedom of `sd`; what is assumed has no error of its own."""
        return math.inf if self.assumed else self.sessions - 1

    def __str__(self) -> str:
        if self.assumed:
            return f"between sessions: {percent(self.sd)} assumed, {self.sessions} stored"
        return f"between sessions: {percent(self.sd)} from {self.sessions} stored sessions"


class Spreads:
    """The spread between the stored sessions by the reference's cell and metric; each is worked out once."""

    def __init__(self, stored: Sequence[Digest], references: Iterable[str]) -> None:
        names = frozenset(references)
        self._cells: dict[Cell, dict[str, CellDigest]] = {}
        self._found: dict[tuple[int, int, str], Spread] = {}
        for one in stored:
            for c in one.cells:
                if c.cell.variant in names and c.status == "ok":
                    self._cells.setdefault(c.cell, {})[one.session] = c

    def of(self, base: CellDigest | None, head: CellDigest | None, metric: str) -> Spread:
        """`base`, `head`: the reference's cells beside what is compared; where its file changed between the two, the
        one that more sessions are stored of is taken."""
        key = id(base), id(head), metric
        if key not in self._found:
            found = [self._means(like, metric) for like in (base, head) if like is not None]
            self._found[key] = spread(max(found, key=len, default=[]))
        return self._found[key]

    def _means(self, like: CellDigest, metric: str) -> list[float]:
        if like.artifact_sha256 is None:
            return []
        alike = [
            c
            for c in self._cells.get(like.cell, {}).values()
            if c.artifact_sha256 == like.artifact_sha256 and not differing(c, like, factors_of(metric))
        ]
        found = [mean_log(list(known.blocks.values())) for c in alike if (known := c.metrics.get(metric))]
        return [mean for mean in found if mean is not None]


def spread(means: Sequence[float]) -> Spread:
    """Of the mean logarithms of so many sessions."""
    if len(means) < FEWEST:
        return Spread(sd=ASSUMED_SD, sessions=len(means), assumed=True)
    return Spread(sd=sd(means), sessions=len(means), assumed=False)


def mean_log(values: Sequence[float]) -> float | None:
    """None for fewer than 2 runs, and where a figure has no logarithm."""
    if len(values) < 2 or not all(v > 0 and math.isfinite(v) for v in values):
        return None
    return statistics.fmean(map(math.log, values))
