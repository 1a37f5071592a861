"""The page: one file, no network, nothing executable but our own two scripts.

The policy in the page allows exactly these scripts by their SHA-256, so a page made twice is the same byte for
byte, and a string from a device could not run even if it got past the escaping.
"""

from __future__ import annotations

import base64
import hashlib

from markupsafe import Markup

from harness import registry
from harness.errors import HarnessError
from harness.interfaces import PageData
from harness.report import templates
from harness.report.headline import headline
from harness.report.hostile import clean
from harness.report.simulated import TAG, banner
from harness.report.view import view

#: bundled in this order into one script; base.js first
SCRIPTS = ("base.js", "labels.js", "pareto.js", "latency.js", "sustained.js", "table.js", "start.js")


def render(data: PageData) -> str:
    """The whole page as HTML text, encodable as UTF-8.

    `data.provenance` may hold `Notice` (shown at the top: a quick session) and `No pick` (why there is none); every
    other heading is shown in the last section. A simulated device's page says so above all, and in every title.
    Raises HarnessError for a section that cannot be made."""
    from plotly.offline import get_plotlyjs

    data = PageData(document=clean(data.document), quantiles_ms=data.quantiles_ms, provenance=clean(data.provenance))
    shown, silent = _sections(data)
    scripts = [Markup(get_plotlyjs()), Markup(_own_script())]
    why = data.provenance.get("No pick")
    simulated = banner(data.document)
    page = templates.render(
        "page.html",
        document=data.document,
        headline=headline(view(data.document), None if why is None else str(why)),
        simulated=simulated,
        tag=TAG if simulated else None,
        notice=_lines(data.provenance.get("Notice")),
        sections=shown,
        silent=silent,
        style=Markup(templates.text("page.css")),
        scripts=scripts,
        hashes=[_hash(script) for script in scripts],
    )
    return page.encode("utf-8", "replace").decode("utf-8")


def _sections(data: PageData) -> tuple[list[tuple[str, str, Markup]], list[str]]:
    """`(name, title, HTML)` of the sections that have something to say, and the titles of those that do not."""
    shown, silent = [], []
    ours = list(registry.SECTIONS)
    for name in [*ours, *sorted(registry.names("section").keys() - set(ours))]:
        section = registry.load("section", name)()
        try:
            html = section.render(data)
        except HarnessError:
            raise
        except Exception as error:  # a section may be a third party's: one message, the cause under --debug
            raise HarnessError(f"the page's section {name!r} cannot be made: {error!r}") from error
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
