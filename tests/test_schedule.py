"""The schedule of one device: what comes when, and in which order."""

from __future__ import annotations

from typing import Any

import pytest

from harness import schedule
from harness.experiment import Measure
from harness.types import NULL_VARIANT, Artifact, DeviceFacts, Package, PlannedRun
from tests.session_kit import CHECKED, build, session

FACTS = DeviceFacts(device_id="id-local", abi="x86_64", cores=2)


def package() -> Package:
    made = session([build("fp32"), build("int8"), build("slim")]).package
    null = Artifact(
        sha256="0" * 64, suffix=".pte", size_bytes=1, compressed_bytes=1, runtime="executorch", toolchain={}
    )
    return Package(
        schema=1, experiment=made.experiment, yaml="", builds=made.builds, checks=made.checks,
        nulls={"executorch": null}, null_input=CHECKED,
    )  # fmt: skip


def blocks(quick: bool = False, seed: int = 1, **measure: Any) -> list[schedule.Block]:
    return schedule.blocks(package(), Measure(**measure), FACTS, seed, quick=quick)


def purposes(found: list[schedule.Block]) -> list[str]:
    out: list[str] = []
    for block in found:
        if not out or out[-1] != block.purpose:
            out.append(block.purpose)
    return out


def every(found: list[schedule.Block], purpose: str) -> list[PlannedRun]:
    return [run for block in found for run in block.runs if run.purpose == purpose]


def test_what_heats_the_device_for_long_comes_last_and_the_device_is_enrolled_before_its_latency() -> None:
    found = blocks(cold_loads=2, energy="auto", sustained_minutes=1, profile=True)
    assert purposes(found) == [
        "check", "memory", "load", "sentinel", "burn_in", "latency", "energy", "sustained", "profile",
    ]  # fmt: skip


def test_a_quick_look_has_neither_enrolment_nor_burn_in_nor_energy() -> None:
    found = blocks(quick=True, repeats=1, energy="auto", sustained_minutes=1)
    assert purposes(found) == ["check", "memory", "latency"]


def test_the_burn_in_block_comes_once_and_counts_as_no_repeat() -> None:
    found = blocks(repeats=3)
    assert len([b for b in found if b.purpose == "burn_in"]) == 1
    assert sorted({run.repeat for run in every(found, "latency")}) == [0, 1, 2]


def test_every_latency_block_holds_each_variant_once_in_an_order_of_its_own_that_the_seed_fixes() -> None:
    found = [b for b in blocks(repeats=8) if b.purpose == "latency"]
    orders = [tuple(run.cell.variant for run in b.runs) for b in found]
    assert all(sorted(order) == ["fp32", "int8", "slim"] for order in orders)
    assert len(set(orders)) > 1
    again = [tuple(run.cell.variant for run in b.runs) for b in blocks(repeats=8) if b.purpose == "latency"]
    other = [tuple(run.cell.variant for run in b.runs) for b in blocks(repeats=8, seed=2) if b.purpose == "latency"]
    assert orders == again
    assert orders != other


def test_each_energy_block_lies_between_two_idle_windows_that_its_variants_share() -> None:
    found = [b for b in blocks(repeats=2, energy="auto", energy_seconds=7) if b.purpose == "energy"]
    for number, block in enumerate(found):
        kinds = [run.purpose for run in block.runs]
        assert kinds == ["idle", "energy", "energy", "energy", "idle"]
        assert [run.repeat for run in block.runs if run.purpose == "idle"] == [2 * number, 2 * number + 1]
        assert {run.min_seconds for run in block.runs} == {7.0}
        assert [run.position for run in block.runs] == [0, 1, 2, 3, 4]
        assert len({run.block for run in block.runs}) == 1


def test_the_calibration_kernel_is_enrolled_for_each_setting_of_cpus() -> None:
    found = every(blocks(cpus=["any", "0x1"]), "sentinel")
    assert len(found) == 2 * schedule.ENROLMENTS
    assert {run.cell.cpus for run in found} == {"any", "0x1"}
    assert {run.cell.variant for run in found} == {NULL_VARIANT}
    assert all(run.inputs == () for run in found)
    slots = [(run.cell, run.repeat) for run in found]
    assert len(set(slots)) == len(slots)


def test_no_two_runs_fill_one_slot() -> None:
    found = blocks(cold_loads=3, energy="auto", sustained_minutes=1, profile=True, cpus=["any", "0x1"])
    slots = [(run.cell, run.purpose, run.repeat) for block in found for run in block.runs]
    assert len(set(slots)) == len(slots)


@pytest.mark.parametrize("numbers", [(9, 7), (30, 12)])
def test_one_more_block_takes_its_own_number(numbers: tuple[int, int]) -> None:
    runs = every(blocks(), "latency")[:2]
    found = schedule.more(*numbers, runs, seed=3)
    assert {(run.block, run.repeat) for run in found.runs} == {numbers}
    assert [run.position for run in found.runs] == [0, 1]
    assert {run.cell for run in found.runs} == {run.cell for run in runs}
