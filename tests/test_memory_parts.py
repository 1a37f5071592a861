"""What a peak is made of, and the figures of a memory run that cannot all be true."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from harness.analyze import memory_parts
from harness.types import Run
from tests.lines_kit import END, FIRST, LOAD, START, Line, collected
from tests.session_kit import build, documented, session

MB = 1_000_000
# an 8 MB file whose weights are packed (8 MB more), 2 MB of planned buffers, 1 MB of workspace
PHASES: dict[str, dict[str, int]] = {
    "start": {"vm_rss": 5 * MB, "vm_hwm": 5 * MB, "vm_swap": 0, "rss_anon": 1 * MB, "rss_file": 4 * MB},
    "program": {"vm_rss": 5 * MB, "vm_hwm": 5 * MB, "vm_swap": 0, "rss_anon": 1 * MB, "rss_file": 4 * MB},
    "method": {"vm_rss": 14 * MB, "vm_hwm": 21 * MB, "vm_swap": 0, "rss_anon": 9 * MB, "rss_file": 5 * MB,
               "model_mapped": 300_000},
    "first": {"vm_rss": 17 * MB, "vm_hwm": 21 * MB, "vm_swap": 0, "rss_anon": 12 * MB, "rss_file": 5 * MB,
              "model_mapped": 400_000},
    "steady": {"vm_rss": 17 * MB + 1, "vm_hwm": 21 * MB, "vm_swap": 0, "rss_anon": 12 * MB, "rss_file": 5 * MB,
               "model_mapped": 500_000},
    "peak": {"vm_rss": 17 * MB, "vm_hwm": 21 * MB, "vm_swap": 0, "rss_anon": 12 * MB, "rss_file": 5 * MB,
             "peak_bytes": 21 * MB},
}  # fmt: skip


def memory_lines(start: Mapping[str, Any] = {}, load: Mapping[str, Any] = {}, **phases: Line | None) -> list[Line]:
    """PHASES as lines; a phase that is named is changed, or left out by None."""
    checkpoints = {}
    for phase, counters in PHASES.items():
        changed = phases.get(phase, {})
        if changed is not None:
            merged = {"type": "memory", "phase": phase} | counters | changed
            checkpoints[phase] = {key: value for key, value in merged.items() if value is not None}
    early = [checkpoints.pop(phase) for phase in ("start", "program", "method") if phase in checkpoints]
    loaded = {**LOAD, "arenas_bytes": 2 * MB, **load}
    return [{**START, **start}, *early, loaded, FIRST, *checkpoints.values(), END]


def memory_run(*args: Any, repeat: int = 0, **more: Any) -> Run:
    return collected("memory", *memory_lines(*args, **more), repeat=repeat)


def test_the_parts_add_up_to_the_fullest_checkpoint_and_the_rest_of_the_peak_was_passing() -> None:
    run = memory_run()
    assert (run.status, run.caveats) == ("ok", ())
    found = memory_parts.parts(run)
    assert found["model_mapped"] == 500_000  # of the steady state: the fullest
    assert found["packed_weights"] == 8 * MB  # the planned buffers are untouched while loading, and not taken off
    assert found["arenas"] == 2 * MB
    assert sum(value for value in found.values() if isinstance(value, float)) == 17 * MB + 1
    said = memory_parts.details([run])
    assert said["transient_bytes"] == 21 * MB - (17 * MB + 1)
    assert (said["anonymous"], said["planned_arenas_bytes"]) == (12 * MB, 2 * MB)
    assert (said["loader"], said["locked"]) == ("mmap", "none")


@pytest.mark.parametrize(
    ("changed", "part", "expected"),
    [
        ({"load": {"arenas_bytes": 40 * MB}}, "arenas", 3.0 * MB),  # planned for more than was ever touched
        ({"load": {"arenas_bytes": None}}, "arenas", "this runtime plans no buffers"),
        ({"method": {"rss_anon": 900_000}}, "packed_weights", "anonymous memory shrank while the method was loaded"),
        ({"method": {"rss_anon": 1 * MB}}, "packed_weights", 0.0),  # nothing is packed: known, and nothing
        ({"start": {"loader": "file"}, "program": {"rss_anon": 9 * MB}}, "packed_weights", 8.0 * MB),
        ({"method": {"vm_swap": 3 * MB, "rss_anon": 6 * MB}}, "packed_weights", 8.0 * MB),  # swapped out meanwhile
        ({"method": {"rss_anon": None, "private_dirty": 9 * MB},
          "program": {"rss_anon": None, "private_dirty": 2 * MB}}, "packed_weights", 7.0 * MB),
        ({"program": None}, "packed_weights", memory_parts.NOT_APART),
        ({"steady": {"model_mapped": None}}, "model_mapped", "the runner could not read its mappings"),
        ({"steady": {"model_mapped": 4 * MB + 300_000}, "first": {"model_mapped": 0}}, "other", 2_700_001.0),
        ({"first": {"vm_rss": 9 * MB}, "steady": {"vm_rss": 9 * MB, "rss_anon": 12 * MB},
          "method": {"vm_rss": 8 * MB}}, "other", "the other parts come to more than was resident"),
        ({p: {"vm_rss": None} for p in ("method", "first", "steady")}, "other",
         "the runner told no checkpoint behind loading"),
    ],
)  # fmt: skip
def test_each_part_is_a_number_or_says_why_not(changed: dict[str, Any], part: str, expected: Any) -> None:
    run = memory_run(start=changed.pop("start", {}), load=changed.pop("load", {}), **changed)
    assert run.status == "ok", run.reason
    assert memory_parts.parts(run)[part] == expected


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"method": {"vm_hwm": 22 * MB}}, "more than the peak"),
        ({"first": {"vm_rss": 17 * MB, "vm_swap": 5 * MB}}, "more than the peak"),
        ({"peak": {"peak_bytes": -1}}, "no size"),
        ({"peak": {"peak_bytes": 1 << 60}}, "no size"),
        ({"peak": {"peak_bytes": True}}, "no size"),
        ({"steady": {"model_mapped": "much"}}, "no size"),
        ({"steady": {"rss_anon": 1e400}}, "Infinity is no number"),  # refused where the line is read
    ],
)
def test_what_cannot_be_is_a_failed_run(changed: dict[str, Any], reason: str) -> None:
    run = memory_run(**changed)
    assert (run.status, run.counts) == ("failed", False)
    assert reason in (run.reason or "")
    assert not run.measurements


@pytest.mark.parametrize(
    ("changed", "caveats"),
    [
        ({}, ()),
        ({"steady": {"model_mapped": 6 * MB}}, ("suspect",)),  # more than all files together
        ({"steady": {"model_mapped": 9 * MB, "rss_file": 10 * MB}}, ("suspect",)),  # more than the file has
        ({"steady": {"model_mapped": 8 * MB + 4096, "rss_file": 10 * MB}}, ()),  # two segments share a page
        ({"start": {"locked": "mlock"}}, ("suspect",)),  # a locked file is resident as a whole
        ({"start": {"locked": "mlock"}, "method": {"rss_file": 9 * MB, "vm_rss": 18 * MB}}, ()),
        ({"start": {"loader": "file"}}, ()),
        ({"start": {"loader": "file"}, "load": {"file_bytes": 22 * MB}}, ("suspect",)),  # weights beyond the peak
        ({"load": {"file_bytes": None}}, ()),
        ({"start": {"page_size": "big"}}, ()),
    ],
)
def test_figures_that_contradict_each_other_are_suspect(changed: dict[str, Any], caveats: tuple[str, ...]) -> None:
    run = memory_run(start=changed.pop("start", {}), load=changed.pop("load", {}), **changed)
    assert (run.status, run.caveats) == ("ok", caveats)


def test_a_run_without_one_checkpoint_has_no_number() -> None:
    run = collected("memory", START, LOAD, FIRST, END)
    assert [m.metric for m in run.measurements] == ["load_ms", "first_inference_ms"]


def memory_of(s: Any, runs: list[Run]) -> dict[str, Any]:
    (result,) = documented(s, runs)["results"]
    return dict(result["metrics"])


def test_the_document_has_the_parts_and_what_is_stable_above_the_baseline() -> None:
    s = session([build("fp32")])
    runs = [memory_run(repeat=r, steady={"rss_anon": 12 * MB + r}) for r in range(3)]
    less = {phase: {"rss_anon": 1 * MB} for phase in ("method", "first", "steady", "peak")}
    nulls = [memory_run(repeat=r, **less) for r in range(3)]
    cell = dataclasses.replace(nulls[0].cell, variant="(null)", backend="")
    nulls = [dataclasses.replace(run, cell=cell, id=f"null-{run.id}") for run in nulls]
    found = memory_of(s, [*runs, *nulls])
    peak, model = found["peak_memory_bytes"], found["model_memory_bytes"]
    assert peak["value"] == 21 * MB
    assert set(peak["parts"]) == set(memory_parts.PARTS)
    assert peak["anonymous"] == 12 * MB + 1
    assert model["anonymous"] == 11 * MB + 1  # of the null runs 1 MB


def test_what_was_not_told_is_absent_with_its_reason_and_never_zero() -> None:
    s = session([build("fp32")])
    bare = [START | {"loader": 3, "locked": None}, {"type": "memory", "phase": "peak", "peak_bytes": 5 * MB}, END]
    found = memory_of(s, [collected("memory", *bare, repeat=r) for r in range(2)])["peak_memory_bytes"]
    assert found["value"] == 5 * MB
    for key in ("anonymous", "transient_bytes", "planned_arenas_bytes", "loader", "locked"):
        assert found[key]["absent"], key
    assert all(part["absent"] for part in found["parts"].values())
