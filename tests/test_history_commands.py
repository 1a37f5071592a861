"""`history` through the command line, and the help of all commands of releases."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.report.compare_text import SIMULATED
from harness.sim import world as worlds
from harness.store import Store
from tests.release_kit import SAME, Lab, enter
from tests.session_kit import schema

SIZES = {"fp32": 1000, "int8": 300}
LARGER = SIZES | {"int8": 330}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three releases, then int8 becomes 20 % slower and 10 % larger beside an unchanged reference, for three more."""
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        enter(folder, patch)
        lab = Lab(folder)
        plan = {"min_seconds": 0.1}
        for i in range(3):
            lab.release(f"v1.{i}", SAME, sizes=SIZES, build="same", plan=plan)
        for i in range(3, 6):
            lab.release(f"v1.{i}", SAME | {"int8": 6.0}, sizes=LARGER, build="same", plan=plan)
        lab.release("q", SAME, "--quick", sizes=SIZES, build="same")
    return folder


@pytest.fixture
def lab(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    shutil.copytree(measured, tmp_path / "lab")
    enter(tmp_path / "lab", monkeypatch)
    yield Lab(tmp_path / "lab")
    worlds._worlds.clear()


def test_every_series_of_every_release_but_no_quick_one(lab: Lab) -> None:
    code, found = lab.json("history")
    assert code == 0
    schema("history").validate(found)
    assert {s["variant"] for s in found["series"]} == {"fp32", "int8"}
    for series in found["series"]:
        assert [p["label"] for p in series["points"]] == [f"v1.{i}" for i in range(6)]
    assert found["simulated"] is True and found["notes"] == []


def test_what_became_larger_is_told_with_the_release_it_came_with(lab: Lab) -> None:
    _, found = lab.json("history", "--metric", "size_bytes", "--variant", "int8")
    (series,) = found["series"]
    (change,) = series["changes"]
    assert (change["label"], change["worse"]) == ("v1.3", True)
    assert change["ratio"] == pytest.approx(1.1)
    assert lab("history", "--metric", "size_bytes") == 0
    assert lab.stdout.splitlines()[0] == SIMULATED
    assert "since v1.3: 10 % larger (worse)" in lab.stdout


def test_only_what_is_asked_for_and_still_divided_by_the_reference(lab: Lab) -> None:
    _, found = lab.json("history", "--metric", "latency_ms", "--metric", "load_ms", "--variant", "int8")
    assert {(s["variant"], s["metric"]) for s in found["series"]} == {("int8", "latency_ms"), ("int8", "load_ms")}
    assert {s["normalised"] for s in found["series"]} == {"fp32"}
    points = [p for s in found["series"] if s["metric"] == "latency_ms" for p in s["points"]]
    assert [round(p["relative"], 1) for p in points] == [0.5, 0.5, 0.5, 0.6, 0.6, 0.6]
    _, found = lab.json("history", "--device", "pi")
    assert {s["device"] for s in found["series"]} == {"pi"}


def test_a_change_is_measured_again_when_asked(lab: Lab) -> None:
    code, found = lab.json("history", "--metric", "size_bytes", "--confirm")
    assert code == 0
    assert [c["confirmed"] for s in found["series"] for c in s["changes"]] == [True]


def test_markdown_is_one_document_on_stdout(lab: Lab) -> None:
    assert lab("history", "--metric", "size_bytes", "--format", "markdown") == 0
    assert lab.stdout.startswith(f"> **{SIMULATED}**")
    assert "| v1.3 | 330 B |" in lab.stdout


def test_one_release_is_no_history_and_says_so(lab: Lab) -> None:
    lab.release("first", SAME, sizes=SIZES, name="young", plan={"min_seconds": 0.1})
    assert lab("history") == 0
    assert "a history begins with the second" in lab.stdout


REFUSED = [
    (["--metric", "latncy_ms"], "did you mean 'latency_ms'"),
    (["--metric", "throughput_ips"], "no history of 'throughput_ips'"),
    (["--metric", "latency_ms.p98"], "one of: p50"),
    (["--device", "pj"], "did you mean 'pi'"),
    (["--variant", "int9"], "did you mean 'int8'"),
    (["--experiment", "dmo"], "did you mean 'demo'"),
    (["--format", "xml"], "format"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSED, ids=[" ".join(r[0]) for r in REFUSED])
def test_what_is_not_there_is_refused_with_the_nearest(lab: Lab, arguments: list[str], says: str) -> None:
    lab.says(2, "history", *arguments, names=says)


COMMANDS = ["compare", "gate", "history", "baseline set", "baseline show"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_the_common_options(tmp_path: Path, command: str) -> None:
    lab = Lab(tmp_path)
    code = lab(*command.split(), "--help")
    assert code == 0
    assert f"harness {command}" in lab.stdout.partition("Example:")[2]
    for option in ("--store", "--debug", "--json", "--identify"):
        assert option in lab.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["gate", "--help"]])
def test_help_loads_neither_torch_nor_the_store(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom harness import cli\n"
        f"cli._guarded({arguments!r})\n"
        "heavy = {'torch', 'sqlalchemy', 'numpy', 'rich'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip() == "set()"


def test_judging_what_is_stored_loads_no_torch(lab: Lab) -> None:
    code = (
        "import sys\nfrom harness import cli\n"
        f"cli._guarded(['compare', 'v1.0', 'v1.3', '--store', 'sqlite:///{lab.folder}/h.db'])\n"
        "print('torch' in sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stderr.strip().splitlines()[-1] == "False"
    assert "verdict: worse" in done.stdout


def test_a_store_that_can_only_be_read_is_read(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Store, *given: Any) -> None:
        raise StoreError("attempt to write a readonly database")

    lab.release("v8", SAME, build="v8")
    with sqlite3.connect(lab.folder / "h.db") as connection:
        connection.execute("delete from digests")
    monkeypatch.setattr(Store, "put_digest", refuse)
    assert lab("history") == 0
    assert lab("report") == 0
