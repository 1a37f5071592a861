"""Two releases side by side: every cell and metric that both have, judged. Pure.

Three designs, by what there is (MEASUREMENT 5.1):
- paired: base and head in the same blocks of one session. The mean log-ratio over blocks, t-interval, robust twin.
- unpaired: sessions of their own. Each side is divided by the reference variant that was interleaved in its session,
  and the interval includes what one session differs from another (between.py). `worse` needs the whole interval
  beyond the practical threshold.
- exact: figures without spread (the file's size), and scores over the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.analyze.digest import Digest
from harness.types import Cell

#: `missing`: planned or there on one side, and not on the other
Outcome = Literal["worse", "better", "same", "inconclusive", "incomparable", "missing"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A factor that is not the same on both sides: a condition or a fact of digest.py, in words."""

    factor: str
    base: str | None
    head: str | None


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One metric of one cell. `base`, `head`: the figures in the metric's unit; `ratio` head / base with its interval.

    `reason`: why it is not `worse` or `better`, why it cannot be compared, or what is missing; and what stands beside
    a verdict (the robust twin does not agree, across which factor). `q_value`: adjusted over the family of all
    comparisons of this call. `moved`: what else changed, what is likely to explain it first. `confirmed`: of `worse`
    after a paired re-measurement; None where none was made."""

    cell: Cell
    device: str
    metric: str
    design: Literal["paired", "unpaired", "exact", "samples"] | None
    base: float | None
    head: float | None
    ratio: float | None = None
    ci95: tuple[float, float] | None = None
    outcome: Outcome
    n: int = 0
    p_value: float | None = None
    q_value: float | None = None
    minimum_detectable: float | None = None
    threshold: float
    reason: str | None = None
    moved: tuple[Moved, ...] = ()
    confirmed: bool | None = None


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
    named as digest.py names them. `thresholds`: metric -> practical relative change; default PRACTICAL."""
    raise NotImplementedError


def verdict(compared: Sequence[Compared], allow_missing: int = 0) -> str:
    """`worse`, else `incomparable` where more than `allow_missing` are incomparable or missing, else `better`,
    `inconclusive` or `same`; `incomparable` where nothing was compared."""
    raise NotImplementedError


def as_json(compared: Sequence[Compared]) -> list[dict[str, Any]]:
    """The rows of `compare --json` (CONTRACT 7), every key always there."""
    raise NotImplementedError
