"""Where the time of one inference goes: each operator and each call of a delegate, from a run of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, number, view

NOT_ASKED = "profile: false"
INSIDE = "inside delegate"  # its time is part of a delegate call's
#: rows of one result's table; the document has them all
_MOST = 40
#: tables that are written out; the rows of more are filled in where one is opened
_MOST_WRITTEN = 20


class Operators:
    title: ClassVar[str] = "Time per operator"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        asked = [row for row in shown.ok if _why(row) != NOT_ASKED]
        if not asked:
            return None
        profiles = [profile(row) for row in asked if isinstance(row.result["operators"], list)]
        late = compact(profiles[_MOST_WRITTEN:])
        return templates.render(
            "operators.html", profiles=profiles, written=_MOST_WRITTEN, late=late, without=list(without(asked))
        )


def compact(profiles: list[dict[str, Any]]) -> dict[str, Any] | None:
    """What operators.js fills tables from: names and kinds once each, `rows` by the result's index as
    [name, kind, time, share in percent, calls]; None without any."""
    words: dict[str, int] = {}
    rows = {
        profile["index"]: [
            [words.setdefault(o["name"], len(words)), words.setdefault(o["kind"], len(words)), o["time"], o["percent"],
             o["calls"]]
            for o in profile["rows"]
        ]
        for profile in profiles
    }  # fmt: skip
    return {"words": list(words), "inside": words.get(INSIDE), "rows": rows} if rows else None


def profile(row: Row) -> dict[str, Any]:
    """One result's table, the longest operator first, and what tracing it cost."""
    found = row.result["operators"]
    return {
        "label": row.label,
        "index": row.index,
        "on": row.on,
        "picked": row.pick is not None,
        "summary": f"{len(found)} operator{'s' * (len(found) != 1)}",
        "inside": any(o["kind"] == INSIDE for o in found),
        "cost": cost(row),
        "rows": [_line(o) for o in found[:_MOST]],
        "more": max(0, len(found) - _MOST),
    }


def cost(row: Row) -> str:
    """`52.1 µs with the tracer, 50.2 µs without; the operators account for 97 %`."""
    said = row.result["profile"]
    traced, bare, covered = (number(said.get(key)) for key in ("traced_ms", "untraced_ms", "coverage"))
    parts = [] if traced is None else [f"{units.human('ms', traced)} with the tracer"]
    parts += [] if bare is None else [f"{units.human('ms', bare)} without"]
    share = [] if covered is None else [f"the operators account for {covered * 100:.0f} %"]
    return "; ".join(filter(None, (", ".join(parts), *share))) or "what tracing cost is not told"


def _line(said: Mapping[str, Any]) -> dict[str, Any]:
    time, calls, share = number(said["time_us"]) or 0.0, number(said["calls"]), number(said["share"])
    return {
        "name": str(said["name"]),
        "kind": str(said["kind"]),
        "time": units.human("ms", time / 1000),
        "share": units.ABSENT if share is None else f"{share * 100:.1f} %",
        "width": round(100 * min(max(share or 0.0, 0.0), 1.0), 2),
        "percent": None if share is None else round(100 * share, 2),
        "inside": said["kind"] == INSIDE,
        "calls": units.ABSENT if calls is None else f"{calls:.0f}",
    }


def without(rows: list[Row]) -> Iterator[tuple[str, list[str]]]:
    """(reason, labels) of results that were to be profiled and are not."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if (why := _why(row)) is not None:
            found.setdefault(why, []).append(row.label)
    yield from found.items()


def _why(row: Row) -> str | None:
    said = row.result["operators"]
    return str(said["absent"]) if isinstance(said, Mapping) else None


_: type[Section] = Operators
