"""A sustained run: its intervals, minute 1 and the end, the moment of throttling, and both as objectives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import pipeline
from harness.analyze import sustained
from harness.analyze.constraints import judge
from harness.analyze.figure import Figure, figure
from harness.analyze.intervals import batch_interval
from harness.analyze.objectives import ranking
from harness.analyze.pick import decide
from harness.analyze.results import raw_values
from harness.errors import RunnerError
from harness.metrics import METRICS, constraint
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.sim.model import SimModel
from harness.sim.package import sim_device, sim_package
from harness.store import Store, blob
from harness.types import Build, Run
from tests.lines_kit import END, START, Line, collected
from tests.session_kit import all_runs, build, documented, run, session

MS = 1_000_000
SECOND = 1_000_000_000


def interval(index: int, latency_ms: float = 20.0, start_s: float | None = None, **more: Any) -> Line:
    """One second of inferences that take `latency_ms` each."""
    start = int((index if start_s is None else start_s) * SECOND) + 5 * SECOND
    ns, count = int(latency_ms * MS), max(1, int(1000 / latency_ms))
    return {
        "type": "interval", "index": index, "start_boottime_ns": start, "end_boottime_ns": start + SECOND,
        "iterations": count, "samples_ns": [ns] * min(count, 64), "sum_ns": ns * count, "min_ns": ns, "max_ns": ns,
        "zones_mc": {"cpu": 40_000 + 100 * index, "battery": 30_000}, "clocks_khz": {"policy0": 1_800_000},
    } | more  # fmt: skip


def run_of(latencies_ms: Sequence[float]) -> Run:
    lines = [interval(i, latency) for i, latency in enumerate(latencies_ms)]
    return collected("sustained", START, *lines, END)


# -- the lines --


def test_intervals_become_arrays_that_the_store_keeps() -> None:
    lines = [interval(0), interval(1, 10.0), interval(2, 500.0)]
    lines[1] |= {"samples_ns": [10 * MS] * 62 + [30 * MS] * 2, "sum_ns": 2000 * MS, "max_ns": 30 * MS}
    found = collected("sustained", START, *lines, END).arrays
    assert found["sustained_t_s"].tolist() == [0.5, 1.5, 2.5]
    assert found["sustained_p50_ms"].tolist() == [20.0, 10.0, 500.0]
    assert found["sustained_mean_ms"].tolist() == [20.0, 20.0, 500.0]  # the middle one: of all, not of the first 64
    assert found["sustained_counts"].tolist() == [50, 64, 2]
    assert found["sustained_ns"].size == 50 + 64 + 2
    assert found["sustained_c"].tolist() == [40.0, 40.1, 40.2]
    assert found["sustained_khz"].tolist() == [1_800_000] * 3
    kept = blob.decode(blob.encode(found))
    assert all((kept[name] == values).all() for name, values in found.items())


def test_a_reading_that_is_not_there_is_not_made_up() -> None:
    dark: dict[str, Any] = {"zones_mc": {}, "clocks_khz": {}}
    lines = [interval(0, **dark), interval(1, zones_mc={"broken": 200_000, "cpu": 50_000}, clocks_khz={"policy0": 0})]
    found = collected("sustained", START, *lines, END)
    assert found.arrays["sustained_c"].tolist() == [50.0]
    assert found.arrays["sustained_c_index"].tolist() == [1]
    assert not {"sustained_khz", "sustained_khz_index"} & found.arrays.keys()
    assert [(p["c"], p["khz"]) for p in found.summary["points"]] == [(None, None), (50.0, None)]


@pytest.mark.parametrize(
    "change",
    [
        {"index": 5},
        {"samples_ns": []},
        {"samples_ns": [20 * MS] * 65, "iterations": 70},
        {"samples_ns": [-1]},
        {"samples_ns": [1.5]},
        {"samples_ns": "many"},
        {"iterations": 0},
        {"iterations": 2, "sum_ns": 40 * MS},  # fewer than it has samples of
        {"iterations": True},
        {"sum_ns": 1},  # less than so many of the shortest take
        {"min_ns": 21 * MS},
        {"max_ns": 19 * MS},
        {"end_boottime_ns": 0},
        {"end_boottime_ns": 2**70},
        {"start_boottime_ns": 5 * SECOND, "end_boottime_ns": 6 * SECOND},  # before the last one ended
        {"sum_ns": None},
    ],
)
def test_lines_that_contradict_themselves_are_a_failed_run(change: dict[str, Any]) -> None:
    found = collected("sustained", START, interval(0), interval(1) | change, END)
    assert (found.status, found.counts) == ("failed", False)
    assert found.reason


def test_no_interval_at_all_is_refused() -> None:
    with pytest.raises(RunnerError, match="no value"):
        sustained.summary(collected("memory", START, END))


@pytest.mark.parametrize(
    "lines",
    [
        [interval(0), interval(1, start_s=9.0)],
        [interval(0), interval(1) | {"end_boottime_ns": 5 * SECOND + 9 * SECOND}],
    ],
)
def test_a_device_that_slept_makes_it_invalid(lines: list[Line]) -> None:
    found = collected("sustained", START, *lines, END)
    assert (found.status, found.counts) == ("invalid", False)
    assert (found.reason or "").startswith("suspended")


def test_a_slow_model_did_not_sleep() -> None:
    slow = [interval(i, 9000.0, start_s=9.0 * i) for i in range(3)]
    for line in slow:
        line["end_boottime_ns"] = line["start_boottime_ns"] + 9 * SECOND
    assert collected("sustained", START, *slow, END).status == "ok"


# -- what follows from them --


def noisy(seconds: int, level: Callable[[float], float], sd: float = 0.03, seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    return [float(20.0 * level(i) * np.exp(rng.normal(0, sd))) for i in range(seconds)]


CURVES: dict[str, tuple[int, Callable[[float], float], float | None]] = {
    "steady": (300, lambda t: 1.0, None),
    "step at 200 s": (600, lambda t: 1.0 if t < 200 else 1.3, 200.0),
    "ramp, 10 % at 300 s": (600, lambda t: 1 + t / 3000, 300.0),
    "slow start": (300, lambda t: 1.5 if t < 12 else 1.0, None),
    "short boost": (300, lambda t: 1.0 if t < 15 else 1.4, 15.0),
    "a burst of 15 s": (300, lambda t: 2.0 if 100 <= t < 115 else 1.0, None),
    "5 % slower": (300, lambda t: 1.0 if t < 100 else 1.05, None),
    "there and back": (300, lambda t: 1.3 if 100 <= t < 140 else 1.0, 100.0),
    "in the last 15 s": (300, lambda t: 1.3 if t >= 285 else 1.0, None),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("seed", range(3))
def test_the_moment_of_throttling(name: str, seed: int) -> None:
    seconds, level, truth = CURVES[name]
    found = run_of(noisy(seconds, level, sd=0.02, seed=seed)).summary["throttle_after_s"]
    if truth is None:
        assert found is None
    else:
        assert found == pytest.approx(truth, abs=60 if "ramp" in name else 3)


def test_minute_one_and_the_end() -> None:
    found = run_of(noisy(600, lambda t: 1.0 if t < 60 else 1.2 if t < 540 else 1.5)).summary
    assert (found["seconds"], found["window_s"]) == (600.0, 60.0)
    assert found["minute1_ms"] == pytest.approx(20.0, rel=0.02)
    assert found["end_ms"] == pytest.approx(30.0, rel=0.02)
    assert found["ratio"] == pytest.approx(1.5, rel=0.03)
    for stat in ("minute1", "end"):
        low, high = found[f"{stat}_ci95"]
        assert low <= found[f"{stat}_ms"] <= high
        assert high - low < 0.1 * found[f"{stat}_ms"]
    assert len(found["points"]) == 200
    assert found["points"][0]["t_s"] == 1.5  # three intervals each
    assert found["points"][-1]["latency_ms"] == pytest.approx(30.0, rel=0.1)
    assert found["inferences"] > 600


def test_a_short_run_has_thirds_and_no_interval() -> None:
    found = run_of([10.0, 10.0, 20.0, 20.0, 30.0, 30.0]).summary
    assert (found["minute1_ms"], found["end_ms"], found["window_s"]) == (10.0, 30.0, 2.0)
    assert found["minute1_ci95"] is None
    assert found["end_ci95"] is None
    assert run_of([10.0]).summary["ratio"] == 1.0


def test_intervals_of_one_run_cover_the_truth_of_autocorrelated_seconds() -> None:
    """The 60 medians of a minute, lag-1 correlation 0.6: no interval over independent values would do."""
    rng, inside = np.random.default_rng(1), 0
    for _ in range(300):
        x, values = 0.0, []
        for shock in rng.normal(0, 0.05, 60):
            x = 0.6 * x + shock
            values.append(20.0 * float(np.exp(x)))
        low, high = batch_interval(values) or (0.0, 0.0)
        inside += low <= 20.0 <= high
    assert inside / 300 >= 0.87


# -- the metrics --


def session_of(curves: dict[str, Sequence[float] | None], minutes: float | None = 10.0, **more: Any) -> Any:
    """A session with a sustained run of each variant that has a curve; its runs."""
    builds = [build(name) for name in curves]
    measure = {"threads": [1], "cpus": ["any"], "repeats": 5, "memory": True, "sustained_minutes": minutes}
    s = session(builds, measure=measure, **more)
    return s, all_runs(s) + [sustained_run(b, s, curves[b.variant] or ()) for b in builds if curves[b.variant]]


def sustained_run(b: Build, s: Any, latencies: Sequence[float]) -> Run:
    made = run_of(latencies)
    return run(b, s.devices[0], "sustained", 0, summary=made.summary, conditions=made.conditions)


STEADY, THROTTLES = noisy(600, lambda t: 1.0), noisy(600, lambda t: 0.8 if t < 200 else 1.3)


def metrics(s: Any, runs: list[Run]) -> dict[str, dict[str, Any]]:
    return {r["variant"]: r["metrics"] for r in documented(s, runs)["results"]}


def test_the_document_says_the_end_minute_one_and_when_it_throttled() -> None:
    found = metrics(*session_of({"fp32": STEADY, "int8": THROTTLES}))
    hot, cool = found["int8"], found["fp32"]
    assert hot["sustained_ms"]["value"] == hot["sustained_ms"]["end"] == pytest.approx(26.0, rel=0.02)
    assert hot["sustained_ms"]["minute1"] == pytest.approx(16.0, rel=0.02)
    assert hot["sustained_ms"]["interval"] == "within one run"
    assert hot["sustained_ms"]["ci95"] == hot["sustained_ms"]["ci95_of"]["end"]
    assert hot["sustained_ms"]["unthrottled_s"] is None
    assert hot["throttle_after_s"]["value"] == pytest.approx(200, abs=3)
    assert hot["throttle_after_s"]["ci95"] == [hot["throttle_after_s"]["value"] + d for d in (-5, 5)]
    assert cool["throttle_after_s"] == {"absent": "it did not throttle in 10 minutes"}
    assert cool["sustained_ms"]["unthrottled_s"] == 600


@pytest.mark.parametrize(
    ("minutes", "quick", "curve", "reason"),
    [
        (None, False, None, "sustained_minutes not asked for"),
        (10, True, None, "a quick session measures none"),
        (10, False, None, "not measured"),
    ],
)
def test_absent_with_the_reason(minutes: float | None, quick: bool, curve: Any, reason: str) -> None:
    s, runs = session_of({"fp32": curve}, minutes=minutes, quick=quick)
    found = metrics(s, runs)["fp32"]
    assert found["sustained_ms"] == found["throttle_after_s"] == {"absent": reason}


def test_too_short_to_throttle_is_not_the_same_as_not_throttling() -> None:
    s, runs = session_of({"fp32": [20.0] * 30}, minutes=0.5)
    found = metrics(s, runs)["fp32"]
    assert "too short" in found["throttle_after_s"]["absent"]
    assert found["sustained_ms"]["unthrottled_s"] is None
    assert found["sustained_ms"]["ci95"] == {"absent": sustained.TOO_FEW}
    assert isinstance(figure(documented(s, runs)["results"][0], "throttle_after_s"), str)


# -- as objectives --


def test_who_does_not_throttle_is_ranked_before_who_does() -> None:
    s, runs = session_of({"fp32": STEADY, "int8": THROTTLES}, objectives=["latency_ms", "throttle_after_s"])
    results = documented(s, runs)["results"]
    found = ranking(results, [0, 1], ["latency_ms", "throttle_after_s"])
    assert (found.ranked, found.dropped, found.unranked) == ((0, 1), {}, {})
    assert {r["variant"] for r in documented(s, runs)["front"]} == {"fp32", "int8"}  # int8 is the faster
    watched = figure(results[0], "throttle_after_s")
    assert isinstance(watched, Figure)
    assert (watched.value, watched.exact, watched.at_least) == (600, True, True)


def test_two_that_do_not_throttle_tie_though_one_ran_an_inference_longer() -> None:
    longer = run_of(STEADY)
    s, runs = session_of({"fp32": STEADY, "int8": None})
    late = dict(longer.summary) | {"seconds": 600.7}
    runs.append(run(s.package.builds[1], s.devices[0], "sustained", 0, summary=late))
    results = documented(s, runs)["results"]
    assert [figure(r, "throttle_after_s") for r in results] == [figure(results[0], "throttle_after_s")] * 2


def test_the_end_is_an_objective_with_its_own_interval() -> None:
    s, runs = session_of({"fp32": STEADY, "int8": THROTTLES}, objectives=["sustained_ms", "sustained_ms.minute1"])
    results = documented(s, runs)["results"]
    assert {r["variant"] for r in documented(s, runs)["front"]} == {"fp32", "int8"}
    for stat in METRICS["sustained_ms"].stats:
        found = figure(results[1], f"sustained_ms.{stat}")
        assert isinstance(found, Figure)
        assert found.factor and found.low is not None and found.low < found.value < (found.high or 0)
    assert len(raw_values(s, runs)) == 2


@pytest.mark.parametrize(
    ("variant", "text", "outcome"),
    [
        ("fp32", "throttle_after_s >= 300", "holds"),
        ("int8", "throttle_after_s >= 300", "fails"),
        ("int8", "throttle_after_s >= 120", "holds"),
        ("fp32", "throttle_after_s >= 900", "undecided"),  # it was watched for 600 s
        ("fp32", "throttle_after_s <= 900", "undecided"),
        ("fp32", "throttle_after_s <= 300", "fails"),
        ("fp32", "sustained_ms <= 25", "holds"),
        ("int8", "sustained_ms <= 25", "fails"),
        ("int8", "sustained_ms.minute1 <= 25", "holds"),
    ],
)
def test_constraints(variant: str, text: str, outcome: str) -> None:
    s, runs = session_of({"fp32": STEADY, "int8": THROTTLES})
    found = {r["variant"]: r for r in documented(s, runs)["results"]}
    judged = judge(found[variant], constraint(text), 0.9)
    assert judged.outcome == outcome
    if outcome == "undecided":
        assert judged.needs == "sustained_minutes of at least 15"


def test_a_pick_by_the_end() -> None:
    s, runs = session_of({"fp32": STEADY, "int8": THROTTLES})
    results, raw = documented(s, runs)["results"], raw_values(s, runs)
    found = decide(results, raw=raw, minimize="sustained_ms", where=[constraint("throttle_after_s >= 300")])
    assert found.pick is not None
    assert found.pick["variant"] == "fp32"


# -- the whole way --


def test_a_simulated_phone_throttles_where_its_clock_fell(tmp_path: Path) -> None:
    files = Files(tmp_path)
    models = {"hot": SimModel(latency_ms=8.0), "cool": SimModel(latency_ms=9.0, power_w=0.1)}
    package = sim_package(models, files, repeats=1, memory=False, sustained_minutes=5, cold_loads=3)
    settings = Settings(store_url=f"sqlite:///{tmp_path}/s.db", files=tmp_path)
    s = pipeline.run_package(package, files, [sim_device("sim://phone-passive-cooling?seed=3")], settings, Screen())
    store = Store.open(settings.store_url)
    runs = store.runs(s.id)
    timed = {r.cell.variant: r for r in store.runs(s.id, purpose="sustained", arrays=True)}
    store.close()
    found = metrics(s, runs)
    clock = timed["hot"].arrays["sustained_khz"]
    fell = float(timed["hot"].arrays["sustained_t_s"][np.flatnonzero(clock < clock[0])[0]])
    assert found["hot"]["throttle_after_s"]["value"] == pytest.approx(fell, abs=5)
    assert found["cool"]["throttle_after_s"] == {"absent": "it did not throttle in 5 minutes"}
    assert found["cool"]["cold_load_ms"]["samples"] == 3
