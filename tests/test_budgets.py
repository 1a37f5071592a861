"""Budgets: judged on the far end of the interval, and never green where nothing could be judged."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analyze.budgets import Budgeted, as_json, judged, over, unknown
from harness.analyze.digest import CellDigest, Known
from tests.releases_kit import cell, exact, one


def known(value: float, low: float | None, high: float | None, **more: Any) -> dict[str, Known]:
    return {"latency_ms.p95": Known(value=value, low=low, high=high, **more)}


def only(made: CellDigest, bound: float, metric: str = "latency_ms.p95") -> Budgeted:
    (found,) = judged([made], {metric: bound})
    return found


@pytest.mark.parametrize(
    ("bound", "within", "reason"),
    [(40.0, True, None), (39.9, False, "its interval reaches beyond"), (34.9, False, None)],
)
def test_the_far_end_of_the_interval_must_be_within(bound: float, within: bool, reason: str | None) -> None:
    found = only(one(metrics=known(35.0, 30.0, 40.0)), bound)
    assert (found.within, found.value, found.far, found.bound) == (within, 35.0, 40.0, bound)
    assert (reason is None) == (found.reason is None) and (reason or "") in (found.reason or "")


@pytest.mark.parametrize(("bound", "within"), [(0.90, True), (0.91, False), (0.99, False)])
def test_where_more_is_better_a_budget_is_a_minimum(bound: float, within: bool) -> None:
    accuracy = Known(value=0.95, low=0.90, high=0.97, lower_is_better=False)
    found = only(one(metrics={"accuracy": accuracy}), bound, "accuracy")
    assert (found.within, found.far) == (within, 0.90)


def test_what_is_exact_is_its_own_far_end() -> None:
    made = one(metrics={"size_bytes": exact(100.0)})
    assert only(made, 100.0, "size_bytes").within is True and only(made, 99.0, "size_bytes").within is False


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (one(metrics=known(1.0, None, None)), "there is no interval"),
        (one(metrics={"latency_ms.p95": Known(absent="a run has fewer than 72 samples")}), "fewer than 72"),
        (one(metrics={}), "not measured"),
    ],
)
def test_what_is_not_known_is_not_within(made: CellDigest, reason: str) -> None:
    found = only(made, 1e9)
    assert found.within is None and reason in str(found.reason) and found.cell == cell()


def test_of_an_experiment_without_a_pick_every_usable_cell_is_judged() -> None:
    cells = [one("a", metrics=known(1, 1, 1)), one("b", metrics=known(9, 9, 9)), one("c", status="invalid")]
    found = judged(cells, {"latency_ms.p95": 5.0})
    assert [(r.cell.variant, r.within) for r in found if r.cell] == [("a", True), ("b", False)]
    assert over(found) == [found[1]] and unknown(found) == []


def test_of_one_with_a_pick_only_what_ships() -> None:
    cells = [one("a", metrics=known(1, 1, 1)), one("b", metrics=known(9, 9, 9))]
    assert [r.within for r in judged(cells, {"latency_ms.p95": 5.0}, [cell("a")])] == [True]


@pytest.mark.parametrize(
    ("cells", "shipped", "reason"),
    [
        ([], None, "nothing was measured"),
        ([one(status="failed")], None, "nothing was measured"),
        ([one(metrics=known(1, 1, 1))], [], "nothing was picked"),
        ([one(metrics=known(1, 1, 1))], [cell("gone")], "no result"),
        ([one(status="invalid", reason="throttled", metrics=known(1, 1, 1))], [cell()], "invalid: throttled"),
    ],
)
def test_a_budget_that_nothing_could_be_judged_by_is_not_green(cells: Any, shipped: Any, reason: str) -> None:
    (found,) = judged(cells, {"latency_ms.p95": 1e9}, shipped)
    assert found.within is None and reason in str(found.reason)
    assert unknown([found]) == [found] and over([found]) == []


def test_a_metric_that_is_not_kept_is_said_once() -> None:
    (found,) = judged([one("a"), one("b")], {"macs": 1e9})
    assert found.within is None and "no budget can be set for macs" in str(found.reason)


def test_no_budgets_nothing_judged() -> None:
    assert judged([one()], {}) == []


def test_json_has_every_key_always() -> None:
    found = judged([one(metrics=known(1, 1, 2))], {"latency_ms.p95": 5.0, "size_bytes": 6e6}, [cell(), cell("gone")])
    documents = as_json([*found, *judged([], {"accuracy": 0.9})])
    json.dumps(documents, allow_nan=False)
    assert len({frozenset(d) for d in documents}) == 1
    assert documents[0] == {
        "variant": "int8", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device_id": "d1", "threads": 1, "cpus": "any", "context": "host", "device": "phone",
        "metric": "latency_ms.p95", "unit": "ms", "bound": 5.0, "value": 1, "far": 2, "within": True, "reason": None,
    }  # fmt: skip
    assert documents[-1]["variant"] is None and documents[-1]["within"] is None


@given(st.floats(0, 100), st.floats(0, 50), st.floats(0, 50), st.floats(0, 200), st.booleans())
def test_what_holds_holds_for_all_of_the_interval(
    value: float, below: float, above: float, bound: float, lower_is_better: bool
) -> None:
    low, high = value - below, value + above
    found = only(one(metrics=known(value, low, high, lower_is_better=lower_is_better)), bound)
    assert found.within == all((v <= bound) if lower_is_better else (v >= bound) for v in (low, value, high))
