"""What `compare` and `gate` say in a pull request or a job's summary: one line that decides, tables, the rest folded.

Every text from outside is escaped; the whole stays below what a comment may hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report import release_words as words
from harness.report.compare_text import SIMULATED, ending
from harness.report.hostile import clean, markdown_text
from harness.report.release_words import Row

#: characters; a comment on GitHub holds 65,536
_LONGEST = 60_000
_ROWS = 60
_FOLDED = ("better", "inconclusive", "same")


def markdown(document: Mapping[str, Any]) -> str:
    """The document of `compare --json` or `gate --json`. Ends with a newline."""
    shown = clean(document)
    parts = list(_parts(shown))
    kept, length = [], 0
    for part in parts:
        length += len(part) + 2
        if length > _LONGEST:
            kept.append("_The rest is left out here; `--json` has it all._")
            break
        kept.append(part)
    return "\n\n".join(kept) + "\n"


def _parts(document: Mapping[str, Any]) -> Iterator[str]:
    """What matters most first: what does not fit is cut off behind."""
    rows = document["comparisons"]
    called, shared = words.names(rows)
    by_row = {id(row): markdown_text(name) for row, name in zip(rows, called, strict=True)}
    if document["simulated"]:
        yield f"> **{SIMULATED}**"
    title = f"{document['experiment']}: {document['base']} → {document['head']}"
    yield f"### {markdown_text(title)}"
    yield f"**{markdown_text(ending(document))}**" + (f" · {markdown_text(shared)}" if shared else "")
    found = words.by_outcome(rows)
    if found["worse"]:
        yield "\n".join(["**Worse**", "", *_table(found["worse"], by_row, moved=True)])
    if document.get("budgets"):
        yield "\n".join(["**Budgets**", "", *_listed(document["budgets"], words.budget)])
    if document.get("alarms"):
        yield "\n".join(["**History**", "", *_listed(document["alarms"], words.alarm)])
    for outcome in ("missing", "incomparable"):
        if found[outcome]:
            yield "\n".join([f"**{outcome.capitalize()}**", "", *_grouped(words.alike(found[outcome], by_row))])
    if document["notes"]:
        yield "\n".join(f"- {markdown_text(note)}" for note in document["notes"])
    for outcome in _FOLDED:
        if found[outcome]:
            yield _folded(f"{len(found[outcome])} {outcome}", _table(found[outcome], by_row))


def _table(rows: Sequence[Row], by_row: Mapping[int, str], moved: bool = False) -> Iterator[str]:
    wanted = ["", "metric", "base", "head", "head / base (95 %)", "", *(["with it"] if moved else [])]
    said = words.said_of_all(rows)
    if any(said):
        yield from (markdown_text("; ".join(said)), "")
    yield f"| {' | '.join(wanted)} |"
    yield "|---|---|---:|---:|---:|---|" + ("---|" if moved else "")
    before: Row | None = None
    for row in rows[:_ROWS]:
        base, head = words.values(row)
        told = [str(row["metric"]), base, head, words.change(row), words.notes(row, said)]
        if moved:
            again = row["moved"] and before is not None and words.moved_alike(before, row)
            told += ["as above" if again else words.moved(row)]
        before = row
        yield f"| {by_row[id(row)]} | {' | '.join(markdown_text(text) for text in told)} |"
    if len(rows) > _ROWS:
        yield f"\n… and {len(rows) - _ROWS} more"


def _listed(rows: Sequence[Row], said: Any) -> Iterator[str]:
    for row, name in zip(rows[:_ROWS], words.names(rows)[0], strict=False):
        yield f"- {markdown_text(name)}: {markdown_text(said(row))}"
    if len(rows) > _ROWS:
        yield f"- … and {len(rows) - _ROWS} more"


def _grouped(groups: Sequence[tuple[str, list[str]]]) -> Iterator[str]:
    """`by_row` gave names that are escaped already; the metrics beside them are ours."""
    for reason, cells in groups:
        more = f", … and {len(cells) - _ROWS} more" if len(cells) > _ROWS else ""
        yield f"- {markdown_text(reason)}: {', '.join(cells[:_ROWS])}{more}"


def _folded(summary: str, lines: Iterator[str]) -> str:
    return "\n".join(["<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"])
