"""The document as markdown, for a pull request's comment or a CI job's summary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.report.columns import columns, shared_line
from harness.report.headline import headline
from harness.report.hostile import clean, markdown_text
from harness.report.simulated import TAG, banner
from harness.report.troubles import told
from harness.report.view import View, view


def markdown(document: Mapping[str, Any], why_no_pick: str | None = None) -> str:
    """The pick, the table, conditions and caveats, what is missing and why. Ends with a newline."""
    return "\n".join(_lines(view(clean(document)), why_no_pick)) + "\n"


def _lines(shown: View, why_no_pick: str | None) -> Iterator[str]:
    document, head = shown.document, headline(shown, why_no_pick)
    label = f" {document['label']}" if document["label"] else ""
    said = banner(document, "below")
    yield from (f"> **{markdown_text(said)}**", "") if said else ()
    yield f"### {markdown_text(document['experiment'] + label + (f' ({TAG})' if said else ''))}"
    yield ""
    yield "".join(f"**{markdown_text(text)}**" if name else _keep_spaces(text) for text, name in head.sentence)
    yield ""
    yield from (f"- {markdown_text(line)}" for line in head.details)
    if shown.rows:
        yield from ("", markdown_text(shared_line(shown)), "")
        yield from _table(shown)
    for heading, lines in told(shown):
        yield from ("", f"**{heading}**", "", *(f"- {markdown_text(line)}" for line in lines))


def _table(shown: View) -> Iterator[str]:
    wanted = list(columns(shown))
    yield f"| {' | '.join(markdown_text(c.head) for c in wanted)} |"
    yield f"|{'|'.join('---:' if c.numeric else '---' for c in wanted)}|"
    for row in shown.rows:
        cells = [markdown_text(column.cell(row)) for column in wanted]
        if row.pick:
            cells[0] = f"**{cells[0]}**"
        yield f"| {' | '.join(cells)} |"


def _keep_spaces(text: str) -> str:
    """`markdown_text` folds white space; the pieces of a sentence meet at theirs."""
    return f"{' ' if text[:1] == ' ' else ''}{markdown_text(text)}{' ' if text[-1:] == ' ' else ''}"
