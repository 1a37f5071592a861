"""Real runs on a shared computer: what others' work spoilt at every attempt does not count, and is no fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.attempt import ATTEMPTS
from harness.types import Run

Planned = tuple[str, str, str, int]


def planned_as(run: Run) -> Planned:
    return run.cell.variant, run.cell.exporter, run.purpose, run.repeat


def given_up(runs: Sequence[Run]) -> set[Planned]:
    """What was planned and tried as often as anything is, and was invalid each time."""
    counted = {planned_as(run) for run in runs if run.counts}
    spoilt = Counter(planned_as(run) for run in runs if run.status == "invalid")
    return {what for what, tries in spoilt.items() if what not in counted and tries >= ATTEMPTS}
