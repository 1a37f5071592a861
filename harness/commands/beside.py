"""What stands beside a session on its page: the comparison with the baseline, and the history."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from harness import records
from harness.analyze import compare as judging
from harness.analyze import digest as digests
from harness.analyze import history as tracking
from harness.analyze.compare import Compared
from harness.analyze.digest import Digest
from harness.analyze.history import Series
from harness.commands import comparing, sides
from harness.commands.common import discreet, names_of
from harness.commands.comparing import Asked
from harness.commands.sides import Sides
from harness.pairs import key_of
from harness.store import Store
from harness.types import Session


def of_session(store: Store, session: Session, identify: bool) -> dict[str, Any]:
    """`comparison` and `history` for the page; None for what there is not, as of a session that never decides."""
    if session.quick or session.kind in records.NO_RELEASE:
        return {"comparison": None, "history": None}
    stored = records.releases(store, session.experiment)
    thresholds = session.package.thresholds
    series = tracking.history(stored, thresholds=thresholds)
    return {
        "comparison": _comparison(store, session, stored, identify),
        "history": history(store, session.experiment, series, stored, identify),
    }


def _comparison(store: Store, session: Session, stored: Sequence[Digest], identify: bool) -> dict[str, Any] | None:
    baseline = store.baseline(session.experiment)
    if baseline is None or baseline == session.label:
        return None
    before = [digest for digest in stored if digest.label == baseline and digest.session != session.id]
    if not before:
        return None
    found = records.digest_of(store, session.id)
    base, head = digests.split(found)
    thresholds = session.package.thresholds
    rows = judging.compare(before, [head], stored, thresholds=thresholds)
    if session.kind == "paired":
        rows = _paired(base, head, before, stored, rows, thresholds)
    of = Sides(
        experiment=session.experiment, base=baseline, head=session.label or f"{sides.RUN}{session.id[:8]}",
        base_digests=tuple(before), head_digests=(head,),
    )  # fmt: skip
    return comparing.document(of, rows, [session], Asked(identify=identify))


def _paired(
    base: Digest,
    head: Digest,
    before: Sequence[Digest],
    stored: Sequence[Digest],
    unpaired: Sequence[Compared],
    thresholds: Mapping[str, float],
) -> list[Compared]:
    """As the gate said that measured it: what is the very same file stands on both sides."""
    files = {cell.cell: cell.artifact_sha256 for digest in before for cell in digest.cells}
    there = {cell.cell for cell in base.cells}
    same = tuple(c for c in head.cells if c.cell not in there and files.get(c.cell) == c.artifact_sha256)
    whole = dataclasses.replace(base, cells=(*base.cells, *same))
    both = {cell.cell for cell in whole.cells}
    apart = {key_of(c.cell): "it was not measured beside it" for c in head.cells if c.cell not in both}
    rows = judging.compare([whole], [head], stored, thresholds=thresholds)
    return comparing.with_apart(rows, apart, unpaired, {c.cell.device_id for c in head.cells})


# -- history -----------------------------------------------------------------------------------------------------------


def history(
    store: Store, experiment: str, series: Sequence[Series], stored: Sequence[Digest], identify: bool
) -> dict[str, Any] | None:
    """None while there is one release only."""
    if len({digest.label or digest.session for digest in stored}) < 2:
        return None
    return history_document(store, experiment, series, stored, identify)


def _names(store: Store, series: Sequence[Series]) -> dict[str, str]:
    """What a reason may tell of a device that is not to be told; of sessions that gave one, for that takes time."""
    told = {session for one in series for point in one.points if point.absent for session in point.sessions}
    return {name: label for session in sorted(told) for name, label in names_of(store.session(session)).items()}


def history_document(
    store: Store, experiment: str, series: Sequence[Series], stored: Sequence[Digest], identify: bool
) -> dict[str, Any]:
    """What `history --json` holds, as it may leave this computer."""
    called = [
        dataclasses.replace(one, device=sides.label_of(one.device, one.cell.device_id, identify)) for one in series
    ]
    releases = {digest.label or digest.session for digest in stored}
    notes = [] if len(releases) > 1 else ["one release is stored: a history begins with the second"]
    rows = tracking.as_json(called)
    own_metric = any(digest.task not in (None, "accuracy") for digest in stored)
    for row in rows:
        if row["metric"] == "accuracy" and own_metric:
            row["unit"] = "1"
    found = {
        "schema": 1,
        "experiment": experiment,
        "simulated": any(digest.simulated for digest in stored),
        "series": rows,
        "notes": notes,
    }
    return dict(discreet(found, identify, _names(store, series)))
