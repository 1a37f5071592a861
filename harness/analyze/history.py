"""Since when: each cell's metric over the releases, its segments and its change points. Pure.

A point is the median of at least 5 runs of one release, divided by the reference measured in the same session (which
takes away what the device itself did from day to day). Where the OS, the runner, the loader or the energy source
changed, a new segment begins: what lies before is not compared with what lies behind (MEASUREMENT 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analyze.digest import Digest
from harness.types import Cell


@dataclass(frozen=True, kw_only=True)
class Point:
    """One release of a series. `value`: in the metric's unit, the median over its runs; `relative`: what change points
    are looked for in: value / reference's where there is one, else the value. None with `absent`, the reason.

    `segment`: counts up where the conditions changed; `began`: the factors that did (empty otherwise)."""

    label: str | None
    sessions: tuple[str, ...]
    created_utc: str
    value: float | None
    relative: float | None
    runs: int
    segment: int
    began: tuple[str, ...] = ()
    absent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change point: `at` is the index of the first point behind it. `ratio`: median behind / median before, of
    `relative`. `worse`: by the metric's direction. `confirmed`: None until it was measured again, paired."""

    at: int
    ratio: float
    p_value: float
    worse: bool
    confirmed: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """`normalised`: the name of the reference it was divided by, or None with `reason`."""

    cell: Cell
    device: str
    metric: str
    lower_is_better: bool
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    normalised: str | None = None
    reason: str | None = None


def history(
    stored: Sequence[Digest], metrics: Sequence[str] | None = None, devices: Sequence[str] = ()
) -> list[Series]:
    """One series per (cell, metric) that has a point, in the order of the newest release's cells. `stored`: oldest
    first. Labels are ordered by their first session; a session without a label is a release of its own."""
    raise NotImplementedError


def as_json(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The rows of `history --json`, every key always there."""
    raise NotImplementedError
