"""The whole job on real input, through the real runners. Read this first."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from harness import package as packages
from harness import pipeline, schedule
from harness.devices.spec import resolve
from harness.executors import Executors
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from tests.conftest import Harness
from tests.undisturbed import given_up, planned_as

SCHEMA = json.loads((Path(__file__).parent / "schema" / "results.schema.json").read_text())


def by_cell(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r["variant"], r["exporter"]): r for r in document["results"]}


def test_an_experiment_ends_with_measured_variants_a_front_a_pick_and_a_page(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    done = harness("run", str(project / "small.yaml"), "--json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    document = done.json
    jsonschema.validate(document, SCHEMA)

    results = by_cell(document)
    assert {cell: r["status"] for cell, r in results.items()} == {
        ("fp32", "executorch"): "ok",
        ("fp32", "torchscript_lite"): "ok",
        ("int8", "executorch"): "ok",
        ("int8", "torchscript_lite"): "skipped",  # a PT2E program cannot be a .ptl
    }
    fp32 = results["fp32", "executorch"]
    assert 2 <= fp32["repeats"] <= 3  # others' work on this computer may have spoilt one
    assert fp32["metrics"]["latency_ms"]["value"] > 0
    assert fp32["metrics"]["peak_memory_bytes"]["value"] > 1e6
    assert fp32["metrics"]["accuracy"]["source"] == "device"
    assert fp32["metrics"]["accuracy"]["value"] == pytest.approx(fp32["metrics"]["accuracy"]["host"]["value"], abs=0.02)
    assert fp32["metrics"]["accuracy_drop"]["value"] == 0
    assert fp32["metrics"]["output_sqnr_db"]["value"] > 60
    assert fp32["metrics"]["energy_j"] == {"absent": "energy: off"}
    assert document["front"]
    assert document["pick"]["variant"] == "int8"  # the smaller file
    assert (tmp_path / document["report"]).stat().st_size > 1e6

    # today's numbers are measured again, files are not built again
    again = harness("run", str(project / "small.yaml"), "--json", cwd=tmp_path).json
    assert again["session"] != document["session"]
    assert not set(by_cell(again)["fp32", "executorch"]["runs"]) & set(fp32["runs"])
    assert [r["artifact"].get("built") for r in again["results"]] == [False, False, False, None]

    # what the store has is what the page and the pick say
    reported = harness("report", "--json", cwd=tmp_path).json
    assert reported["results"] == again["results"]
    shipped = harness("pick", "-o", "ship", "--json", cwd=tmp_path)
    assert shipped.json["pick"]["variant"] == "int8"
    manifest = json.loads((tmp_path / "ship" / "manifest.json").read_text())
    assert (tmp_path / "ship" / manifest["file"]).stat().st_size == manifest["artifact"]["size_bytes"]
    assert "int8" in (tmp_path / "ship" / "MODEL_CARD.md").read_text()
    nothing = harness("pick", "--where", "latency_ms <= 0.0000001", cwd=tmp_path)
    assert nothing.code == 1

    for form in ("csv", "json", "parquet"):
        assert harness("export-runs", "--format", form, "-o", f"runs.{form}", cwd=tmp_path).code == 0
    rows = json.loads((tmp_path / "runs.json").read_text())
    timed = [row for row in rows if row["purpose"] == "latency" and row["variant"] == "fp32"]
    assert all(len(row["latency_ns"]) >= 100 for row in timed)


def test_nothing_that_is_told_names_the_host_the_user_or_a_place_on_it(
    project: Path, harness: Harness, tmp_path: Path
) -> None:
    import socket

    document = harness("run", str(project / "small.yaml"), "--quick", "--variant", "fp32", "--json", cwd=tmp_path)
    page = (tmp_path / document.json["report"]).read_text()
    for secret in (str(tmp_path), str(project), socket.gethostname() * (len(socket.gethostname()) > 4)):
        if secret:
            assert secret not in document.stdout
            assert secret not in page
    assert document.json["picks"] is None  # quick sessions never decide
    assert harness("pick", cwd=tmp_path).code == 2


def test_a_package_is_measured_in_an_empty_environment_without_torch_or_the_users_code(
    package: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """The wheel built from this tree, in an environment of its own with the base dependencies only."""
    root = Path(__file__).resolve().parent.parent
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path), str(root)]
    subprocess.run(build, check=True, timeout=300, capture_output=True)
    (wheel,) = tmp_path.glob("ondevice_harness-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["-c", str(root / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *constraints, wheel], check=True, timeout=600)
    assert subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0

    shutil.copytree(package, tmp_path / "carried")
    done = subprocess.run(
        [tmp_path / "venv" / "bin" / "harness", "run", "carried", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = by_cell(json.loads(done.stdout))
    assert results["int8", "executorch"]["status"] == "ok"
    assert results["int8", "executorch"]["metrics"]["accuracy"]["value"] > 0.5
    assert (tmp_path / "reports" / "small.html").exists()


class Twice(Executor):
    """Runs every task two times, as an executor may that lost an answer."""

    def __init__(self) -> None:
        self.inner = ThreadPoolExecutor(1)

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self.inner.submit(lambda: (fn(*args, **kwargs), fn(*args, **kwargs))[1])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.inner.shutdown(wait, cancel_futures=cancel_futures)


LANES = {
    "in a thread": Executors().lane,
    "in a spawned process": lambda device: ProcessPoolExecutor(1, get_context("spawn")),
    "every task twice": lambda device: Twice(),
}


@pytest.mark.parametrize("lane", LANES)
def test_any_executor_gives_each_planned_run_once(
    package: Path, cache: Path, tmp_path: Path, lane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    built, files = packages.read(package)
    url = f"sqlite:///{tmp_path}/h.db"
    settings = Settings(store_url=url, files=files.folder, executors=Executors(lane=LANES[lane]))
    session = pipeline.run_package(built, files, [resolve("local")], settings, Screen(quiet=True))
    runs = Store.open(url).runs(session.id)
    counted = [planned_as(run) for run in runs if run.counts]
    assert len(counted) == len(set(counted))
    cells = {("fp32", "executorch"), ("fp32", "torchscript_lite"), ("int8", "executorch")}
    nulls = {("(null)", "executorch"), ("(null)", "torchscript")}
    assert {*counted, *given_up(runs)} == (
        {(*cell, "accuracy", 0) for cell in cells}
        | {(*cell, purpose, n) for cell in cells for purpose in ("memory", "latency") for n in range(3)}
        | {(*cell, "memory", n) for cell in nulls for n in range(3)}
        | {(*cell, "burn_in", 0) for cell in cells}
        | {("(null)", "executorch", "sentinel", n) for n in range(schedule.ENROLMENTS)}
    )


def test_every_block_holds_each_variant_once_in_an_order_of_its_own(package: Path, cache: Path, tmp_path: Path) -> None:
    from harness.experiment import Measure
    from harness.types import DeviceFacts

    built, _ = packages.read(package)
    facts = DeviceFacts(device_id="12345678", abi="x86_64", cores=2)
    plan = Measure(repeats=20)
    blocks = [b for b in schedule.blocks(built, plan, facts, seed=1) if b.purpose == "latency"]
    orders = [tuple((run.cell.variant, run.cell.exporter) for run in block.runs) for block in blocks]
    assert {frozenset(order) for order in orders} == {frozenset(orders[0])}
    assert all(len(order) == 3 for order in orders)
    assert len(set(orders)) > 1
    assert [b.runs for b in schedule.blocks(built, plan, facts, seed=1)] == [
        b.runs for b in schedule.blocks(built, plan, facts, seed=1)
    ]
    first = schedule.blocks(built, plan, facts, seed=1)[0]
    assert {run.purpose for run in first.runs} == {"accuracy"}  # outputs are checked before anything is timed


def test_a_wrong_answer_is_not_a_result_however_fast(package: Path, harness: Harness, tmp_path: Path) -> None:
    """The fp32 program in the int8 variant's place: it runs, and answers otherwise than that variant should."""
    shutil.copytree(package, tmp_path / "p")
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    fp32, int8 = (next(b for b in manifest["builds"] if b["variant"] == v and b["artifact"]) for v in ("fp32", "int8"))
    int8["artifact"] = fp32["artifact"]
    int8["precision"] = "fp32"
    (tmp_path / "p" / "manifest.json").write_text(json.dumps(manifest))
    done = harness("run", "p", "--json", cwd=tmp_path)
    assert done.code == 3
    result = by_cell(done.json)["int8", "executorch"]
    assert result["status"] == "failed"
    assert "wrong output" in result["reason"]
    assert "absent" in result["metrics"]["latency_ms"]
    assert by_cell(done.json)["fp32", "executorch"]["status"] == "ok"


@pytest.mark.parametrize("damage", ["a byte", "missing", "manifest"])
def test_a_damaged_package_is_refused(package: Path, harness: Harness, tmp_path: Path, damage: str) -> None:
    shutil.copytree(package, tmp_path / "p")
    victim = next((tmp_path / "p" / "files").glob("*.pte"))
    if damage == "a byte":
        content = bytearray(victim.read_bytes())
        content[100] ^= 1
        victim.write_bytes(content)
    elif damage == "missing":
        victim.unlink()
    else:
        (tmp_path / "p" / "manifest.json").write_text('{"schema": 1}')
    done = harness("run", "p", cwd=tmp_path)
    assert done.code == 3
    assert "Traceback" not in done.stderr
    assert "try:" in done.stderr


def test_measuring_stops_in_time_and_goes_on_later(package: Path, harness: Harness, tmp_path: Path) -> None:
    first = harness("run", str(package), "--max-minutes", "0.001", "--json", cwd=tmp_path)
    assert first.code == 3  # something planned is missing
    second = harness("run", str(package), "--json", cwd=tmp_path)
    assert second.code == 0
    assert second.json["session"] == first.json["session"]
    third = harness("run", str(package), "--fresh", "--json", cwd=tmp_path)
    assert third.json["session"] != first.json["session"]
