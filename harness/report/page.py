"""The page: one file, no network, nothing executable but our own two scripts.

The policy in the page allows exactly these scripts by their SHA-256, so a page made twice is the same byte for
byte, and a string from a device could not run even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from harness import registry
from harness.errors import HarnessError
from harness.interfaces import PageData
from harness.report import comparison, history, templates
from harness.report.headline import Headline, for_device, headline
from harness.report.hostile import clean
from harness.report.simulated import TAG, banner, imported
from harness.report.view import view

#: bundled in this order into one script; base.js first
SCRIPTS = (
    "base.js", "rows.js", "labels.js", "pareto.js", "latency.js", "sustained.js", "operators.js", "history.js",
    "table.js", "detail.js", "start.js",
)  # fmt: skip


def render(data: PageData) -> str:
    """The whole page as HTML text, encodable as UTF-8.

    `data.provenance` may hold `Notice` (shown at the top: a quick session) and `No pick` (why there is none); every
    other heading is shown in the last section. A simulated device's page says so above all, and in every title.
    Raises HarnessError for a section that cannot be made."""
    from plotly.offline import get_plotlyjs

    data = PageData(
        document=clean(data.document),
        quantiles_ms=data.quantiles_ms,
        provenance=clean(data.provenance),
        comparison=clean(data.comparison),
        history=clean(data.history),
    )
    shown, silent = _sections(data)
    scripts = [Markup(get_plotlyjs()), Markup(_own_script())]
    why = data.provenance.get("No pick")
    simulated = banner(data.document)
    page = templates.render(
        "page.html",
        document=data.document,
        answers=_answers(data.document, None if why is None else str(why)),
        devices=view(data.document).devices,
        signals=list(_signals(data)),
        simulated=simulated,
        tag=TAG if simulated else None,
        notice=[*filter(None, [imported(data.document)]), *_lines(data.provenance.get("Notice"))],
        sections=shown,
        silent=silent,
        style=Markup(templates.text("page.css")),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _answers(document: Mapping[str, Any], why: str | None) -> list[Headline]:
    """What to ship over all devices; then on each, where there are several."""
    shown = view(document)
    devices = shown.devices if len(shown.devices) > 1 else []
    alone = [headline(view(for_device(document, device))) for device in devices]
    return [headline(shown, why), *alone]


def _signals(data: PageData) -> Iterator[tuple[str, str, str]]:
    """`(section, colour, sentence)` of what compares this release with others."""
    if data.comparison is not None:
        if (said := comparison.gate(data.comparison)) is not None:
            yield "comparison", *said
        colour = comparison.COLOUR.get(str(data.comparison["verdict"]), "invalid")
        yield "comparison", colour, comparison.sentence(data.comparison)
    if (since := history.signal(data)) is not None:
        yield "history", "failed", since


def _sections(data: PageData) -> tuple[list[tuple[str, str, Markup]], list[str]]:
    """`(name, title, HTML)` of the sections that have something to say, and the titles of those that do not; a
    comparison or a history that was not asked for is not missed."""
    shown, silent = [], []
    given = {"comparison": data.comparison is not None, "history": data.history is not None}
    ours = list(registry.SECTIONS)
    for name in [*ours, *sorted(registry.names("section").keys() - set(ours))]:
        section = registry.load("section", name)()
        try:
            html = section.render(data)
        except HarnessError:
            raise
        except Exception as error:  # a section may be a third party's: one message, the cause under --debug
            raise HarnessError(f"the page's section {name!r} cannot be made: {error!r}") from error
        if html is None and not given.get(name, True):
            continue
        if html is None:
            silent.append(section.title)
        else:
            shown.append((name, section.title, Markup(html)))
    return shown, silent


def _own_script() -> str:
    body = "\n".join(templates.text(name) for name in SCRIPTS)
    return f'(() => {{\n"use strict";\n{body}\n}})();'


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")


def _lines(value: object) -> list[str]:
    if value is None:
        return []
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]
