"""What a copy may do where both stores hold a row of one key. Pure: rows in (JSON as text), decisions out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.store.raw import EXACT, TABLES
from harness.store.side import Key, Row, named

Columns = Mapping[str, Any]

#: what becomes known of a session's device while it goes on (Store.put_device)
GROWING = ("facts", "runners", "unreached")
#: made of other rows, or the keeper's own choice: never a reason to refuse
OWN = ("digests", "baselines", "imports")


class Conflict(Exception):
    """The two stores contradict each other; `str()` says where."""


@dataclass(kw_only=True)
class Plan:
    """What is to be done for one session: by table the keys of new rows in portions, how many are there and equal,
    the columns that are filled in, and what stays the target's own.

    `ahead`: runs of it that only the target has; `ended`: as `ended` says."""

    new: dict[str, list[list[Key]]] = field(default_factory=dict)
    there: dict[str, int] = field(default_factory=dict)
    fill: list[tuple[str, Key, Columns]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    ahead: int = 0
    ended: bool | None = None
    stale_digest: bool = False

    def count(self, table: str) -> int:
        return sum(map(len, self.new.get(table, ())))

    @property
    def changes(self) -> bool:
        return bool(self.new or self.fill)


def differing(table: str, mine: Row, theirs: Row) -> list[str]:
    """The columns that do not say the same; JSON that is only written otherwise does."""
    columns = zip(TABLES[table].c, EXACT[table].c, mine, theirs, strict=True)
    return [c.name for c, twin, a, b in columns if a != b and (c.type is twin.type or not _same_json(a, b))]


def _same_json(a: Any, b: Any) -> bool:
    try:
        return a is not None and b is not None and _strict(json.loads(a)) == _strict(json.loads(b))
    except ValueError:
        return False


def _strict(value: Any) -> Any:
    """Equal only where also the types are: 1, 1.0 and true are three values."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return (type(value), value)


def finished(session: str, mine: Row, theirs: Row) -> Columns:
    """The end that a session has reached in the source only. Raises Conflict where anything else differs."""
    found = differing("sessions", mine, theirs)
    a, b = (named(EXACT["sessions"], row)["finished_utc"] for row in (mine, theirs))
    if found == ["finished_utc"] and (a is None or b is None):
        return {"finished_utc": b} if a is None else {}
    if found == ["finished_utc"]:
        raise Conflict(f"{session} went on in both stores and was finished in each ({b}; in the target {a})")
    if found:
        raise Conflict(f"{session} differs in {', '.join(found)}")
    return {}


def ended(mine: Row, theirs: Row) -> bool | None:
    """Whether the session has ended in the source only (False: in the target only; None: in both or neither)."""
    a, b = (named(EXACT["sessions"], row)["finished_utc"] is not None for row in (mine, theirs))
    return b if a != b else None


def device(session: str, mine: Row, theirs: Row, newer: bool | None) -> tuple[Columns, str | None]:
    """What is filled in of a device, and what is to be told where it cannot be seen which of the two is newer.

    `newer`: by its runs and its end, the session is further on in the source (False: in the target)."""
    found = differing("session_devices", mine, theirs)
    a, b = (named(EXACT["session_devices"], row) for row in (mine, theirs))
    where = f"{session}, device {a['name']}"
    if fixed := [name for name in found if name not in GROWING]:
        raise Conflict(f"{where} differs in {', '.join(fixed)}")
    if not found:
        return {}, None
    _refuse_two_units(where, a, b)
    if _known(a["facts"]) != _known(b["facts"]):
        newer = _known(b["facts"])  # it was reached in one of them only, and what is known of a device stays known
    elif newer is None and not (_known(a["facts"]) or (a["unreached"] and b["unreached"])):
        newer = b["unreached"] is not None  # nothing was tried in one of them
    if newer is None:
        return {}, f"{where}: the target's {', '.join(found)}"
    return ({name: b[name] for name in found} if newer else {}), None


def _known(facts: str | None) -> bool:
    return facts not in (None, "null")


def _refuse_two_units(where: str, a: Columns, b: Columns) -> None:
    """As `run` continues a session only on the unit, the system and the runner that it began with."""
    if _known(a["facts"]) and _known(b["facts"]):
        here, there = json.loads(a["facts"]), json.loads(b["facts"])
        for what in ("device_id", "os", "kernel"):
            if here.get(what) != there.get(what):
                raise Conflict(f"{where} is another: {what} {there.get(what)}, in the target {here.get(what)}")
        mine, theirs = json.loads(a["runners"]), json.loads(b["runners"])
        if mine and theirs and mine != theirs:
            raise Conflict(f"{where} was measured with two different runners")
