"""Base and head on this computer: real files, real runs, a kill in the middle. Only what is large is asserted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from harness import package as packages
from harness import pairs as pairing
from harness import records
from harness.analyze.compare import compare
from harness.analyze.digest import Digest
from harness.devices.spec import resolve
from harness.errors import UsageError
from harness.package import Files
from harness.pairs import Pairs
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Artifact, Package
from tests.undisturbed import given_up, planned_as

QUIET = Screen(quiet=True)
LOCAL = resolve("local")
REPEATS = 4  # enough to see what is many times as slow


@pytest.fixture
def settings(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    return Settings(store_url=f"sqlite:///{tmp_path}/h.db", files=tmp_path / "artifacts")


@pytest.fixture(scope="session")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The demo's network twice: whole in XNNPACK, and with its convolutions kept out of it."""
    import torch

    from harness.export.executorch import ExecuTorch, ExecuTorchParams
    from harness.interfaces import Compressed
    from harness.models import mnist_cnn

    folder = tmp_path_factory.mktemp("cnn")
    torch.manual_seed(0)
    model = Compressed(module=mnist_cnn(False), form="eager", example_inputs=(torch.zeros(1, 1, 28, 28),))
    for name, params in (("fast", ExecuTorchParams()), ("slow", ExecuTorchParams(keep_out=["convolution"]))):
        ExecuTorch().export(model, params, folder / f"{name}.pte")
    return folder / "fast.pte", folder / "slow.pte"


def of_files(base: Path, head: Path, settings: Settings) -> tuple[Pairs, Files]:
    """Two files, to be measured no longer than a test needs."""
    found, files = pairing.of_files(base, head, LOCAL, (), None, 1, REPEATS, settings, QUIET)
    plan = dict(found.package.experiment["measure"]) | {"min_seconds": 0.05, "memory": False}
    experiment = dict(found.package.experiment) | {"measure": plan}
    return replace(found, package=replace(found.package, experiment=experiment)), files


def measured(pairs: Pairs, files: Files, settings: Settings) -> tuple[Digest, Digest]:
    session = pairing.measure(pairs, files, [LOCAL], settings, QUIET)
    store = Store.open(settings.store_url)
    try:
        return pairing.digests(store, session, pairs)
    finally:
        store.close()


def outcomes(base: Digest, head: Digest) -> dict[str, str]:
    return {row.metric: row.outcome for row in compare([base], [head], [])}


def file_of(package: Package, variant: str) -> Artifact:
    artifacts = (b.artifact for b in package.builds if (b.variant, b.exporter) == (variant, "executorch"))
    found = next(artifacts)
    assert found is not None
    return found


def test_a_slowed_file_is_worse_within_its_cell_and_better_the_other_way_round(
    cnn: tuple[Path, Path], settings: Settings
) -> None:
    fast, slow = cnn
    pairs, files = of_files(fast, slow, settings)
    assert len(pairs.paired) == 1 and {b.backend for b in pairs.package.builds} == {"xnnpack"}
    base, head = measured(pairs, files, settings)
    (one,), (two,) = base.cells, head.cells
    assert one.cell == two.cell and base.session == head.session
    times = one.metrics["latency_ms"].blocks, two.metrics["latency_ms"].blocks
    assert all(times[1][b] > 2 * times[0][b] for b in times[0].keys() & times[1].keys())
    assert outcomes(base, head)["latency_ms"] == "worse"
    assert outcomes(head, base)["latency_ms"] == "better"


def test_the_same_file_twice_is_one(package: Path, settings: Settings) -> None:
    built, kept = packages.read(package)
    fp32 = kept(file_of(built, "fp32").sha256, ".pte")
    same, _ = of_files(fp32, fp32, settings)
    assert len(same.same) == 1 and len(same.package.builds) == 1


def test_files_that_cannot_be_compared_are_refused(
    cnn: tuple[Path, Path], package: Path, settings: Settings, tmp_path: Path
) -> None:
    built, kept = packages.read(package)
    small = kept(file_of(built, "fp32").sha256, ".pte")
    with pytest.raises(UsageError, match=r"takes inputs of \[\[1, 16\]\].*\[\[1, 1, 28, 28\]\]"):
        of_files(small, cnn[0], settings)
    lite = tmp_path / "a.ptl"
    lite.write_bytes(b"")
    with pytest.raises(UsageError, match="two runtimes"):
        of_files(lite, cnn[0], settings)


def _both(package: Path, settings: Settings) -> tuple[Package, Package]:
    """(base, head): head's int8 is the fp32 file, as a build that lost its compression would be."""
    built, kept = packages.read(package)
    plan = dict(built.experiment["measure"]) | {"memory": False}
    ours = tuple(b for b in built.builds if b.exporter == "executorch")
    built = replace(built, builds=ours, experiment=dict(built.experiment) | {"measure": plan})
    packages.keep(built, kept, settings.files)
    fp32 = next(b for b in ours if b.variant == "fp32")
    changes = {"artifact": fp32.artifact, "expected": fp32.expected, "precision": "fp32"}
    swapped = tuple(replace(b, **changes) if b.variant == "int8" else b for b in ours)  # type: ignore[arg-type]
    return built, replace(built, builds=swapped)


PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path
from harness import package as packages, pairs as pairing
from harness.devices.spec import resolve
from harness.screen import Screen
from harness.settings import Settings
url, files, head, base = sys.argv[1:]
kept = packages.Files(Path(files))
read = packages._ADAPTER.validate_json
found = pairing.merged(read(Path(head).read_bytes()), read(Path(base).read_bytes()), kept)
settings = Settings(store_url=url, files=kept.folder)
print(pairing.measure(replace(found, repeats=4), kept, [resolve("local")], settings, Screen(quiet=True)).id)
"""


def test_killed_in_the_middle_it_goes_on_counts_every_run_once_and_finds_what_changed(
    package: Path, settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    old, new = _both(package, settings)
    for name, one in (("head", new), ("base", old)):
        (tmp_path / name).write_bytes(packages._ADAPTER.dump_json(one))
    arguments = [settings.store_url, str(settings.files), str(tmp_path / "head"), str(tmp_path / "base")]
    command = [sys.executable, "-c", PROGRAM, *arguments]
    store = Store.open(settings.store_url, create=True)
    for least in (2, 17):  # among the checks, and among the timed runs
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        began = time.monotonic()
        while sum(s["runs"] for s in store.list_sessions()) < least:
            assert process.poll() is None and time.monotonic() - began < 120
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (listed,) = store.list_sessions()
    assert listed["id"] == done.stdout.strip() and listed["kind"] == "paired" and listed["finished_utc"]
    runs = store.runs(listed["id"])
    counted = Counter(planned_as(run) for run in runs if run.counts)
    assert set(counted.values()) == {1}
    lost = given_up(runs)
    timed = {what for what in {*counted, *lost} if what[2] == "latency"}
    pte = {(name, "executorch") for name in ("fp32", "int8", "int8 (base)")}
    assert timed == {(*cell, "latency", n) for cell in pte for n in range(REPEATS)}
    session = store.session(listed["id"])
    assert {b.variant for b in records.head_of(session).package.builds} == {"fp32", "int8"}
    base, head = pairing.digests(store, session, pairing.merged(new, old, Files(settings.files)))
    store.close()
    assert None not in {c.metrics["accuracy"].value for c in base.cells}  # the base is checked and scored as head is
    rows = compare([base], [head], [])
    worse = {(row.cell.variant, row.metric) for row in rows if row.outcome == "worse"}
    assert ("int8", "size_bytes") in worse
    assert {variant for variant, _ in worse} == {"int8"}  # and nothing of what did not change
    assert ("int8", "size_bytes") in {
        (row.cell.variant, row.metric) for row in compare([head], [base], []) if row.outcome == "better"
    }
