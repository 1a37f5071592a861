"""What `history` says: one line a series, a table where there is something to see, in text and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report import release_words as words
from harness.report import units
from harness.report.compare_text import SIMULATED
from harness.report.hostile import clean, markdown_text, one_line
from harness.report.view import number

_BARS = "▁▂▃▄▅▆▇█"
_GAP, _BORDER = "·", "|"
#: so many series have their table without --all
_FEW = 6
#: points of a line; of more, the newest
_WIDE = 60
Series = Mapping[str, Any]


def lines(document: Mapping[str, Any], every: bool = False) -> list[str]:
    """The document of `history --json`. Series that changed come first; the others without table, if they are many."""
    shown = clean(document)
    series = sorted(shown["series"], key=lambda one: not one["changes"])
    called, shared = words.names(series)
    title = one_line(f"{shown['experiment']}: {words_of(len(series), 'series', 'series')}")
    out = [SIMULATED] if shown["simulated"] else []
    out.append(f"{title} ({shared})" if shared else title)
    for one, name in zip(series, called, strict=True):
        out += ["", f"{name}: {one['metric']}  {sparkline(one)}  {_range(one)}"]
        out += [f"  {line}" for line in told(one)]
        if every or one["changes"] or len(series) <= _FEW:
            out += [f"    {line}" for line in _aligned(list(table(one)))]
    return [*out, *("", *(f"note: {one_line(note)}" for note in shown["notes"]))] if shown["notes"] else out


def markdown(document: Mapping[str, Any]) -> str:
    shown = clean(document)
    series = sorted(shown["series"], key=lambda one: not one["changes"])
    called, shared = words.names(series)
    out = [f"> **{SIMULATED}**", ""] if shown["simulated"] else []
    out += [f"### {markdown_text(shown['experiment'])}: history", "", markdown_text(shared), ""]
    for one, name in zip(series, called, strict=True):
        out += [f"**{markdown_text(name)}: {markdown_text(one['metric'])}** {sparkline(one)} {_range(one)}", ""]
        out += [f"- {markdown_text(line)}" for line in told(one)]
        head, *rows = table(one)
        out += ["", "<details>", f"<summary>{len(rows)} releases</summary>", ""]
        out += [_markdown_row(head), "|---|---:|---:|---:|---|", *(_markdown_row(row) for row in rows)]
        out += ["", "</details>", ""]
    return "\n".join([*out, *(f"- {markdown_text(note)}" for note in shown["notes"])]).rstrip() + "\n"


def sparkline(series: Series) -> str:
    """One character a release, the newest last; a bar where a segment begins, a dot where nothing was measured.

    Of `relative`, in which changes are looked for: the device's good and bad days are not in it."""
    points = series["points"][-_WIDE:]
    known = [v for p in points if (v := number(p["relative"])) is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    # flat within a percent looks flat: noise shall not be drawn as mountains
    least = max(high - low, 0.01 * abs(high)) or 1.0
    out = ""
    for index, point in enumerate(points):
        value = number(point["relative"])
        border = _BORDER if index and point["segment"] != points[index - 1]["segment"] else ""
        out += border + (_GAP if value is None else _BARS[min(7, int((value - low) / least * 7.999))])
    return out


def told(series: Series) -> Iterator[str]:
    """The changes, the newest first, then where a segment began, and what the points were divided by."""
    for change in reversed(series["changes"]):
        since = one_line(str(change["label"] or "a session without label"), 80)
        said = {True: ", confirmed", False: ", not confirmed", None: ""}[change["confirmed"]]
        kind = "worse" if change["worse"] else "better"
        reason = f"; {one_line(str(change['reason']))}" if change["reason"] else ""
        yield f"since {since}: {words.changed(series['metric'], change['ratio'])} ({kind}{said}){reason}"
    for point in series["points"]:
        if point["began"]:
            yield f"new {', '.join(point['began'])} with {_called(point)}: nothing before it is compared with it"
    if series["reason"]:
        yield one_line(str(series["reason"]))


def table(series: Series) -> Iterator[tuple[str, ...]]:
    """The head, then a row a release, the newest first."""
    beside = f"of {series['normalised']}" if series["normalised"] else "relative"
    yield ("release", "value", beside, "runs", "")
    scale = units.scale(series["unit"], [v for p in series["points"] if (v := number(p["value"])) is not None],
                        series["metric"])  # fmt: skip
    changed = {change["at"]: "worse" if change["worse"] else "better" for change in series["changes"]}
    for index, point in reversed(list(enumerate(series["points"]))):
        value, relative = number(point["value"]), number(point["relative"])
        notes = [changed[index]] if index in changed else []
        notes += [f"new {', '.join(point['began'])}"] if point["began"] else []
        notes += [one_line(str(point[why])) for why in ("absent", "left_out") if point[why]]
        yield (
            _called(point),
            units.ABSENT if value is None else scale.value(value),
            units.ABSENT if relative is None or not series["normalised"] else words.times(relative),
            str(point["runs"]),
            "; ".join(notes),
        )


def words_of(number_of: int, one: str, several: str) -> str:
    return f"{number_of} {one if number_of == 1 else several}"


def _range(series: Series) -> str:
    """First and newest value."""
    known = [v for p in series["points"] if (v := number(p["value"])) is not None]
    if not known:
        return "nothing was measured"
    scale = units.scale(series["unit"], [known[0], known[-1]], series["metric"])
    newest = scale.value(known[-1])
    return newest if len(known) == 1 else f"{scale.value(known[0])} -> {newest}"


def _called(point: Mapping[str, Any]) -> str:
    if point["label"]:
        return one_line(str(point["label"]), 80)
    return f"run:{str(point['sessions'][0])[:8]}" if point["sessions"] else str(point["created_utc"])[:10]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]:>{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]


def _markdown_row(row: Sequence[str]) -> str:
    return f"| {' | '.join(markdown_text(text) for text in row)} |"
