"""Base and head in one package: what is measured beside what, and what is told of the rest. No device is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness import pairs as pairing
from harness import pipeline, records, schedule
from harness.experiment import Measure
from harness.lanes import Lane
from harness.package import Files
from harness.pairs import Pairs, key, merged
from harness.sim.model import SimModel
from harness.sim.package import sim_device, sim_package
from harness.store import Store
from harness.types import BASE_SUFFIX, NULL_VARIANT, Build, DeviceFacts, Package, TensorFile, TensorSpec

DEVICE = DeviceFacts(device_id="12345678", abi="x86_64", cores=2)
INT8 = ("int8", 0, "executorch", "simulated", "default")
FP32 = ("fp32", 0, "executorch", "simulated", "default")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def package(files: Files, latency_ms: Mapping[str, float], **measure: Any) -> Package:
    models = {name: SimModel(latency_ms=ms, name=name) for name, ms in latency_ms.items()}
    return sim_package(models, files, **measure)


def variants(found: Pairs) -> list[str]:
    return [build.variant for build in found.package.builds]


def changed(whole: Package, variant: str, **changes: Any) -> Package:
    builds = tuple(dataclasses.replace(b, **changes) if b.variant == variant else b for b in whole.builds)
    return dataclasses.replace(whole, builds=builds)


def of(whole: Package, variant: str) -> Build:
    return next(build for build in whole.builds if build.variant == variant)


def test_what_changed_has_its_base_beside_it_and_the_very_same_file_is_there_once(files: Files) -> None:
    base, head = package(files, {"fp32": 2, "int8": 1}), package(files, {"fp32": 2, "int8": 1.2})
    found = merged(head, base, files)
    assert variants(found) == ["fp32", "int8", "int8" + BASE_SUFFIX]
    assert found.same == {FP32} and found.paired == {INT8} and not found.apart
    assert of(found.package, "int8" + BASE_SUFFIX).artifact == of(base, "int8").artifact
    assert of(found.package, "int8").artifact == of(head, "int8").artifact
    assert found.package.experiment == head.experiment  # objectives, pick and reference stay
    assert found.package.nulls == head.nulls
    assert [key(build) for build in pairing.base_of(found.package).builds] == [INT8]


def test_both_stand_in_every_block_of_every_purpose(files: Files) -> None:
    plan: dict[str, Any] = {"cold_loads": 2, "repeats": 3}
    base, head = package(files, {"fp32": 2, "int8": 1}), package(files, {"fp32": 2.1, "int8": 1.2}, **plan)
    found = merged(head, base, files)
    blocks = schedule.blocks(found.package, Measure(**plan), DEVICE, seed=1)
    assert {b.purpose for b in blocks} >= {"memory", "load", "latency"}
    for block in blocks:
        if block.purpose in ("memory", "load", "burn_in", "latency"):
            names = sorted(run.cell.variant for run in block.runs if run.cell.variant != NULL_VARIANT)
            assert names == ["fp32", "fp32 (base)", "int8", "int8 (base)"]


def _without(path: Path) -> None:
    path.unlink()


def _damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


@pytest.mark.parametrize("lose", [_without, _damaged])
def test_a_base_whose_file_is_gone_or_damaged_is_told_and_head_is_measured_by_itself(files: Files, lose: Any) -> None:
    base, head = package(files, {"fp32": 2, "int8": 1}), package(files, {"fp32": 2, "int8": 1.2})
    artifact = of(base, "int8").artifact
    assert artifact is not None
    lose(files.folder / artifact.file_name)
    found = merged(head, base, files)
    assert variants(found) == ["fp32", "int8"]
    assert set(found.apart) == {INT8} and "the base's file" in found.apart[INT8]
    assert "artifacts folder" in found.apart[INT8] and str(files.folder) not in found.apart[INT8]
    assert not found.paired and found.same == {FP32}


@pytest.mark.parametrize("whose", ["base", "head"])
def test_expected_outputs_are_files_too(files: Files, whose: str) -> None:
    base, head = package(files, {"int8": 1}), package(files, {"int8": 1.2})
    gone = TensorFile(spec=TensorSpec(dtype="float32", shape=(1,)), sha256="a" * 64, samples=1)
    there = dataclasses.replace(gone, sha256=files.put(b"1234", ".bin"))
    base = changed(base, "int8", expected=(gone if whose == "base" else there,))
    head = changed(head, "int8", expected=(gone if whose == "head" else there,))
    found = merged(head, base, files)
    assert list(found.apart) == [INT8] and "check data" in found.apart[INT8]
    assert variants(found) == (["int8"] if whose == "base" else [])  # without its own data head cannot be checked


def test_other_inputs_are_another_question(files: Files) -> None:
    base, head = package(files, {"int8": 1}), package(files, {"int8": 1.2})
    other = TensorFile(spec=TensorSpec(dtype="float32", shape=(1,)), sha256=files.put(b"5678", ".bin"), samples=1)
    check = dataclasses.replace(base.checks["default"], inputs=(other,))
    found = merged(head, dataclasses.replace(base, checks={"default": check}), files)
    assert variants(found) == ["int8"]
    assert "inputs" in found.apart[INT8]


def test_the_same_file_that_is_to_answer_otherwise_is_measured_on_both_sides(files: Files) -> None:
    base, head = package(files, {"int8": 1}), package(files, {"int8": 1})
    spec = TensorSpec(dtype="float32", shape=(1,))
    one, two = (TensorFile(spec=spec, sha256=files.put(text, ".bin"), samples=1) for text in (b"1234", b"4321"))
    found = merged(changed(head, "int8", expected=(one,)), changed(base, "int8", expected=(two,)), files)
    assert found.paired == {INT8} and not found.same
    structured = dataclasses.replace(base.checks["default"], structure=[0, 1])
    apart = merged(head, dataclasses.replace(base, checks={"default": structured}), files)
    assert "structure" in apart.apart[INT8]


def test_what_one_side_alone_has_is_told(files: Files) -> None:
    base, head = package(files, {"fp32": 2, "old": 1}), package(files, {"fp32": 2, "new": 1})
    found = merged(head, base, files)
    assert variants(found) == ["fp32", "new"]
    told = {name[0]: why for name, why in found.apart.items()}
    assert told == {"new": "only head has it", "old": "only the base has it"}


def test_what_was_not_built_is_told_as_what_became_of_it(files: Files) -> None:
    broken: dict[str, Any] = {"status": "failed", "reason": "lowering failed", "artifact": None, "backend": ""}
    base, head = package(files, {"a": 2, "b": 1, "c": 3}), package(files, {"a": 2.2, "b": 1.1, "c": 3.3})
    base, head = changed(base, "a", **broken), changed(head, "b", **broken)
    base, head = changed(base, "c", **broken | {"status": "skipped"}), changed(head, "c", **broken)
    found = merged(head, base, files)
    told = {name[0]: why for name, why in found.apart.items()}
    assert told == {"a": "the base's is failed: lowering failed", "b": "head's is failed: lowering failed"}
    assert [(b.variant, b.status) for b in found.package.builds] == [("a", "ok"), ("b", "failed"), ("c", "failed")]
    assert [row[:4] for row in found.unbuilt] == [
        ("a", "executorch", "default", "failed"), ("c", "executorch", "default", "skipped")
    ]  # fmt: skip


def test_another_backend_is_another_cell(files: Files) -> None:
    base, head = package(files, {"int8": 1}), package(files, {"int8": 1.2})
    found = merged(changed(head, "int8", backend="portable"), base, files)
    assert sorted(found.apart.values()) == [
        "head's is of another backend: portable", "the base's is of another backend: simulated"
    ]  # fmt: skip


def test_a_confirmation_measures_what_it_asks_for_and_nothing_else(files: Files) -> None:
    base = package(files, {"fp32": 2, "int8": 1, "slim": 1})
    head = package(files, {"fp32": 2.2, "int8": 1.2, "slim": 1})
    slim, none = ("slim", *INT8[1:]), ("none", *INT8[1:])
    found = merged(head, base, files, [INT8, slim, none])
    assert variants(found) == ["int8", "int8 (base)"]
    assert found.same == {slim}
    assert found.apart == {none: "neither side has a file of it"}
    assert not found.package.nulls and found.package.null_input is None


def test_a_comparison_is_never_taken_for_the_plain_run_of_the_same_files(files: Files) -> None:
    head = package(files, {"fp32": 2})
    lanes = [Lane(spec=sim_device("sim://pi5-fan?seed=1"))]
    plan = Measure()
    keys = {pipeline.plan_key(head, lanes, plan, False, kind) for kind in ("experiment", "paired", "confirm")}
    assert len(keys) == 3
    assert pipeline.plan_key(head, lanes, plan, False) in keys  # as plain runs always were


@pytest.mark.parametrize("kind", ["paired", "confirm"])
def test_pages_and_releases_see_no_base(files: Files, tmp_path: Path, kind: Any) -> None:
    base, head = package(files, {"int8": 1}), package(files, {"int8": 1.2})
    store = Store.open(f"sqlite:///{tmp_path}/h.db", create=True)
    pairs = merged(head, base, files)
    spec = sim_device("sim://pi5-fan?seed=1")
    identity = store.begin(
        package=pairs.package, plan={"seed": 1}, plan_key="k", label=None, quick=False, devices=[spec], kind=kind
    )
    assert [b.variant for b in records.head_of(store.session(identity)).package.builds] == ["int8"]
    listed = [one.session for one in records.releases(store, "simulated")]
    assert listed == ([identity] if kind == "paired" else [])  # a confirmation is no release
    store.close()
