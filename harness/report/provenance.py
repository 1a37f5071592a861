"""What the numbers were made with, and what a number means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates
from harness.report.view import view

#: headings of `PageData.provenance` that stand at the top of the page instead
_ELSEWHERE = frozenset(("Notice", "No pick"))


class Provenance:
    title: ClassVar[str] = "Where the numbers come from"

    def render(self, data: PageData) -> str | None:
        document = data.document
        runtimes = sorted({str(r["runtime"]) for r in document["results"] if r.get("runtime")})
        facts = {
            "experiment": document["experiment"],
            "label": document["label"] or "none",
            "session": document["session"],
            "date": document["date"],
            "runtimes": ", ".join(runtimes) or "none ran",
            "results": f"{len(view(document).ok)} usable of {len(document['results'])} planned",
        }
        blocks = [block(heading, value) for heading, value in data.provenance.items() if heading not in _ELSEWHERE]
        return templates.render("provenance.html", facts=facts, blocks=blocks)


def block(heading: str, value: Any) -> dict[str, Any]:
    """A heading with its `pairs`, `lines` or verbatim `text`, whichever the value is."""
    out: dict[str, Any] = {"heading": heading, "pairs": None, "lines": None, "text": None}
    if isinstance(value, Mapping):
        return out | {"pairs": {str(key): lines(inner) for key, inner in value.items()}}
    if isinstance(value, list):
        return out | {"lines": lines(value)}
    text = "–" if value is None else str(value)
    return out | ({"text": text} if "\n" in text.strip() else {"lines": [text]})


def lines(value: Any) -> list[str]:
    """Any JSON value as lines of text."""
    if isinstance(value, Mapping):
        return [f"{key}: {', '.join(lines(inner))}" for key, inner in value.items()]
    if isinstance(value, list):
        return [", ".join(lines(item)) if isinstance(item, Mapping | list) else str(item) for item in value]
    return ["–" if value is None else str(value)]


_: type[Section] = Provenance
