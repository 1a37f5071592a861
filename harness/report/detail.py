"""One result with all that the page knows of it: the choice is made here, detail.js copies what the sections hold."""

from __future__ import annotations

from typing import ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates
from harness.report.view import view


class Detail:
    title: ClassVar[str] = "One result"

    def render(self, data: PageData) -> str | None:
        """The pick is shown first, else the first usable result."""
        shown = view(data.document)
        if not shown.rows:
            return None
        first = next((row for row in shown.rows if row.pick), next(iter(shown.ok), shown.rows[0]))
        return templates.render("detail.html", rows=shown.rows, first=first.index)


_: type[Section] = Detail
