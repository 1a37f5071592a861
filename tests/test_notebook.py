"""A real Jupyter kernel runs a notebook with the harness in it; and what is put into its outputs."""

from __future__ import annotations

import base64
import gzip
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from harness import notebook
from tests.conftest import MODEL
from tests.test_api import SMALL

CELLS = {
    "before": "import os\nbefore = os.fstat(1), os.fstat(2)",
    "run": 'import harness\noutcome = harness.run("{package}", devices="sim://pi5-fan?seed=1")',
    "outcome": "outcome",
    "quiet": 'harness.run("{package}", devices="sim://pi5-fan?seed=1", quick=True, quiet=True) and None',
    "build": 'built = harness.run("small.yaml", devices="sim://pi5-fan?seed=1", quick=True)',
    "show": "harness.latest(\"small\").show()",
    "error": 'harness.run("nope.yaml")',
    "undecided": 'latency = outcome.results[0].latency_ms\nassert latency < latency.value',
    "stdout": "print('python', (os.fstat(1), os.fstat(2)) == before)",
    "loop": "import asyncio\nasyncio.get_running_loop().is_running() and built",
}


@pytest.fixture(scope="module")
def outputs(package: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Each cell's outputs, by its name."""
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "small.yaml").write_text(SMALL)
    (folder / "small_model.py").write_text(MODEL)
    cells = [nbformat.v4.new_code_cell(text.replace("{package}", str(package))) for text in CELLS.values()]
    book = nbformat.v4.new_notebook(cells=cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(cache))
        for name in ("HARNESS_STORE", "HARNESS_ARTIFACTS"):
            patch.delenv(name, raising=False)
        client = nbclient.NotebookClient(
            book, timeout=200, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    return {name: cell.outputs for name, cell in zip(CELLS, book.cells, strict=True)}


def html(output: Any) -> str:
    return str(output.get("data", {}).get("text/html", ""))


def test_a_run_shows_its_progress_in_one_output_and_then_the_page(outputs: dict[str, list[Any]]) -> None:
    shown = [output for output in outputs["run"] if output.output_type == "display_data"]
    progress, page = map(html, shown)
    assert "harness-progress" in progress and re.search(r'<progress value="(\d+)" max="\1">', progress)
    assert "pushed" in progress and "simulated board" in progress
    assert 'sandbox="allow-scripts allow-downloads"' in page and "SIMULATED" in unpacked(page)
    assert not [o for o in outputs["run"] if o.output_type == "stream"], outputs["run"]  # nothing on stderr either


def test_an_outcome_is_a_small_table_and_not_the_page_again(outputs: dict[str, list[Any]]) -> None:
    (output,) = outputs["outcome"]
    assert output.output_type == "execute_result" and len(html(output)) < 5000
    assert "SIMULATED DEVICE" in html(output) and "int8" in html(output)
    assert output.data["text/plain"].startswith("<simulated small, ")


def test_quiet_shows_neither_progress_nor_the_page(outputs: dict[str, list[Any]]) -> None:
    assert outputs["quiet"] == []


def test_an_experiment_is_built_from_a_notebook(outputs: dict[str, list[Any]]) -> None:
    shown = [html(output) for output in outputs["build"] if output.output_type == "display_data"]
    assert "building" in shown[0] and re.search("built [01] artifacts", shown[0]) and "harness-page" in shown[-1]
    assert "1 ok" in outputs["loop"][0].data["text/plain"]


def test_without_a_page_the_table_is_shown(outputs: dict[str, list[Any]]) -> None:
    (output,) = outputs["show"]
    assert "harness-outcome" in html(output) and output.data["text/plain"].startswith("<simulated small")


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [("error", "UsageError", "nope.yaml: no such file"), ("undecided", "Undecided", "is asked for")],
)
def test_an_error_is_ours_and_readable(outputs: dict[str, list[Any]], cell: str, kind: str, says: str) -> None:
    (output,) = outputs[cell]
    assert (output.output_type, output.ename) == ("error", kind) and says in output.evalue


def test_stdout_is_the_notebooks_again(outputs: dict[str, list[Any]]) -> None:
    (output,) = outputs["stdout"]
    assert (output.name, output.text) == ("stdout", "python True\n")


# -- what is displayed, without a kernel -------------------------------------------------------------------------------


def unpacked(page: str) -> str:
    inside = unescape(re.search(r'srcdoc="([^"]*)"', page)[1])  # type: ignore[index]
    packed = re.search(r'type="application/gzip">([^<]*)<', inside)[1]  # type: ignore[index]
    return gzip.decompress(base64.b64decode(packed)).decode()


def test_the_page_is_kept_packed_in_a_frame_that_cannot_reach_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    page = "<p>é & \"quotes\" </script>" * 10_000
    made = notebook.frame_of(page.encode(), 'a"<b>\\.html')
    assert unpacked(made) == page and len(made) < len(page) / 20
    outside = re.sub(r'srcdoc="[^"]*"', "", made)
    assert "allow-same-origin" not in made and "<script" not in outside and "<b>" not in outside
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert made == notebook.frame_of(page.encode(), 'a"<b>\\.html')  # a notebook under version control stays as it is


class Shown:
    def __init__(self) -> None:
        self.html: list[str] = []

    def __call__(self, data: dict[str, str], raw: bool, display_id: bool = False) -> Shown:
        self.html.append(data["text/html"])
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        self.html.append(data["text/html"])


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    found = Shown()
    monkeypatch.setattr(notebook, "_display", lambda: found)
    return found


def test_progress_is_escaped_bounded_and_seldom(shown: Shown) -> None:
    with notebook.NotebookScreen() as screen:
        for number in range(1000):
            screen.show("<pi>", "<b>pi</b>", "<img src=x>" * 100, number, 1000, 60.0)
            screen.say(f"<script>{number}")
        assert len(shown.html) == 1
    assert len(shown.html) == 2
    last = shown.html[-1]
    assert "<script>" not in last and "<img" not in last and "<b>" not in last and len(last) < 3000
    assert "… 988 lines before" in last and "&lt;script&gt;999" in last and 'value="999"' in last


def test_what_a_lane_says_is_shown_with_the_next_line(shown: Shown) -> None:
    import threading

    from harness.screen import note

    with notebook.NotebookScreen():
        thread = threading.Thread(target=note, args=("it is warm; waiting",))
        thread.start()
        thread.join()
        assert shown.html == []
    assert "it is warm; waiting" in shown.html[-1]


def test_without_ipython_it_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "IPython", raising=False)
    assert not notebook.in_notebook()
    assert not isinstance(notebook.screen(quiet=False), notebook.NotebookScreen)
