"""In a Jupyter notebook: progress in the cell's output while a run goes on, and at its end the page itself.

IPython is never imported here: where it is not loaded, this is no notebook.
"""

from __future__ import annotations

import base64
import gzip
import sys
import threading
import time
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.screen import Screen, duration

SECONDS_BETWEEN = 0.5
LINES = 12  # what was said, at the end of the block
HEIGHT_PX = 800
_CELL = '<td style="text-align:left">'


def in_notebook() -> bool:
    """Whether what is displayed goes to a Jupyter kernel's client."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def screen(quiet: bool) -> Screen:
    """What shows the progress: the notebook's output, else stderr."""
    return NotebookScreen() if in_notebook() and not quiet else Screen(quiet=quiet)


class NotebookScreen(Screen):
    """One output that is updated in place: a bar for each line of work, and what was said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self._bars: dict[str, str] = {}
        self._lines: list[str] = []
        self._at = 0.0
        self._handle: Any = None
        self._thread = threading.get_ident()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._lines.append("interrupted; what was measured is stored, run the cell again to go on")
        if self._bars or self._lines:
            self._update(last=True)

    def say(self, text: str) -> None:
        self._lines.append(text)
        self._update()

    def show(self, key: str, stage: str, what: str, done: int, total: int, left_s: float | None = None) -> None:
        left = "" if left_s is None or done >= total else f"{duration(left_s)} left"
        self._bars[key] = _bar(stage, what[:200], done, total, left)
        self._update()

    def _update(self, last: bool = False) -> None:
        """At most two a second: the harness may share its cores with what it measures. Not from a lane's thread, whose
        output would belong to no cell: what it said is shown with the next."""
        if threading.get_ident() != self._thread or (not last and time.monotonic() - self._at < SECONDS_BETWEEN):
            return
        self._at = time.monotonic()
        said = {"text/html": self._html(), "text/plain": "\n".join(self._lines[-LINES:]) or "harness"}
        if self._handle is None:
            self._handle = _display()(said, raw=True, display_id=True)
        else:
            self._handle.update(said, raw=True)

    def _html(self) -> str:
        rows = "".join(self._bars.values())
        lines = "\n".join(escape(line) for line in self._lines[-LINES:])
        left_out = len(self._lines) - LINES
        more = f"… {left_out} lines before\n" if left_out > 0 else ""
        told = f'<pre style="margin:0;white-space:pre-wrap">{more}{lines}</pre>' if self._lines else ""
        return f'<div class="harness-progress"><table style="margin:0">{rows}</table>{told}</div>'


def _bar(stage: str, what: str, done: int, total: int, left: str) -> str:
    bar = f'<progress value="{done}" max="{max(1, total)}"></progress>'
    cells = (escape(stage), bar, f"{done}/{total}", escape(left), escape(what))
    return f"<tr>{''.join(f'{_CELL}{cell}</td>' for cell in cells)}</tr>"


def _display() -> Any:
    import IPython.display

    return IPython.display.display


# -- the page ----------------------------------------------------------------------------------------------------------

#: the page unpacks itself in a frame that may run scripts and nothing else: no cookies, no storage, not the notebook
_FRAME = """<!doctype html><meta charset="utf-8"><p id="state">unpacking the page …</p>
<script id="page" type="application/gzip">{packed}</script>
<script>
(async () => {{
  const bytes = Uint8Array.from(atob(document.getElementById("page").textContent), (c) => c.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const html = await new Response(unpacked).text();
  document.open(); document.write(html); document.close();
}})().catch((error) => {{ document.getElementById("state").textContent = "open {name} instead: " + error; }});
</script>"""


def show_html(html: str, plain: str) -> None:
    """Displays what is escaped already; `plain` where no HTML can be shown."""
    _display()({"text/html": html, "text/plain": plain}, raw=True)


def show_page(page: Path) -> None:
    """Displays the page below the cell. A notebook keeps its outputs: packed, the page takes 2 MB of it, not 5."""
    show_html(frame_of(page.read_bytes(), page.name), str(page))


def frame_of(page: bytes, name: str) -> str:
    packed = base64.b64encode(gzip.compress(page, mtime=0)).decode("ascii")
    inside = _FRAME.format(packed=packed, name=escape(name).replace('"', "").replace("\\", ""))
    return (
        f'<div class="harness-page"><iframe sandbox="allow-scripts allow-downloads" title="{escape(name)}" '
        f'width="100%" height="{HEIGHT_PX}" style="border:0" srcdoc="{escape(inside)}"></iframe></div>'
    )
