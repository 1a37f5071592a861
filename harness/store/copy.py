"""Whole sessions from one store into another, unchanged: what is there already stays as it is, or all is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.store.store import Store

#: told as it goes on: (sessions done, sessions in all, what)
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True, kw_only=True)
class Copied:
    """Rows by table: `new` were written, `there` were in the target already and equal.

    `conditions`: what the target keeps of its own (a baseline that it sets to another label), one sentence each."""

    new: Mapping[str, int]
    there: Mapping[str, int]
    kept: Sequence[str] = ()


def copy(source: Store, target: Store, tell: Tell = lambda done, total, what: None) -> Copied:
    """Copies every session with all that hangs on it, each in one transaction, and reads it back: a copy that was
    interrupted is completed by the next.

    Rows are never overwritten: one that is in the target and differs raises StoreError, before anything is written.
    What may still be filled in is filled in: an unfinished session's end, a device's facts, new runs. Sample blobs are
    compared byte by byte (by sha256) after they are written."""
    raise NotImplementedError
