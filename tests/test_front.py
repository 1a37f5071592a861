"""The front under doubt: what nearly belongs to it, what cannot be told apart, and one front over several devices."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from harness.analyze.block_means import errors, levels
from harness.analyze.choose import choose
from harness.analyze.draws import Raw, draw
from harness.analyze.figure import Figure
from harness.analyze.intervals import over_runs
from harness.analyze.measured import exact, metric_object
from harness.analyze.places import labels, worst_ratio
from harness.analyze.seeds import represented
from tests.session_kit import all_runs, build, device, documented, session

TWO = ("latency_ms", "size_bytes")


def one(variant: str, runs: list[float], size: float, device: str = "a", **more: Any) -> tuple[dict[str, Any], Raw]:
    """A result and its raw values: latency by its runs in ms, an exact size."""
    value = float(np.median(runs))
    result = {
        "variant": variant, "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": device, "device_id": f"id-{device}", "threads": 1, "cpus": "any", "context": "host",
        "status": "ok", "reason": None, "repeats": len(runs),
        "metrics": {
            "latency_ms": metric_object("latency_ms", value, over_runs(runs, value), "runner"),
            "size_bytes": exact("size_bytes", size, "host"),
        },
    }  # fmt: skip
    return result | more, Raw(blocks={"latency_ms": dict(enumerate(runs))})


def around(centre: float, sd: float = 0.001, seed: int = 0, count: int = 5) -> list[float]:
    drawn = np.random.default_rng(seed).normal(0, sd, count)
    return [float(centre * np.exp(step)) for step in drawn]


def chosen(*pairs: tuple[dict[str, Any], Raw], objectives: tuple[str, ...] = TWO, **rule: Any) -> dict[str, Any]:
    experiment = {"objectives": list(objectives), "pick": rule}
    made: Any = SimpleNamespace(quick=False, package=SimpleNamespace(experiment=experiment))
    return choose([result for result, _ in pairs], [raw for _, raw in pairs], made)


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["variant"] for entry in entries]


def test_what_cannot_be_told_from_a_point_of_the_front_is_named_beside_it_and_may_belong_there() -> None:
    found = chosen(
        one("fast", around(1.0, 0.02, 1), 500), one("twin", around(1.004, 0.02, 2), 500),
        one("small", around(3.0), 100), one("bad", around(5.0), 900),
    )  # fmt: skip
    on = {entry["variant"]: entry for entry in found["front"]}
    near = {entry["variant"]: entry for entry in found["near_front"]}
    twins = {"fast", "twin"}
    (first,) = twins & set(on)
    (second,) = twins & set(near)
    assert on[first]["tied_with"] == [second]
    assert on["small"]["tied_with"] == [] and on["small"]["probability"] == 1.0
    assert near[second]["probability"] == pytest.approx(1 - on[first]["probability"], abs=0.03)
    assert "bad" not in near and "bad" not in on


def test_a_clear_difference_in_any_objective_tells_two_apart() -> None:
    found = chosen(one("fast", around(1.0, 0.02, 1), 500), one("twin", around(1.004, 0.02, 2), 499))
    assert [entry["tied_with"] for entry in found["front"]] == [[]] * len(found["front"])
    assert set(names(found["front"]) + names(found["near_front"])) == {"fast", "twin"}


@pytest.mark.parametrize("status", ["invalid", "failed", "skipped"])
def test_what_is_not_ok_is_on_no_front_near_none_and_tied_with_nothing(status: str) -> None:
    bad = one("bad", around(1.0, 0.02, 2), 500, status=status, reason="not steady")
    other = [one(v, around(1.0, 0.02, 3), 500, "b") for v in ("good", "bad")]
    found = chosen(one("good", around(1.0, 0.02, 1), 500), bad, *other)
    assert names([e for e in found["front"] + found["near_front"] if e["device"] == "a"]) == ["good"]
    assert all("bad" not in e["tied_with"] for e in found["front"] if e["device"] == "a")
    assert names(found["robust_front"]) == ["good"]


def test_one_repeat_says_nothing_of_ties_and_neighbours() -> None:
    found = chosen(one("a", [1.0], 500), one("b", [1.001], 500))
    assert found["near_front"] == []
    assert [entry["probability"] for entry in found["front"]] == [{"absent": "an objective has no interval"}]
    assert found["front"][0]["tied_with"] == []


def test_two_results_of_one_name_are_told_by_what_differs() -> None:
    cells = [{"variant": "a", "seed": 0, "exporter": "executorch", "threads": t, **dict.fromkeys(
        ("backend", "input", "device", "device_id", "cpus", "context"), "x")} for t in (1, 2)]  # fmt: skip
    assert labels([*cells, cells[0] | {"variant": "b"}]) == ["a (1 threads)", "a (2 threads)", "b"]


def on_two(variant: str, first: float, second: float, size: float = 500) -> list[tuple[dict[str, Any], Raw]]:
    return [one(variant, around(first), size, "phone"), one(variant, around(second), size, "board")]


def test_over_devices_a_point_has_its_worst_ratio_in_each_objective() -> None:
    found = chosen(
        *on_two("phone's", 1.0, 90.0), *on_two("board's", 4.0, 30.0), *on_two("both's", 1.5, 35.0),
        *on_two("worse", 1.6, 36.0), *on_two("small", 9.0, 99.0, 100), one("phone only", around(0.1), 50, "phone"),
    )  # fmt: skip
    robust = found["robust_front"]
    assert names(robust) == ["both's", "small"]
    assert {(e["device"], e["device_id"]) for e in robust} == {("*", "*")}
    assert all(e["probability"] > 0.99 and e["tied_with"] == [] for e in robust)
    assert found["pick"]["variant"] == "both's"  # the robust pick is on it
    assert chosen(one("a", around(1.0), 5))["robust_front"] == []


def test_over_devices_ties_are_named_too_and_the_pick_is_on_the_front() -> None:
    found = chosen(
        one("a", around(1.0, 0.02, 1), 500, "phone"), one("b", around(1.003, 0.02, 2), 500, "phone"),
        one("a", around(30.0, 0.02, 3), 500, "board"), one("b", around(30.1, 0.02, 4), 500, "board"),
    )  # fmt: skip
    (entry,) = found["robust_front"]
    assert entry["tied_with"] == [v for v in ("a", "b") if v != entry["variant"]]
    assert found["pick"]["variant"] == entry["variant"]
    assert 0.2 < entry["probability"] < 0.99


def test_a_seed_that_failed_on_one_device_does_not_stand_for_its_variant_on_the_others() -> None:
    """Else nothing of that variant is usable at every place, and the robust pick misses it."""
    def trained(seed: int, device: str, **more: Any) -> tuple[dict[str, Any], Raw]:
        return one("slim", around(1.0 + seed / 100), 500, device, seed=seed, **more)

    found = [
        trained(0, "phone", status="failed", reason="crashed"), trained(1, "phone"), trained(2, "phone"),
        trained(0, "board"), trained(1, "board"), trained(2, "board"),
        one("plain", around(2.0), 900, "phone"), one("plain", around(2.0), 900, "board"),
    ]  # fmt: skip
    results = [result for result, _ in found]
    assert represented(results) == {2: 1, 3: 1, 5: 1}
    made = chosen(*found)
    assert (made["pick"]["variant"], made["pick"]["seed"]) == ("slim", 1)
    assert names(made["robust_front"]) == ["slim"]


def test_the_document_has_all_of_it_and_the_schema_knows_it() -> None:
    made = session([build(v) for v in ("fp32", "int8", "slim")], [device("phone"), device("board")])
    found = documented(made, all_runs(made))
    assert found["robust_front"] and all("tied_with" in e for e in found["front"] + found["robust_front"])
    assert isinstance(found["near_front"], list)
    assert {entry["device"] for entry in found["robust_front"]} == {"*"}
    assert "settle" in found["pick"]


def test_a_thousand_results_on_five_devices_take_seconds() -> None:
    """Of the processor's time, and with room: a loop over pairs of points would take minutes."""
    rng = np.random.default_rng(0)
    pairs = []
    for place in range(5):
        for v in range(200):
            strength = v / 200
            runs = (10 * np.exp(-strength + 0.03 * rng.standard_normal(10))).tolist()
            pairs.append(one(f"v{v}", runs, 1000 + round(1000 * strength), f"d{place}"))
    began = time.process_time()
    found = chosen(*pairs)
    assert time.process_time() - began < 20
    assert found["robust_front"] and found["pick"]


# -- draws: levels by least squares over variants and blocks -----------------------------------------------------


def test_levels_of_equal_blocks_are_means_and_their_errors_those_of_a_paired_t_test() -> None:
    x = np.random.default_rng(1).normal(size=(6, 3)) + np.arange(6)[:, None]
    assert levels(x) == pytest.approx(x.mean(axis=0))
    covariance = errors(x).T @ errors(x)
    assert covariance == pytest.approx(np.cov(x.T, ddof=1) / 6)
    # the general way, leaving out one block at a time, gives the same
    whole = levels(x)
    jack = np.stack([whole - levels(np.delete(x, b, axis=0)) for b in range(6)]) * np.sqrt(5 / 6)
    assert jack.T @ jack == pytest.approx(covariance)


def test_a_variant_with_fewer_repeats_is_not_favoured_by_the_drift_that_it_missed() -> None:
    drift = 0.1 * np.arange(10)
    noise = np.random.default_rng(2).normal(0, 0.001, (10, 3))
    x = drift[:, None] + np.array([0.0, 0.05, 0.1]) + noise
    x[5:, 1] = np.nan  # half of the blocks, and the cool ones
    found = levels(x)
    assert found - found[0] == pytest.approx([0.0, 0.05, 0.1], abs=0.003)
    assert np.nanmean(x, axis=0)[1] < np.nanmean(x, axis=0)[0]  # a plain mean says the contrary
    found = errors(x)
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[:, 1] - found[:, 0]) < 0.02


def test_variants_that_share_no_block_have_their_own_means() -> None:
    x = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, 7.0], [np.nan, 9.0]])
    assert levels(x) == pytest.approx([1.5, 8.0])


def test_draws_lie_where_the_paired_difference_is_and_not_where_that_of_the_medians_is() -> None:
    """Two variants whose runs are 2 % apart in every block, and whose medians luck has drawn together."""
    block = np.array([-0.05, -0.04, 0.0, 0.04, 0.05])
    a = np.exp(block + np.array([0.0, 0.0, 0.005, 0.0, 0.0]))
    b = np.exp(block + 0.02 + np.array([0.0, 0.0, -0.015, 0.0, 0.0]))
    figures = [
        Figure(value=float(np.median(x)), low=0.9, high=1.1, factor=True, lower_is_better=True) for x in (a, b)
    ]
    assert figures[0].value == pytest.approx(figures[1].value)
    raw = [Raw(blocks={"latency_ms": dict(enumerate(x.tolist()))}) for x in (a, b)]
    drawn = draw(figures, "latency_ms", raw, 4000, np.random.default_rng(0))
    assert float((drawn[:, 0] < drawn[:, 1]).mean()) > 0.97
    assert float(np.log(drawn).mean()) == pytest.approx(np.log([f.value for f in figures]).mean(), abs=0.005)


def test_equal_scores_draw_equal_values_and_a_constant_one_does_not_move() -> None:
    rng = np.random.default_rng(3)
    scores = (rng.random(300) < 0.9).astype(float)
    other = scores.copy()
    other[:6] = 1 - other[:6]
    raw = [Raw(samples={"accuracy_drop": s}) for s in (scores, np.zeros(300), other, scores)]
    figures = [Figure(value=0.1, low=0.0, high=0.2, factor=False, lower_is_better=True)] * 4
    drawn = draw(figures, "accuracy_drop", raw, 500, rng)
    assert (drawn[:, 0] == drawn[:, 3]).all()
    assert (drawn[:, 1] == 0.1).all()
    assert (drawn[:, 0] != drawn[:, 2]).all()


def test_the_worst_ratio_is_to_the_best_of_each_place() -> None:
    values = np.array([[[1.0], [90.0]], [[1.5], [45.0]]])
    assert np.exp(worst_ratio(values))[:, 0] == pytest.approx([2.0, 1.5])
