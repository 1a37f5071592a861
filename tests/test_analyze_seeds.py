"""Several trainings of one variant: their spread, and a choice that luck does not make."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harness.analyze.constraints import judge
from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure, figure
from harness.analyze.intervals import wilson
from harness.analyze.results import raw_values
from harness.analyze.seeds import over_seeds
from harness.types import Constraint, Run, Session
from tests.session_kit import all_runs, build, documented, session

T2 = 4.302652729911275  # the 97.5 % quantile of Student's t with 2 degrees of freedom


def score(value: float, half: float, **more: Any) -> dict[str, Any]:
    return {"value": value, "unit": "fraction", "ci95": [value - half, value + half], "samples": 400, **more}


def right(count: int) -> Any:
    return np.arange(400) < count


def trained(counts: dict[int, int], **more: Any) -> tuple[Session, list[Run]]:
    """fp32 is right on 396 of 400; `slim`, trained once per seed, on these many; `int8` on 380, and slower."""
    builds = [build("fp32"), *(build("slim", seed=seed) for seed in counts), build("int8")]
    scores = {("slim", seed): right(n) for seed, n in counts.items()} | {("int8", 0): right(380)}
    s = session(builds, **more)
    return s, all_runs(s, scores=scores)


def of(found: dict[str, Any], variant: str) -> list[dict[str, Any]]:
    return [r for r in found["results"] if r["variant"] == variant]


def test_mean_sd_and_interval_over_seeds_as_computed_by_hand() -> None:
    found = over_seeds("accuracy_drop", {2: score(0.03, 0.004), 0: score(0.01, 0.004), 1: score(0.02, 0.004)})
    assert found is not None
    assert (found["mean"], found["sd"], found["n"]) == (pytest.approx(0.02), pytest.approx(0.01), 3)
    assert found["values"] == {"0": 0.01, "1": 0.02, "2": 0.03}
    half = math.sqrt(0.004**2 + (T2 * 0.01 / math.sqrt(3)) ** 2)
    assert found["ci95"] == pytest.approx([0.02 - half, 0.02 + half])


def test_fewer_than_two_seeds_have_no_spread_and_no_interval_is_made_up() -> None:
    assert over_seeds("accuracy", {0: score(0.9, 0.01)}) is None
    bare = score(0.9, 0.01) | {"ci95": {"absent": "the metric gives no score per sample"}}
    found = over_seeds("accuracy", {0: bare, 1: score(0.8, 0.01)})
    assert found is not None and found["ci95"] == bare["ci95"]


def test_a_fraction_stays_between_its_bounds() -> None:
    found = over_seeds("accuracy", {0: score(0.99, 0.005), 1: score(0.97, 0.005)})
    assert found is not None and found["ci95"][1] == 1.0 and found["ci95"][0] < 0.9
    found = over_seeds("accuracy_drop", {0: score(0.0, 0.005), 1: score(0.02, 0.005)})
    assert found is not None and found["ci95"][0] < 0


def test_the_interval_covers_what_all_trainings_and_samples_would_give() -> None:
    """Samples of different difficulty, trainings of different luck, 3 seeds, 400 samples: the truth is 0.8."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        luck, difficulty = rng.normal(0, 0.02, (3, 1)), rng.uniform(-0.15, 0.15, (1, 400))
        hits = (rng.random((3, 400)) < 0.8 + luck + difficulty).sum(axis=1)
        objects = {}
        for seed, n in enumerate(hits):
            low, high = wilson(float(n), 400)
            objects[seed] = {"value": n / 400, "unit": "fraction", "ci95": [low, high]}
        found = over_seeds("accuracy", objects)
        assert found is not None
        inside += found["ci95"][0] <= 0.8 <= found["ci95"][1]
    assert inside / 400 >= 0.95


def test_each_seed_keeps_its_own_number_and_shows_the_spread_beside_it() -> None:
    found = documented(*trained({0: 390, 1: 394, 2: 386}))
    rows = of(found, "slim")
    for row, count in zip(rows, (390, 394, 386), strict=True):
        accuracy = row["metrics"]["accuracy"]
        assert accuracy["value"] == count / 400
        assert accuracy["ci95"] == pytest.approx(list(wilson(count, 400)))
        assert accuracy["seeds"]["mean"] == pytest.approx(390 / 400)
        assert accuracy["seeds"]["sd"] == pytest.approx(4 / 400)
        assert row["metrics"]["accuracy_drop"]["seeds"]["mean"] == pytest.approx(6 / 400)
    for row in (*of(found, "fp32"), *of(found, "int8")):
        assert row["metrics"]["accuracy"]["seeds"] is None
        assert row["metrics"]["accuracy_drop"]["seeds"] is None


def test_one_seed_stands_for_the_variant_and_the_others_say_which() -> None:
    found = documented(*trained({0: 390, 1: 394, 2: 386}))
    assert [r["reason"] for r in of(found, "slim")] == [None, "represented by seed 0", "represented by seed 0"]
    assert {(f["variant"], f["seed"]) for f in found["front"]} <= {("fp32", 0), ("slim", 0), ("int8", 0)}


def test_the_lowest_usable_seed_stands_for_the_variant_and_a_failed_one_is_not_in_the_mean() -> None:
    s, runs = trained({0: 390, 1: 394, 2: 386})
    runs = [r for r in runs if not (r.cell.variant == "slim" and r.cell.seed == 0 and r.purpose == "latency")]
    found = documented(s, runs)
    rows = of(found, "slim")
    assert [r["status"] for r in rows] == ["failed", "ok", "ok"]
    assert [r["reason"] for r in rows[1:]] == [None, "represented by seed 1"]
    assert rows[1]["metrics"]["accuracy"]["seeds"]["values"] == {"1": 394 / 400, "2": 386 / 400}
    assert rows[0]["metrics"]["accuracy"]["seeds"] is None


def test_the_luckiest_seed_does_not_make_its_variant_the_pick() -> None:
    rule = {"minimize": "accuracy_drop", "where": [], "confidence": 0.9}
    s, runs = trained({0: 360, 1: 396, 2: 360}, pick=rule)
    found = documented(s, runs)
    assert found["pick"]["variant"] == "fp32"
    assert found["pick"]["runner_up"]["variant"] == "int8", "the mean of slim is worse, whatever seed 1 had"


def test_a_constraint_is_judged_by_the_mean_and_by_both_parts_of_its_interval() -> None:
    found = documented(*trained({0: 396, 1: 384, 2: 390}))
    slim = of(found, "slim")[0]
    got = figure(slim, "accuracy_drop")
    assert isinstance(got, Figure)
    assert got.value == pytest.approx(6 / 400) and slim["metrics"]["accuracy_drop"]["value"] == 0
    own = slim["metrics"]["accuracy_drop"]["ci95"]
    assert got.high is not None and got.low is not None and got.high - got.low > own[1] - own[0]
    said = judge(slim, Constraint(metric="accuracy_drop", op="<=", bound=0.02), 0.9)
    assert (said.outcome, said.needs) == ("undecided", "more seeds or samples would settle it")


def test_draws_of_a_mean_over_seeds_have_both_spreads_and_stay_paired_over_the_samples() -> None:
    rng = np.random.default_rng(3)
    values = (rng.random(400) < 0.9).astype(float)
    own = Figure(value=0.9, low=0.8, high=1.0, factor=False, lower_is_better=False)
    alone, both = (
        Raw(samples={"accuracy": values}),
        Raw(samples={"accuracy": values}, trainings={"accuracy": (0.02, 9)}),
    )
    drawn = draw([own, own], "accuracy", [alone, both], 20_000, np.random.default_rng(0))
    sampling = float(values.std(ddof=1)) / math.sqrt(400)
    assert drawn[:, 0].std() == pytest.approx(sampling, rel=0.03)
    assert drawn[:, 1].std() == pytest.approx(math.hypot(sampling, 0.02 * math.sqrt(9 / 7)), rel=0.03)
    assert (drawn[:, 1] - drawn[:, 0]).std() == pytest.approx(0.02 * math.sqrt(9 / 7), rel=0.03)


def test_raw_samples_of_several_seeds_are_their_mean() -> None:
    s, runs = trained({0: 390, 1: 394})
    slim = raw_values(s, runs)[1]
    assert slim.samples["accuracy"].mean() == pytest.approx(392 / 400)
    assert set(slim.samples["accuracy"]) == {0.0, 0.5, 1.0}
    error, df = slim.trainings["accuracy"]
    assert (error, df) == (pytest.approx(4 / 400 / math.sqrt(2) / math.sqrt(2)), 1)
