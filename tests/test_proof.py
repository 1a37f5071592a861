"""The proof in its short form: few trials, so that it only refutes what is far off; and that it can refute at all."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from benchmarks.proof import adaptive, arrays, claims, comparing, coverage, energy, run, statuses
from harness.analyze import intervals, paired

#: of which a few pairs can claim nothing: it is measured, on this machine
REAL = 6


@pytest.mark.parametrize("point", sorted(set(run.POINTS) - {REAL}))
def test_every_claim_holds(point: int) -> None:
    rows = run.POINTS[point](0, True)
    assert any(row.held is not None for row in rows)
    assert not [row for row in rows if row.held is False]


def test_two_equal_files_are_compared_here_for_real() -> None:
    found, variation = run.POINTS[REAL](0, True)
    pairs = re.search(r" ([0-3]) pairs \((ratio |no ratio)", found.claim)  # others' work may spoil some of the three
    assert pairs is not None, found.claim
    assert found.measured in ("same", "inconclusive", "better", "worse")
    assert found.held is None and (variation.measured.endswith("%") or variation.measured == "none")


def test_the_table_says_whether_all_held(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    good = claims.share(1, "good", 950, 1000, 0.93, 0.97)
    bad = claims.share(1, "bad", 900, 1000, 0.93, 0.97)
    monkeypatch.setattr(run, "POINTS", {1: lambda seed, short: [good], 2: lambda seed, short: [bad]})
    assert run.main(["3", "--points", "1"]) == 0
    assert "1 of 1 claims held" in capsys.readouterr().out
    assert run.main(["3", "--points", "1,2"]) == 1
    said = capsys.readouterr().out
    assert "1 of 2 claims held" in said and "seed 3" in said
    assert "bad    >= 93%, <= 97%  90.0%     1,000   1.0%      NO" in said
    with pytest.raises(SystemExit):
        run.main(["--points", "99"])


def test_the_short_form_refutes_only_what_is_far_off() -> None:
    assert claims.share(1, "", 370, 400, 0.93, 0.97, short=True).held  # 92.5 %, 0.4 standard errors below
    assert not claims.share(1, "", 370, 400, 0.93, 0.97).held
    assert not claims.share(1, "", 340, 400, 0.93, 0.97, short=True).held
    assert not claims.share(1, "", 400, 400, 0.0, 0.05, short=True).held


def test_an_interval_too_narrow_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "t_quantile", lambda df: 1.645)  # that of a 90 % interval, as if 5 runs were many
    assert [row.held for row in coverage.rows(0, True)[:3]] == [False] * 3


def test_a_test_that_is_too_sure_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    original = paired._by_t
    monkeypatch.setattr(paired, "_by_t", lambda centre, error, df, n: original(centre, error / 2, df, n))
    assert comparing.rows(0, True)[0].held is False


def test_a_schedule_that_stops_at_once_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    found = adaptive.outcome(adaptive.NOISY_SD, 30, rng)
    assert found.planned < found.adaptive  # five repeats alone are not enough there
    monkeypatch.setattr(adaptive, "MAX_REPEATS", adaptive.PLANNED)
    assert adaptive.outcome(adaptive.RUN_SD, 5, rng).time >= 1.0


@pytest.mark.parametrize(
    ("value", "answer"),
    [(10.0, "within"), (10.9, "within"), (11.5, "outside"), (8.5, "outside"), (12.1, "wrong"), (5.0, "wrong")],
)
def test_a_wrong_energy_is_told_from_one_that_is_just_outside(value: float, answer: str) -> None:
    metric = {"value": value, "ci95": [value - 1.0, value + 1.0]}
    assert energy._judged(metric, 10.0) == answer


def test_a_meter_that_is_twice_off_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device, power_w = energy.METERS["pmic"]
    monkeypatch.setattr(energy, "METERS", {"pmic": (device, power_w)})
    monkeypatch.setattr(energy, "FAULTS", {})
    original = energy.energy
    assert energy.rows(0, True)[0].held

    def twice(*asked: Any) -> Any:
        return {
            name: metric | {"value": 2 * metric["value"], "ci95": [2 * end for end in metric["ci95"]]}
            for name, metric in original(*asked).items()
        }

    monkeypatch.setattr(energy, "energy", twice)
    assert energy.session(energy.Asked(meter="pmic", fault="none", seed=1)) == "wrong"


def test_a_spoiled_number_that_is_ranked_is_found_out() -> None:
    spoiled = {"status": "invalid", "reason": "throttled: 3 of 5 repeats"}
    assert statuses._spoiled({"results": [spoiled], "front": [], "pick": None}, "throttled")
    assert not statuses._spoiled({"results": [spoiled], "front": [], "pick": None}, "suspended")
    assert not statuses._spoiled({"results": [spoiled], "front": [{"variant": "m"}], "pick": None}, "throttled")
    assert not statuses._spoiled({"results": [spoiled | {"status": "ok"}], "front": [], "pick": None}, "throttled")
    assert not statuses._picked({"front": [{"variant": v} for v in statuses.MODELS], "pick": {"variant": "slow"}})
    assert not statuses._picked({"front": [{"variant": "fast"}], "pick": {"variant": "fast"}})


def test_the_made_up_device_has_the_truth_that_it_says() -> None:
    noise = arrays.Noise(rho=0.9, iterations=500)
    rng = np.random.default_rng(0)
    medians = np.median(arrays.samples(np.full(4000, 2.0), noise, rng), axis=-1)
    assert float(np.median(medians)) == pytest.approx(2.0 * noise.median, rel=0.001)
    quiet = arrays.Noise(run_sd=0.0, rho=0.6, spikes=0.0, iterations=20_000)
    one = np.log(arrays.samples(np.ones(1), quiet, rng)[0])
    assert float(one.std()) == pytest.approx(0.03, rel=0.05)
    assert float(np.corrcoef(one[:-1], one[1:])[0, 1]) == pytest.approx(0.6, abs=0.03)
    assert arrays.drift(0.05, 20)[-1] == pytest.approx(1.05)


def test_a_variant_counts_where_it_is_clear_on_which_side_it_belongs() -> None:
    """Latency 1, and beside it: as small and 1 % slower; as small and 10 % slower; smaller and slower."""
    found = adaptive.Study(
        latency=np.array([1.0, 1.01, 1.1, 2.0, *[9.0] * 6]), size=np.array([5.0, 5.0, 5.0, 4.0, *[9.0] * 6]),
        accuracy=np.full(10, 0.9), medians=np.ones((10, 60)),
    )  # fmt: skip
    counted = adaptive.away(found)
    assert 0 not in counted and 1 not in counted  # 1 % from each other
    assert {2, 3} <= set(counted)
    right = np.repeat(found.latency[:, None], 60, axis=1)
    wrong = right.copy()
    wrong[2] = 0.5
    blocks = [range(5)] * 10
    assert adaptive.agrees(adaptive.Study(**{**vars(found), "medians": right}), blocks)
    assert not adaptive.agrees(adaptive.Study(**{**vars(found), "medians": wrong}), blocks)
    assert math.log(1.1) > adaptive.AWAY
