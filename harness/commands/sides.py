"""What BASE and HEAD mean: a label, `run:ID`, or a file; and how devices are called in an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import records
from harness.analyze import digest as digests
from harness.analyze.digest import Digest
from harness.commands.common import store_url
from harness.errors import HarnessError, UsageError
from harness.metrics import nearest
from harness.store import Store

RUN = "run:"
#: kinds of session that hold base and head
TWO_SIDED = ("paired", "confirm")


@dataclass(frozen=True, kw_only=True)
class Sides:
    """`base`, `head`: how an answer calls them. `digests`: of each side, the oldest first."""

    experiment: str
    base: str
    head: str
    base_digests: tuple[Digest, ...]
    head_digests: tuple[Digest, ...]


def files(base: str, head: str) -> tuple[Path, Path] | None:
    """The two files, or None where neither is one. Raises UsageError where only one is."""
    there = [Path(side).is_file() for side in (base, head)]
    if all(there):
        return Path(base), Path(head)
    if any(there):
        file, other = (base, head) if there[0] else (head, base)
        raise UsageError(
            f"{file} is a file and {other} is not", "give two files, two labels, or run:ID as harness runs shows it"
        )
    if lost := next((side for side in (base, head) if side.endswith((".pte", ".ptl"))), None):
        raise UsageError(f"{lost}: No such file")
    return None


def resolve(store: Store, base: str, head: str, experiment: str | None) -> Sides:
    """Raises UsageError for what is not there (with the nearest), for quick sessions, and for a side against itself."""
    listed = store.list_sessions()
    if not listed:
        raise UsageError("the store has no sessions", "harness run CONFIG --label NAME measures one")
    if base == head:
        return _within(store, base)
    named = [_session(store, side) if side.startswith(RUN) else None for side in (base, head)]
    of_runs = {found.experiment for found in named if found is not None}
    if len(of_runs | ({experiment} if experiment else set())) > 1:
        raise UsageError(f"{base} and {head} are not of one experiment", "compare sessions of the same experiment")
    labels = [side for side, found in zip((base, head), named, strict=True) if found is None]
    chosen = next(iter(of_runs), None) or experiment or of_labels(listed, labels)
    sides = [
        [found] if found is not None else records.labelled(store, chosen, side)
        for side, found in zip((base, head), named, strict=True)
    ]
    if [d.session for d in sides[0]] == [d.session for d in sides[1]]:
        return _within(store, base if base.startswith(RUN) else head)
    if {d.session for d in sides[0]} & {d.session for d in sides[1]}:
        raise UsageError(f"{base} and {head} share a session", "name two sessions, or two labels")
    return Sides(
        experiment=chosen, base=base, head=head, base_digests=tuple(sides[0]), head_digests=tuple(sides[1])
    )


def of_labels(listed: Sequence[dict[str, Any]], labels: Sequence[str]) -> str:
    """The experiment of the newest session that may decide: of one that has all labels, else of one that has any."""
    known: dict[str, set[str]] = {}
    quick: dict[str, set[str]] = {}
    for session in listed:  # the newest first
        if session["kind"] not in records.NO_RELEASE:
            kept = quick if session["quick"] else known
            kept.setdefault(session["experiment"], set()).add(str(session["label"]))
    wanted = set(labels)
    found = [e for e, has in known.items() if has >= wanted] or [e for e, has in known.items() if has & wanted]
    found += [e for e, has in quick.items() if has & wanted]  # there it is said why it does not decide
    if found or known:
        return (found or list(known))[0]
    raise UsageError("the store has no session that may decide", "harness run CONFIG --label NAME measures one")


def _session(store: Store, side: str) -> Digest:
    found = records.digest_of(store, store.matching(side.removeprefix(RUN)))
    if found.quick:
        raise UsageError(f"{side} is a --quick session, which never decides", "run it without --quick")
    return digests.split(found)[1] if found.kind in TWO_SIDED else found


def _within(store: Store, side: str) -> Sides:
    """Both sides of the one session that measured both, as a gate does."""
    if side.startswith(RUN):
        found = records.digest_of(store, store.matching(side.removeprefix(RUN)))
        if found.kind in TWO_SIDED and not found.quick:
            base, head = digests.split(found)
            name = f"{RUN}{found.session[:8]}"
            return Sides(
                experiment=found.experiment, base=f"{name}{' (base)'}", head=name,
                base_digests=(base,), head_digests=(head,),
            )  # fmt: skip
    raise UsageError(f"{side} is compared with itself", "name two labels; harness runs lists what is there")


# -- devices ---------------------------------------------------------------------------------------------------------


def narrowed(found: Iterable[Digest], devices: Sequence[str]) -> list[Digest]:
    """Only the cells of these devices, named as the user wrote them, by device_id, or as an answer calls them."""
    kept = []
    for one in found:
        cells = tuple(c for c in one.cells if not devices or set(devices) & set(_called(c)))
        kept.append(dataclasses.replace(one, cells=cells))
    return kept


def refuse_unknown_devices(found: Iterable[Digest], devices: Sequence[str]) -> None:
    known = {name for one in found for c in one.cells for name in _called(c) if name}
    for name in devices:
        if name not in known:
            hint = nearest(name, known) if known else "nothing was measured on any device"
            raise UsageError(f"nothing was measured on a device {name!r}", hint)


def _called(cell: digests.CellDigest) -> tuple[str, str, str]:
    return cell.device, cell.cell.device_id, label_of(cell.device, cell.cell.device_id, False)


def label_of(device: str, device_id: str, identify: bool) -> str:
    """As `pipeline.device_label`, of a stored cell: a URI's part after the scheme may tell an address or a serial."""
    scheme, separator, _ = device.partition("://")
    if identify or not separator or scheme == "sim":
        return device
    return f"{scheme}://{device_id or 'unknown'}"


def stored_names(what: Literal["label", "experiment"], incomplete: str) -> list[str]:
    """Those that begin so, the newest first; for the shell's completion, which must never fail."""
    try:
        store = Store.open(store_url(None))
        try:
            names = [str(session[what]) for session in store.list_sessions() if session[what]]
        finally:
            store.close()
    except HarnessError:
        return []
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]
