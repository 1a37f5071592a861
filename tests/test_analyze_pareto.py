"""Dominance, fronts, and how sure they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure
from harness.analyze.intervals import over_runs
from harness.analyze.objectives import ranking
from harness.analyze.pareto import front, membership
from harness.errors import HarnessError

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

coordinate = st.sampled_from([0.0, 1.0, 2.0, 3.0]) | st.floats(-1e9, 1e9)
point = st.tuples(coordinate, coordinate, coordinate)


def figure(value: float, spread: float = 0.0, factor: bool = False, lower: bool = True) -> Figure:
    return Figure(value=value, low=value - spread, high=value + spread, factor=factor, lower_is_better=lower)


def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@given(st.lists(point, min_size=1, max_size=30))
def test_the_front_is_never_empty_and_beats_or_equals_all_that_is_off_it(points: list[tuple[float, ...]]) -> None:
    on = front(points)
    assert on
    for i, p in enumerate(points):
        beaten = any(dominates(points[j], p) for j in on)
        assert beaten == (i not in on)


@given(st.lists(point, min_size=1, max_size=20), st.randoms())
def test_the_front_does_not_hang_on_the_order(points: list[tuple[float, ...]], random) -> None:
    shuffled = points.copy()
    random.shuffle(shuffled)
    assert sorted(points[i] for i in front(points)) == sorted(shuffled[i] for i in front(shuffled))


def test_a_front_of_nothing_is_empty_and_of_nan_is_refused() -> None:
    assert front([]) == []
    for bad in (np.nan, np.inf):
        with pytest.raises(HarnessError):
            front([[1.0, bad], [2.0, 1.0]])


figures = st.tuples(st.floats(1.0, 100.0), st.floats(0.0, 0.9), st.booleans()).map(
    lambda t: figure(t[0], t[0] * t[1], factor=t[2] and t[1] < 0.9)
)


@settings(max_examples=30)
@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=8))
def test_membership_is_a_probability_and_exact_points_are_certain(table: list[tuple[Figure, Figure]]) -> None:
    sure = membership(table, ["latency_ms", "size_bytes"])
    assert all(p is not None and 0.0 <= p <= 1.0 for p in sure)
    exact = [[figure(f.value) for f in row] for row in table]
    on = front([[f.value for f in row] for row in exact])
    assert membership(exact, ["a", "b"]) == [1.0 if i in on else 0.0 for i in range(len(table))]


def test_membership_does_not_hang_on_the_order() -> None:
    table = [[figure(v, 0.5), figure(10 - v)] for v in (3.0, 3.2, 2.9, 5.0)]
    there = membership(table, ["latency_ms", "size_bytes"])
    assert membership(table[::-1], ["latency_ms", "size_bytes"])[::-1] == there


def test_two_points_that_cannot_be_told_apart_share_the_front() -> None:
    table = [[figure(1.00, 0.1), figure(5.0)], [figure(1.01, 0.1), figure(5.0)]]
    one, two = membership(table, ["latency_ms", "size_bytes"])
    assert one is not None and two is not None
    assert 0.4 < two < one < 0.7


def test_without_an_interval_nobody_knows_but_a_single_point_is_its_own_front() -> None:
    unknown = Figure(value=1.0, low=None, high=None, factor=True, lower_is_better=True)
    assert membership([[unknown], [figure(2.0)]], ["latency_ms"]) == [None, None]
    assert membership([[unknown]], ["latency_ms"]) == [1.0]


def test_variants_with_equal_scores_tie_and_the_faster_one_dominates_for_sure() -> None:
    scores = (np.arange(500) % 50 > 0).astype(float)
    raw = [Raw(samples={"accuracy": scores}) for _ in range(3)]
    accuracy = Figure(value=float(scores.mean()), low=0.96, high=0.99, factor=False, lower_is_better=False)
    table = [[figure(1.0), accuracy], [figure(2.0), accuracy], [figure(3.0), accuracy]]
    assert membership(table, ["latency_ms", "accuracy"], raw) == [1.0, 0.0, 0.0]


def shaken(runs: int, rng: np.random.Generator) -> tuple[list[Figure], list[Raw]]:
    """Two variants 1 % apart; each block shakes both by 5 % alike."""
    common = rng.normal(0, 0.05, runs)
    found, raw = [], []
    for centre in (1.00, 1.01):
        values = (centre * np.exp(common + rng.normal(0, 0.001, runs))).tolist()
        low, high = over_runs(values) or (0.0, 0.0)
        found.append(Figure(value=float(np.median(values)), low=low, high=high, factor=True, lower_is_better=True))
        raw.append(Raw(blocks={"latency_ms": dict(enumerate(values))}))
    return found, raw


def test_what_shook_both_alike_in_a_block_cancels() -> None:
    found, raw = shaken(5, np.random.default_rng(3))

    def sure(raw):
        drawn = draw(found, "latency_ms", raw, 4000, np.random.default_rng(0))
        return float((drawn[:, 0] < drawn[:, 1]).mean())

    assert sure(raw) > 0.95
    assert sure([None, None]) < 0.75


def test_draws_over_runs_are_as_wide_as_the_t_interval() -> None:
    rng = np.random.default_rng(4)
    values = np.exp(rng.normal(0, 0.02, 5)).tolist()
    low, high = over_runs(values) or (0.0, 0.0)
    centre = float(np.sqrt(low * high))
    own = Figure(value=centre, low=low, high=high, factor=True, lower_is_better=True)
    raw = Raw(blocks={"latency_ms": dict(enumerate(values))})
    drawn = draw([own], "latency_ms", [raw], 40_000, rng)[:, 0]
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx([low, high], rel=2e-3)


def test_paired_draws_reverse_two_equal_variants_as_often_as_chance_says() -> None:
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(300):
        common = rng.normal(0, 0.03, 6)
        both, raw = [], []
        for _ in range(2):
            values = np.exp(common + rng.normal(0, 0.01, 6))
            centre = float(np.exp(np.log(values).mean()))
            both.append(Figure(value=centre, low=centre * 0.9, high=centre * 1.1, factor=True, lower_is_better=True))
            raw.append(Raw(blocks={"latency_ms": dict(enumerate(values.tolist()))}))
        drawn = draw(both, "latency_ms", raw, 400, rng)
        wrong += not 0.025 < (drawn[:, 0] < drawn[:, 1]).mean() < 0.975
    assert wrong / 300 < 0.09  # 5 % are due


def result(status: str = "ok", **metrics: float | None) -> dict:
    given = {n: {"absent": f"no {n}"} if v is None else {"value": v, "ci95": [v, v]} for n, v in metrics.items()}
    return {"status": status, "metrics": given}


def test_an_objective_that_none_has_is_dropped_and_one_that_some_lack_is_not() -> None:
    results = [
        result(latency_ms=1.0, energy_j=None, size_bytes=5),
        result(latency_ms=2.0, energy_j=None, size_bytes=None),
        result("failed", latency_ms=0.1, energy_j=0.1, size_bytes=1),
    ]
    found = ranking(results, range(3), ["latency_ms", "energy_j", "size_bytes"])
    assert found.dropped == {"energy_j": "no energy_j"}
    assert found.objectives == ("latency_ms", "size_bytes")
    assert found.ranked == (0,)
    assert found.unranked == {1: "not ranked: no size_bytes (no size_bytes)"}
    nothing = ranking(results[2:], [0], ["latency_ms"])
    assert (nothing.ranked, nothing.dropped) == ((), {})
