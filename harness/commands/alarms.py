"""What the history says to a gate: changes for the worse since the baseline, and whether they count."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import confirm as confirming
from harness.analyze import history as tracking
from harness.analyze.compare import Compared
from harness.analyze.history import Change, Series
from harness.commands import sides
from harness.commands.comparing import Asked
from harness.quiet import stdout_to_stderr
from harness.screen import Screen
from harness.store import Store


@dataclass(frozen=True, kw_only=True)
class Raised:
    """`compared`: what the comparison with the baseline says of this cell and metric decides, not the history."""

    series: Series
    change: Change
    compared: bool = False


def raised(series: Sequence[Series], baseline: str, compared: Sequence[Compared], paired: bool) -> list[Raised]:
    """What changed before the baseline was accepted when that was set.

    Where base and head were measured in the same blocks (`paired`), that is better evidence than any history."""
    rows = {(row.cell, row.metric): row for row in compared}
    found = []
    for one, change in tracking.alarms(series, baseline):
        row = rows.get((one.cell, one.metric))
        if row is not None and row.outcome == "worse":
            told = dataclasses.replace(change, reason="it is worse than the baseline, too")
            found.append(Raised(series=one, change=told, compared=True))
        elif paired and row is not None and row.design != "unpaired" and row.outcome in ("same", "better"):
            said = f"beside the baseline, in the same blocks, it is {row.outcome}"
            denied = dataclasses.replace(change, reason=said)
            found.append(Raised(series=one, change=denied, compared=True))
        else:
            found.append(Raised(series=one, change=change))
    return found


def confirmed(
    found: Sequence[Raised], store: Store, asked: Asked, thresholds: Mapping[str, float] | None
) -> list[Raised]:
    """The alarms after what nothing else decides was measured again."""
    ask = [alarm for alarm in found if not alarm.compared]
    if not ask:
        return list(found)
    with stdout_to_stderr(), Screen() as screen:
        pairs = [(alarm.series, alarm.change) for alarm in ask]
        settings = asked.settings(Path.cwd())
        again = confirming.changes(pairs, store, settings, screen, thresholds, asked.repeats)
    judged = [dataclasses.replace(alarm, change=change) for alarm, change in zip(ask, again, strict=True)]
    return [*(alarm for alarm in found if alarm.compared), *judged]


def row(alarm: Raised, identify: bool) -> dict[str, Any]:
    """As `gate --json` tells it: `label` is the first release behind the change."""
    series, change = alarm.series, alarm.change
    return dataclasses.asdict(series.cell) | {
        "device": sides.label_of(series.device, series.cell.device_id, identify),
        "metric": series.metric,
        "label": series.points[change.at].label,
        "ratio": change.ratio,
        "p_value": change.p_value,
        "confirmed": change.confirmed,
        "reason": change.reason,
    }
