"""What `compare` and `gate` say on a terminal: what is worse first, the verdict in words last. Plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.report import release_words as words
from harness.report.hostile import clean, one_line
from harness.report.release_words import Row

#: rows of an outcome that nobody has to act upon; --all lists every one
_FEW = 12
_NAMES = 6
SIMULATED = "SIMULATED DEVICE: no number below was measured"


def lines(document: Mapping[str, Any], every: bool = False) -> list[str]:
    """The document of `compare --json` or `gate --json`. `every`: list what is the same too."""
    shown = clean(document)
    out = [SIMULATED] if shown["simulated"] else []
    out += list(_comparisons(shown, every))
    if "budgets" in shown:
        out += [*_budgets(shown["budgets"]), *_alarms(shown["alarms"])]
    out += [f"note: {one_line(note)}" for note in shown["notes"]]
    return [*out, ending(shown)]


def ending(document: Mapping[str, Any]) -> str:
    """The verdict in words: `gate: failed: 2 worse`, `worse: 2 worse, 34 same`."""
    if "passed" in document:
        why = f": {'; '.join(document['failures'])}" if document["failures"] else ""
        return one_line(f"gate: {'passed' if document['passed'] else 'failed'}{why}")
    return f"verdict: {document['verdict']} ({words.tally(document['comparisons'])})"


def _comparisons(document: Mapping[str, Any], every: bool) -> Iterator[str]:
    rows = document["comparisons"]
    called, shared = words.names(rows)
    by_row = {id(row): name for row, name in zip(rows, called, strict=True)}
    title = one_line(f"{document['experiment']}: {document['base']} -> {document['head']}")
    yield f"{title} ({shared})" if shared else title
    for outcome, found in words.by_outcome(rows).items():
        if not found:
            continue
        yield ""
        if outcome == "same" and not every:
            yield f"Same: {len(found)} (--all lists them)"
        elif outcome in ("missing", "incomparable"):
            yield outcome.capitalize()
            yield from _grouped(words.alike(found, by_row), every)
        else:
            said = words.said_of_all(found)
            of_all = one_line("; ".join(said))
            yield f"{outcome.capitalize()} ({of_all})" if of_all else outcome.capitalize()
            few = found if every or outcome == "worse" else found[:_FEW]
            yield from _rows(few, by_row, said)
            if len(few) < len(found):
                yield f"  … and {len(found) - len(few)} more (--all lists them)"
    yield ""


def _rows(rows: Sequence[Row], by_row: Mapping[int, str], said: Sequence[str]) -> Iterator[str]:
    """What moved with what is worse stands once under the metrics of a cell."""
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        base, head = words.values(row)
        told = [f"{row['metric']} {base} -> {head}", words.change(row), words.notes(row, said)]
        yield f"  {by_row[id(row)]}: {', '.join(filter(None, told))}"
        beside = words.moved(row) if row["outcome"] == "worse" else ""
        if beside and not (following and words.moved_alike(row, following)):
            yield f"    with it: {beside}"


def _grouped(groups: Sequence[tuple[str, list[str]]], every: bool) -> Iterator[str]:
    for reason, cells in groups:
        yield f"  {reason}"
        few = cells if every else cells[:_NAMES]
        yield from (f"    {cell}" for cell in few)
        if len(few) < len(cells):
            yield f"    … and {len(cells) - len(few)} more"


def _budgets(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "Budgets"
    for row, name in zip(rows, words.names(rows)[0], strict=True):
        yield f"  {name}: {words.budget(row)}"
    yield ""


def _alarms(rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield "History"
    for row, name in zip(rows, words.names(rows)[0], strict=True):
        yield f"  {name}: {words.alarm(row)}"
    yield ""
