"""The digests of stored sessions: taken from the store where they are there, else made of the runs and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from harness.analyze import digest as digests
from harness.analyze.digest import Digest
from harness.errors import StoreError, UsageError
from harness.metrics import nearest
from harness.store import Store
from harness.types import BASE_SUFFIX, Session

#: kinds of session that are no release of the experiment they name
NO_RELEASE = ("measure", "confirm")
#: so many digests are asked for at once: a far store is not asked a thousand times, nor all held in memory
TOGETHER = 50


def head_of(session: Session) -> Session:
    """The session without the baseline's variants: what reports and picks look at."""
    if session.kind not in ("paired", "confirm"):
        return session
    own = tuple(build for build in session.package.builds if not build.variant.endswith(BASE_SUFFIX))
    return dataclasses.replace(session, package=dataclasses.replace(session.package, builds=own))


def digest_of(store: Store, identity: str) -> Digest:
    """One session's. An unfinished session's is of what is there just now."""
    listed = next(s for s in store.list_sessions() if s["id"] == identity)
    return next(_digests(store, [listed]))


def releases(store: Store, experiment: str, labels: Sequence[str | None] | None = None) -> list[Digest]:
    """Every session that may decide (no quick one, none of a single file) of this experiment, the oldest first.

    `labels`: only of these. Of a paired session only the head, which is what its label means."""
    wanted = [
        listed
        for listed in reversed(store.list_sessions())
        if listed["experiment"] == experiment and not listed["quick"] and listed["kind"] not in NO_RELEASE
        and (labels is None or listed["label"] in labels)
    ]  # fmt: skip
    return [digests.split(one)[1] if one.kind == "paired" else one for one in _digests(store, wanted)]


def labelled(store: Store, experiment: str, label: str) -> list[Digest]:
    """The sessions of one label. Raises UsageError where there is none, with the nearest label."""
    found = releases(store, experiment, [label])
    if found:
        return found
    listed = [s for s in store.list_sessions() if s["experiment"] == experiment]
    if any(s["label"] == label and s["quick"] for s in listed):
        raise UsageError(f"label {label!r} has --quick sessions only, which never decide", "run it without --quick")
    known = {str(s["label"]) for s in listed if s["label"] and not s["quick"] and s["kind"] not in NO_RELEASE}
    hint = nearest(label, known) if known else "harness run --label NAME gives a session one"
    raise UsageError(f"experiment {experiment!r} has no label {label!r}", hint)


def made_of(listed: dict[str, Any]) -> str:
    """What a digest hangs on; `listed` is an entry of `Store.list_sessions`."""
    return f"{digests.VERSION} {listed['runs']} {listed['finished_utc']}"


def _digests(store: Store, listed: Sequence[dict[str, Any]]) -> Iterator[Digest]:
    """Of these entries of `Store.list_sessions`, in their order; the store is asked for many at once."""
    for start in range(0, len(listed), TOGETHER):
        wanted = {one["id"]: made_of(one) for one in listed[start : start + TOGETHER]}
        kept = store.digests(wanted)
        for identity, made in wanted.items():
            yield _read(kept.get(identity)) or _made(store, identity, made)


def _read(kept: bytes | None) -> Digest | None:
    import zstandard

    if kept is None:
        return None
    try:
        return digests.from_json(zstandard.ZstdDecompressor().decompress(kept, max_output_size=1 << 30))
    except (ValueError, zstandard.ZstdError):
        return None  # damaged, or of another shape: what it is made of is there


def _made(store: Store, identity: str, wanted: str) -> Digest:
    import zstandard

    made = digests.digest(store.session(identity), store.scored(identity))
    with suppress(StoreError):  # a store that can only be read is read as well, only slower
        store.put_digest(identity, wanted, zstandard.ZstdCompressor(level=3).compress(digests.to_json(made)))
    return made
