"""Since when: each cell's metric over the releases, its segments and its change points. Pure.

A point is the median of at least 5 runs of one release, divided by the reference measured in the same session (which
takes away what the device itself did from day to day). Where the OS, the runner, the loader or the energy source
changed, a new segment begins: what lies before is not compared with what lies behind (MEASUREMENT 5.3)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from harness.analyze import points as entries_of
from harness.analyze.digest import JUDGED, Digest
from harness.analyze.edivisive import change_points, changed
from harness.analyze.judgement import threshold_of
from harness.analyze.moved import factors_of
from harness.analyze.paired import PRACTICAL
from harness.analyze.points import Entry, Measured
from harness.metrics import METRICS
from harness.types import Cell, Objective

#: a change at one of so many newest points is news, where no baseline says what has been accepted
RECENT = 5
#: a reference's file that lasts fewer releases leaves no room for a change point within its time
LASTS = 3
#: figures of the file itself: whatever measured them, they are the same
OF_THE_FILE = ("size_bytes", "compressed_bytes")
#: what follows the device's speed from day to day, and is divided by the reference for that
DIVIDED = ("latency_ms", "first_inference_ms", "load_ms", "cold_load_ms", "sustained_ms", "energy_j")
TASK = "accuracy"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One release of a series. `value`: in the metric's unit, the median over its runs; `relative`: what change points
    are looked for in: value / reference's where there is one, else the value. None with `absent`, the reason.

    `runs`: how many are behind what is compared, 0 for what is not measured by runs. `left_out`: why no change point
    is looked for here, although there is a value. `segment`: counts up where the conditions changed; `began`: the
    factors that did (empty otherwise)."""

    label: str | None
    sessions: tuple[str, ...]
    created_utc: str
    value: float | None
    relative: float | None
    runs: int
    segment: int
    began: tuple[str, ...] = ()
    absent: str | None = None
    left_out: str | None = None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change point: `at` is the index of the first point behind it. `ratio`: median behind / median before, of
    `relative`. `worse`: by the metric's direction. `p_value`: Student's, None of exact figures, which need no test.
    `confirmed`: None until it was measured again, paired. `reason`: what the verdict stands on, where not on a test of
    divided points."""

    at: int
    ratio: float
    p_value: float | None
    worse: bool
    confirmed: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """`normalised`: the name of the reference it was divided by, or None with `reason`. `threshold`: the practical
    relative change that was looked for."""

    cell: Cell
    device: str
    metric: str
    lower_is_better: bool
    points: tuple[Point, ...]
    changes: tuple[Change, ...]
    threshold: float = PRACTICAL
    normalised: str | None = None
    reason: str | None = None


def history(
    stored: Sequence[Digest],
    metrics: Sequence[str] | None = None,
    devices: Sequence[str] = (),
    *,
    thresholds: Mapping[str, float] | None = None,
) -> list[Series]:
    """One series per (cell, metric) that has a point with a value, in the order of the newest release's cells.

    `stored`: oldest first. Labels are ordered by their first session; a session without a label is a release of its
    own; quick ones never come in. `metrics`: default JUDGED. `devices`: only these, by name or device_id.
    `thresholds`: metric -> practical relative change."""
    known = entries_of.releases(stored)
    if not known:
        return []
    reference = known[-1][-1].reference
    found = []
    for cell, device, entries in entries_of.cells(known, reference):
        if devices and device not in devices and cell.device_id not in devices:
            continue
        for metric in JUDGED if metrics is None else metrics:
            if series := _series(cell, device, metric, entries, reference, thresholds or {}):
                found.append(series)
    return found


def alarms(series: Sequence[Series], accepted: str | None = None) -> list[tuple[Series, Change]]:
    """What a gate must report: each change to the worse that stands and is news.

    It stands while it lies in the newest segment, no paired measurement refuted it, the changes behind it have not
    brought the level back to within the threshold, and the newest release lies nearer to what is behind it than to what
    was before: releases that were rejected and taken back are no fault of the next one. It is news where it lies behind
    the release labelled `accepted` (the baseline: who set it took all that came before it); where that is None, or has
    no point in the series, where its change point is one of the RECENT newest."""
    return [(s, c) for s in series for c in s.changes if _stands(s, c) and _news(s, c, accepted)]


def _stands(series: Series, change: Change) -> bool:
    if not change.worse or change.confirmed is False or not _in_newest_segment(series, change):
        return False
    level = 1.0
    for later in series.changes:
        if later.at >= change.at:
            level *= later.ratio
    still = changed(1.0, level, series.threshold) and (level > 1) == series.lower_is_better
    return still and _newest_is_behind(series, change)


def _newest_is_behind(series: Series, change: Change) -> bool:
    segment = series.points[change.at].segment
    before = [p.relative for p in series.points[: change.at] if p.relative and _used(p) and p.segment == segment]
    newest = next((p.relative for p in reversed(series.points) if _used(p)), None)
    if not before or not newest:
        return True
    moved, half = newest / statistics.median(before), math.sqrt(change.ratio)
    return moved > half if change.ratio > 1 else moved < half


def _in_newest_segment(series: Series, change: Change) -> bool:
    return series.points[change.at].segment == series.points[-1].segment


def _news(series: Series, change: Change, accepted: str | None) -> bool:
    places = [i for i, point in enumerate(series.points) if accepted is not None and point.label == accepted]
    if places:
        return change.at > places[-1]
    used = [i for i, point in enumerate(series.points) if _used(point)]
    return change.at >= used[-RECENT:][0]


def _used(point: Point) -> bool:
    """Whether a change point is looked for at it."""
    return point.relative is not None and point.left_out is None


def _series(
    cell: Cell, device: str, metric: str, entries: Sequence[Entry], reference: str, thresholds: Mapping[str, float]
) -> Series | None:
    if not any(entry.usable(metric) for entry in entries):
        return None
    base = Objective(metric=metric).key[0]
    undivided = _undivided(cell, metric, base, entries, reference)
    by_runs, name = base not in (*OF_THE_FILE, TASK), None if undivided else reference
    factors = factors_of(metric)
    found = [entries_of.measured(entry, metric, factors, reference=name, by_runs=by_runs) for entry in entries]
    lower_is_better = next(one.lower_is_better for one in reversed(found) if one.value is not None)
    threshold = thresholds.get(metric, threshold_of(metric))
    points = _points(entries, found)
    changes = [
        change
        for segment in range(points[-1].segment + 1)
        for change in _changes(points, segment, base, threshold, lower_is_better)
    ]
    if undivided and base in DIVIDED:
        changes = [replace(change, reason=f"not divided: {undivided}") for change in changes]
    return Series(
        cell=cell, device=device, metric=metric, lower_is_better=lower_is_better, points=tuple(points),
        changes=tuple(changes), threshold=threshold, normalised=name, reason=undivided,
    )  # fmt: skip


def _undivided(cell: Cell, metric: str, base: str, entries: Sequence[Entry], reference: str) -> str | None:
    """Why a series is not divided by the reference; None where it is.

    The reference's file must last: a model that is trained anew for each release takes its reference with it, and
    dividing by that would hide what became slower in both. One that changes now and then begins a segment each time."""
    if base in OF_THE_FILE:
        return "of the file itself, the same whatever measures it"
    if base not in DIVIDED:
        return f"{base} does not follow the device's speed"
    if cell.variant == reference:
        return "this is the reference: its series follows the device"
    files = [file for entry in entries if (file := entry.reference_file(metric))]
    if not files:
        newest = next(usable for entry in reversed(entries) if (usable := entry.usable(metric)))
        return f"{newest[-1].undivided(reference)}: the series follows the device too"
    kinds = len(set(files))
    if kinds > 1 and LASTS * kinds > len(files):
        return f"the reference {reference} is {kinds} files in {len(files)} releases: the series follows the device too"
    return None


def _points(entries: Sequence[Entry], measured: Sequence[Measured]) -> list[Point]:
    """With segments: a factor that is not known in a release is taken to be as before."""
    points: list[Point] = []
    segment, conditions = 0, dict[str, str]()
    for entry, found in zip(entries, measured, strict=True):
        began = tuple(f for f, said in found.conditions.items() if f in conditions and conditions[f] != said)
        segment += bool(began)
        conditions |= found.conditions
        points.append(
            Point(
                label=entry.label, sessions=entry.sessions, created_utc=entry.created_utc, value=found.value,
                relative=found.relative, runs=found.runs, segment=segment, began=began, absent=found.absent,
                left_out=found.left_out,
            )
        )  # fmt: skip
    return points


def _changes(
    points: Sequence[Point], segment: int, base: str, threshold: float, lower_is_better: bool
) -> Iterator[Change]:
    used = [i for i, point in enumerate(points) if point.segment == segment and _used(point)]
    values = [value for i in used if (value := points[i].relative) is not None]
    if base in OF_THE_FILE or (base == TASK and _repeats(values)):
        for at, ratio in _steps(values, threshold):
            worse = (ratio > 1) == lower_is_better
            yield Change(at=used[at], ratio=ratio, p_value=None, worse=worse, reason="exact: it needs no test")
        return
    for split in change_points(values, threshold, rising_is_worse=lower_is_better):
        worse = (split.ratio > 1) == lower_is_better
        yield Change(at=used[split.at], ratio=split.ratio, p_value=split.p_value, worse=worse)


def _repeats(values: Sequence[float]) -> bool:
    """Whether it is the same in most releases to the last digit: then a change is one of the file, not of chance."""
    same = sum(a == b for a, b in pairwise(values))
    return 2 * same > len(values) - 1


def _steps(values: Sequence[float], threshold: float) -> Iterator[tuple[int, float]]:
    """(index, ratio) of each value that is apart from the level since the last step: many small ones add up."""
    for i, value in enumerate(values):
        if i == 0:
            level = value
        elif changed(level, value, threshold):
            yield i, value / level
            level = value


def as_json(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The rows of `history --json`, every key always there."""
    return [_row(one) for one in series]


def _row(series: Series) -> dict[str, Any]:
    return {
        **vars(series.cell),
        "device": series.device,
        "metric": series.metric,
        "unit": METRICS[Objective(metric=series.metric).key[0]].unit,
        "better": "lower" if series.lower_is_better else "higher",
        "threshold": series.threshold,
        "normalised": series.normalised,
        "reason": series.reason,
        "points": [
            {**vars(point), "sessions": list(point.sessions), "began": list(point.began)} for point in series.points
        ],
        "changes": [
            {**vars(c), "label": series.points[c.at].label, "stands": _stands(series, c)} for c in series.changes
        ],
    }
