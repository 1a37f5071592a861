"""Cold loads: what a first start costs, and only where the cache was proven dropped."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analyze.results import raw_values
from harness.types import Run
from tests.lines_kit import END, FIRST, LOAD, START, Line, collected
from tests.session_kit import accuracy_run, build, documented, latency_run, session

DROPPED: Line = {"type": "cache", "resident_pages_before": 90, "resident_pages_after": 0, "pages": 100, "dropped": True}
KEPT: Line = DROPPED | {"resident_pages_after": 40, "dropped": False, "why": "overlay"}
ASKED = {"threads": [1], "cpus": ["any"], "repeats": 5, "memory": False}


def load_run(repeat: int, cache: Line | None = DROPPED, **load: Any) -> Run:
    """Program 1 ms, method 4 ms and 0.1 ms more each repeat."""
    parts = LOAD | {"method_ns": 4_000_000 + 100_000 * repeat} | load
    lines = [START, cache, parts, FIRST, END | {"major_faults": 30}]
    return collected("load", *(line for line in lines if line is not None), repeat=repeat)


def result(runs: list[Run], cold_loads: int = 10) -> dict[str, Any]:
    s = session([build("fp32", expected=())], measure=ASKED | {"cold_loads": cold_loads})
    (found,) = documented(s, runs)["results"]
    return dict(found)


def test_the_load_and_what_a_start_is_made_of() -> None:
    found = result([load_run(r) for r in range(11)])
    cold = found["metrics"]["cold_load_ms"]
    assert cold["value"] == pytest.approx(5.5)
    assert cold["ci95"][0] < 5.5 < cold["ci95"][1]
    assert (cold["samples"], cold["left_out"], cold["cache"]) == (11, 0, "dropped")
    assert (cold["exec_to_main_ms"], cold["program_ms"], cold["method_ms"]) == (20.0, 1.0, pytest.approx(4.5))
    assert (cold["first_inference_ms"], cold["major_faults"]) == (7.0, 30)
    assert cold["steady_ms"] == {"absent": "the latency was not measured"}
    assert "cache_unknown" not in found["caveats"]


def test_the_steady_latency_stands_beside_it() -> None:
    import numpy as np

    s = session([build("fp32")], measure=ASKED | {"cold_loads": 2})
    rng = np.random.default_rng(0)
    timed = [latency_run(s.package.builds[0], s.devices[0], r, rng) for r in range(5)]
    runs = [*timed, accuracy_run(s.package.builds[0], s.devices[0]), *(load_run(r) for r in range(2))]
    (found,) = documented(s, runs)["results"]
    assert found["metrics"]["cold_load_ms"]["steady_ms"] == found["metrics"]["latency_ms"]["value"]
    # the warm load is of the latency runs alone
    assert found["metrics"]["load_ms"]["samples"] == 5
    assert set(raw_values(s, runs)[0].blocks["cold_load_ms"]) == {0, 1}


@pytest.mark.parametrize(
    "cache",
    [KEPT, None, DROPPED | {"dropped": 1}, DROPPED | {"dropped": "yes"}, DROPPED | {"resident_pages_after": 3}],
)
def test_an_unproven_cache_is_a_caveat_and_says_why(cache: Line | None) -> None:
    found = result([load_run(r, cache) for r in range(3)])
    cold = found["metrics"]["cold_load_ms"]
    assert found["caveats"].count("cache_unknown") == 1
    assert (cold["cache"], cold["samples"]) == ("unknown", 3)
    assert "could not be proven dropped" in cold["why"]


def test_what_was_not_cold_is_left_out_of_what_was() -> None:
    runs = [load_run(r) for r in range(3)] + [load_run(r, KEPT, method_ns=500_000) for r in (3, 4)]
    found = result(runs)
    cold = found["metrics"]["cold_load_ms"]
    assert (cold["value"], cold["samples"], cold["left_out"]) == (pytest.approx(5.1), 3, 2)
    assert "cache_unknown" in found["caveats"]


@pytest.mark.parametrize(
    ("runs", "cold_loads", "reason"),
    [
        ([], 0, "cold_loads: 0"),
        ([], 10, "not measured"),
        ([collected("load", START, state="exit 139")], 10, "the runner died by SIGSEGV"),
    ],
)
def test_no_number_without_a_reason(runs: list[Run], cold_loads: int, reason: str) -> None:
    assert result(runs, cold_loads)["metrics"]["cold_load_ms"] == {"absent": reason}


def test_hostile_lines_give_no_number() -> None:
    run = load_run(0, DROPPED, program_ns="x")
    assert (run.status, run.counts) == ("failed", False)
    run = collected("load", START | {"exec_to_main_ns": -5}, DROPPED, LOAD, FIRST, END | {"major_faults": []})
    cold = result([run])["metrics"]["cold_load_ms"]
    assert cold["exec_to_main_ms"] == {"absent": "the device does not tell"}
    assert cold["major_faults"] == {"absent": "the runner did not report it"}
