"""`baseline` and `history`: the label that releases are compared with, and each metric over all of them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import confirm as confirming
from harness import records
from harness.analyze import history as judging
from harness.analyze.digest import Digest
from harness.analyze.history import Series
from harness.commands import beside, sides
from harness.commands.common import artifacts_folder, emit, store_url
from harness.errors import UsageError
from harness.metrics import JUDGED, metric, nearest
from harness.quiet import stdout_to_stderr
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store


def set_baseline(label: str, experiment: str | None, url: str | None, json_out: bool) -> int:
    store = Store.open(store_url(url))
    try:
        chosen = experiment or sides.of_labels(store.list_sessions(), [label])
        found = records.labelled(store, chosen, label)
        if not any(cell.status == "ok" for one in found for cell in one.cells):
            raise UsageError(
                f"label {label!r} of {chosen!r} has no usable result", "set a label that something was measured for"
            )
        before = store.baseline(chosen)
        store.set_baseline(chosen, label)
    finally:
        store.close()
    for one in found:
        if not one.finished:
            print(f"session {one.session[:8]} of it is not finished: what it lacks is missing", file=sys.stderr)
    if json_out:
        emit({"schema": 1, "experiment": chosen, "label": label, "before": before})
    else:
        was = f" (it was {before})" if before not in (None, label) else ""
        print(f"{chosen}: releases are compared with {label} from now on{was}")
    return 0


def show_baseline(experiment: str | None, url: str | None, json_out: bool) -> int:
    store = Store.open(store_url(url))
    try:
        known = list(dict.fromkeys(s["experiment"] for s in store.list_sessions() if _releases(s)))
        if experiment is not None and experiment not in known:
            hint = nearest(experiment, known) if known else "harness run CONFIG --label NAME measures one"
            raise UsageError(f"the store has no experiment {experiment!r}", hint)
        found = {name: store.baseline(name) for name in ([experiment] if experiment else known)}
    finally:
        store.close()
    if json_out:
        emit({"schema": 1, "baselines": [{"experiment": name, "label": label} for name, label in found.items()]})
        return 0
    for name, label in found.items():
        print(f"{name}: {label if label is not None else 'no baseline; harness baseline set LABEL'}")
    if not found:
        print("the store has no experiment that has releases; harness run CONFIG --label NAME measures one")
    return 0


def _releases(session: dict[str, Any]) -> bool:
    return not session["quick"] and session["kind"] not in records.NO_RELEASE


# -- history ---------------------------------------------------------------------------------------------------------


def history(
    metrics: Sequence[str],
    devices: Sequence[str],
    variants: Sequence[str],
    experiment: str | None,
    confirm: bool,
    every: bool,
    how: str,
    devices_file: Path | None,
    url: str | None,
    identify: bool,
) -> int:
    for name in metrics:
        metric(name)
        if name not in JUDGED:
            raise UsageError(f"there is no history of {name!r}", nearest(name, JUDGED))
    store = Store.open(store_url(url))
    try:
        stored, chosen = _stored(store, experiment)
        _refuse_unknown(stored, devices, variants)
        thresholds = store.session(stored[-1].session).package.thresholds
        series = judging.history(_of(stored, devices, variants), metrics or None, thresholds=thresholds)
        series = [one for one in series if not variants or one.cell.variant in variants]
        if confirm:
            series = _confirmed(series, store, url, identify, thresholds, devices_file)
        shown = beside.history_document(store, chosen, series, stored, identify)
    finally:
        store.close()
    if how == "json":
        emit(shown)
    elif how == "markdown":
        from harness.report.history_text import markdown

        sys.stdout.write(markdown(shown))
    else:
        from harness.report.history_text import lines

        print("\n".join(lines(shown, every)))
    return 0


def _stored(store: Store, experiment: str | None) -> tuple[list[Digest], str]:
    listed = store.list_sessions()
    known = {s["experiment"] for s in listed if _releases(s)}
    chosen = experiment or sides.of_labels(listed, [])
    if chosen not in known:
        hint = nearest(chosen, known) if known else "harness run CONFIG --label NAME measures one"
        raise UsageError(f"the store has no experiment {chosen!r}", hint)
    return records.releases(store, chosen), chosen


def _refuse_unknown(stored: Sequence[Digest], devices: Sequence[str], variants: Sequence[str]) -> None:
    sides.refuse_unknown_devices(stored, devices)
    known = {cell.cell.variant for one in stored for cell in one.cells}
    for name in variants:
        if name not in known:
            hint = nearest(name, known) if known else "nothing was measured"
            raise UsageError(f"nothing of a variant {name!r} is stored", hint)


def _of(stored: Sequence[Digest], devices: Sequence[str], variants: Sequence[str]) -> list[Digest]:
    """Only these devices and variants; the reference stays beside them, for the others are divided by it."""
    kept = sides.narrowed(stored, devices)
    wanted = {*variants}
    if not wanted:
        return kept
    return [
        dataclasses.replace(one, cells=tuple(c for c in one.cells if c.cell.variant in wanted | {one.reference}))
        for one in kept
    ]


def _confirmed(
    series: Sequence[Series], store: Store, url: str | None, identify: bool,
    thresholds: Mapping[str, float] | None, devices_file: Path | None,
) -> list[Series]:  # fmt: skip
    """Each alarm measured again, the old file beside the new one."""
    alarms = judging.alarms(series)
    if not alarms:
        return list(series)
    place = store_url(url)
    settings = Settings(
        store_url=place, files=artifacts_folder(place), folder=Path.cwd(), devices_file=devices_file, identify=identify
    )
    with stdout_to_stderr(), Screen() as screen:
        again = confirming.changes(alarms, store, settings, screen, thresholds)
    judged = {(s.cell, s.metric, old.at): new for (s, old), new in zip(alarms, again, strict=True)}
    return [
        dataclasses.replace(s, changes=tuple(judged.get((s.cell, s.metric, c.at), c) for c in s.changes))
        for s in series
    ]
