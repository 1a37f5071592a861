"""Energy from readings whose truth is known: recovered within the stated uncertainty, or refused; never wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from harness.analyze import energy, metered
from harness.analyze.gauge import calibrated
from harness.analyze.rows import Planned, Row, rows
from harness.errors import RunnerError
from harness.interfaces import EnergyTrace
from harness.types import Run
from tests import energy_kit as kit
from tests.session_kit import build, device, latency_run, session

B, ON = build("fp32"), device()


def summary(trace: EnergyTrace, **more: Any) -> Any:
    return energy.window(kit.run(B, ON, "energy", 0, trace, **more))


# -- one window ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("rapl", lambda i, rng: kit.counter([4.0, 1.0], phase=rng.random())),
        ("slow updates", lambda i, rng: kit.counter([5.0], update_s=0.5, period_s=0.1, phase=rng.random())),
        ("odpm", lambda i, rng: odpm(rng.random())),
        ("white noise", lambda i, rng: kit.power(5.0, 0.3, seed=i)),
        ("slow noise", lambda i, rng: kit.power(5.0, 0.2, rho=0.7, seed=i)),
    ],
)
def test_the_truth_lies_within_the_stated_uncertainty(name: str, make: Any) -> None:
    rng = np.random.default_rng(1)
    found = [summary(make(i, rng)) for i in range(200)]
    inside = [abs(one["power_w"] - 5.0) <= 1.96 * one["u_power_w"] + 1e-9 for one in found]
    assert np.mean(inside) >= 0.93, name
    assert np.mean([one["u_power_w"] for one in found]) < 0.02 * 5.0  # and that is not by saying nothing
    assert found[0]["energy_j"] == pytest.approx(found[0]["power_w"] * 30.0)
    assert (found[0]["inferences"], found[0]["latency_ms"]) == (3000, 1.0)


def odpm(phase: float, refresh_s: float = 2.62, watts: float = 5.0) -> EnergyTrace:
    """Refreshed every 2.62 s, read every 0.5 s; an accumulation (a twentieth of it) is taken or not at each refresh."""
    t = kit.stamps(0.5, phase=phase)
    own = np.floor((t - phase) / refresh_s) * refresh_s + phase
    jitter = np.random.default_rng(int(phase * 1e6)).uniform(-0.5, 0.5, 2000) * refresh_s / 20
    joules = watts * (own - own[0] + jitter[np.round((own - own[0]) / refresh_s).astype(int)])
    joules += 10.0
    return EnergyTrace(
        kind="counter", clock="own", rails=("all",), t_s=tuple(own), values=tuple(joules), period_s=0.5,
        uncertainty=0.0, clock_s=0.001, counts=20,
    )  # fmt: skip


def test_a_rails_own_time_divides_its_own_energy() -> None:
    t = kit.stamps(0.5)
    own = np.stack([t, t * 1.0 + 0.2], axis=1)
    joules = np.stack([own[:, 0] * 1.0, own[:, 1] * 3.0], axis=1)
    found = summary(EnergyTrace(
        kind="counter", clock="own", rails=("a", "b"), t_s=tuple(own.reshape(-1)), values=tuple(joules.reshape(-1)),
        period_s=0.5, uncertainty=0.0, counts=20,
    ))  # fmt: skip
    assert found["power_w"] == pytest.approx(4.0, rel=1e-9)


def test_each_rail_is_unwrapped_by_itself() -> None:
    sound = summary(kit.counter([3.0, 7.0]))["power_w"]
    assert summary(kit.counter([3.0, 7.0], range_j=37.0))["power_w"] == pytest.approx(sound)


def test_only_the_window_counts() -> None:
    """What went on before and behind is not in it, nor what a reading at an edge averaged over."""

    def burst(t: Any, w: Any) -> Any:
        outside = (t < kit.START_S + 0.1) | (t > kit.START_S + kit.SECONDS - 0.1)
        return t, np.where(outside, 40.0, w)

    assert summary(kit.power(5.0, 0.01, change=burst))["power_w"] == pytest.approx(5.0, abs=0.01)


def test_the_mean_is_weighted_by_time() -> None:
    """Twice as many readings in the half with more power: a plain mean would say 3.01 W."""

    def dense(t: Any, w: Any) -> Any:
        half = kit.START_S + 15.0
        t = np.concatenate([t[t < half], np.arange(half, t[-1], 0.125)])
        return t, np.where(t < half, 2.97, 3.03) + np.random.default_rng(0).normal(0, 1e-3, t.size)

    assert summary(kit.power(3.0, change=dense))["power_w"] == pytest.approx(3.0, abs=0.003)


def test_a_counter_that_was_not_read_for_long_is_refused() -> None:
    """It may have wrapped unseen."""
    trace = kit.counter([5.0])
    t, joules = np.asarray(trace.t_s), np.asarray(trace.values)
    kept = (t < kit.START_S + 10) | (t > kit.START_S + 11)
    with pytest.raises(RunnerError, match="silent for 1"):
        summary(dataclasses.replace(trace, t_s=tuple(t[kept]), values=tuple(joules[kept])))


def silent(t: Any, w: Any) -> Any:
    keep = (t < kit.START_S + 10) | (t > kit.START_S + 11)
    return t[keep], w[keep]


def late(t: Any, w: Any) -> Any:
    return t[t > kit.START_S + 5], w[t > kit.START_S + 5]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: kit.power(5.0, change=silent), "silent for 1"),
        (lambda: kit.power(5.0, change=late), "do not cover the window: they began 4"),
        (lambda: kit.power(5.0, change=lambda t, w: (t - 100, w)), "readings lie in the window"),
        (lambda: kit.power(5.0, change=lambda t, w: (t[::-1], w)), "go back in time"),
        (lambda: kit.power(5.0, change=lambda t, w: (t, w * np.nan)), "not finite"),
        (lambda: kit.power(-5.0), "the meter says -5"),
        (lambda: kit.power(5e6), r"the meter says 5e\+06 W"),
        (lambda: kit.power(5.0, sd_w=3.0), "too short: .* needs 2.*energy_seconds: 2"),
        (lambda: kit.power(5.0, sd_w=15.0), r"varies so much that \d{4} s would be needed"),
        (lambda: kit.power(5.0, change=lambda t, w: (t[:1], w[:1])), "gave 1 values"),
        (lambda: kit.counter([0.0]), "stood still"),
        (lambda: kit.counter([5.0], update_s=3.0), "too short"),
        (lambda: dataclasses.replace(kit.counter([5.0], range_j=40.0), range_j=(None,)), "its range is not known"),
        (lambda: set_back(kit.counter([5.0])), "set back"),
        (lambda: odpm(0.2, refresh_s=12.0), "too short|readings lie in the window"),
        (lambda: dataclasses.replace(kit.power(5.0), rails=("a", "b", "c", "d", "e", "f", "g")), "of 7 rails"),
        (lambda: dataclasses.replace(kit.power(5.0), period_s=float("nan")), "impossible"),
        (lambda: dataclasses.replace(kit.counter([5.0, 5.0]), rails=("CPU", "CPU")), "impossible"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_number_is_refused_with_the_reason(make: Any, reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        summary(make())


def set_back(trace: EnergyTrace) -> EnergyTrace:
    """Set to 0 in the middle: a reset, not a wrap."""
    joules = np.asarray(trace.values)
    middle = joules.size // 2
    joules[middle:] -= joules[middle]
    return dataclasses.replace(trace, values=tuple(joules), range_j=(262_143.0,))


@pytest.mark.parametrize(
    ("seconds", "inferences", "reason"),
    [
        (8.0, 3000, r"needs 10.0 s; measure.energy_seconds: 11"),
        (30.0, 5, r"needs 60.0 s; measure.energy_seconds: 61"),
    ],
)
def test_a_window_too_short_says_how_long_it_must_be(seconds: float, inferences: int, reason: str) -> None:
    trace = kit.power(5.0, 0.01, seconds=seconds)
    with pytest.raises(RunnerError, match=reason):
        summary(trace, window=kit.window(seconds, inferences))


def test_seconds_that_were_asked_for_are_enough() -> None:
    """What a refusal says can be done."""
    with pytest.raises(RunnerError) as refused:
        summary(kit.counter([5.0], update_s=1.0, period_s=0.2))
    seconds = float(refused.value.what.split(": ")[-1])
    assert summary(
        kit.counter([5.0], update_s=1.0, period_s=0.2, seconds=seconds), window=kit.window(seconds)
    )["power_w"] == pytest.approx(5.0, rel=0.02)  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [None, [], [{}], [{"start_boottime_ns": 5, "end_boottime_ns": 4, "inferences": 1}],
     [{"start_boottime_ns": True, "end_boottime_ns": 4, "inferences": 1}],
     [{"start_boottime_ns": 0, "end_boottime_ns": 1 << 70, "inferences": 1}], "x"],
)  # fmt: skip
def test_a_runner_that_tells_no_window_gives_no_energy(said: Any) -> None:
    run = kit.run(B, ON, "energy", 0, kit.power(5.0))
    with pytest.raises(RunnerError, match="runner"):
        energy.window(dataclasses.replace(run, conditions=dict(run.conditions) | {"window": said}))


def test_a_run_without_a_meter_gives_no_energy() -> None:
    run = kit.run(B, ON, "energy", 0, kit.power(5.0))
    with pytest.raises(RunnerError, match="no meter"):
        energy.window(dataclasses.replace(run, conditions={"window": [kit.window()]}))


# -- the cell -----------------------------------------------------------------------------------------------------


def measured(
    idle: tuple[float, float] = (2.0, 2.0), load: float = 5.0, blocks: int = 5, factor: float = 1.0, **more: Any
) -> list[Run]:
    """Latency runs of 1 ms, and `blocks` blocks of idle, load, idle; powers in W, `factor` as a gauge errs."""
    rng = np.random.default_rng(3)
    runs = []
    for n in range(blocks):
        plain = latency_run(B, ON, n, rng)
        runs.append(dataclasses.replace(plain, summary=dict(plain.summary) | {"p50": 1.0}))
        for repeat, watts in ((2 * n, idle[0]), (2 * n + 1, idle[1])):
            trace = kit.power(watts * factor, 0.02 * abs(factor), seed=repeat, **more)
            runs.append(kit.summarised(kit.run(kit.nobody(), ON, "idle", repeat, trace, block=50 + n)))
        trace = kit.power(load * factor, 0.02 * abs(factor), seed=900 + n, **more)
        runs.append(kit.summarised(kit.run(B, ON, "energy", n, trace, block=50 + n)))
    return runs


def cell(runs: list[Run], **measure: Any) -> tuple[Row, Planned]:
    s = session([B], [ON], plan={"repeats": 5, "energy": "auto"} | measure)
    (row,) = rows(s, runs)
    return row, Planned.of(s)


def test_energy_of_an_inference_is_net_of_idle_with_all_that_belongs_to_it() -> None:
    found = metered.energy(*cell(measured()))
    joules, watts = found["energy_j"], found["power_w"]
    assert joules["value"] == pytest.approx(3.0 * 30 / 3000, rel=0.01)  # (5 W - 2 W) × 30 s / 3000
    assert joules["gross"] == pytest.approx(5.0 * 30 / 3000, rel=0.01)
    assert watts["value"] == pytest.approx(3.0, rel=0.01) and watts["idle_w"] == pytest.approx(2.0, rel=0.01)
    assert (joules["unit"], watts["unit"], joules["source"], joules["rails"]) == ("J", "W", "made", ["supply"])
    assert (joules["windows"], joules["seconds"], joules["period_s"]) == (5, 30.0, pytest.approx(0.25))
    assert joules["ci95"][0] < 0.03 < joules["ci95"][1]
    assert metered.by_block(*cell(measured()))["energy_j"].keys() == {50, 51, 52, 53, 54}


def test_idle_is_the_mean_of_before_and_behind() -> None:
    found = metered.energy(*cell(measured((2.0, 2.1))))["power_w"]
    assert found["idle_w"] == pytest.approx(2.05, rel=0.005) and found["value"] == pytest.approx(2.95, rel=0.005)
    assert found["uncertainty"] > 0.09 / np.sqrt(12) / 2.95 / np.sqrt(5)  # what lies between is not known better


def test_the_interval_is_never_narrower_than_the_meter_is_good() -> None:
    """2 W gross and 1.5 W idle: 1 % of the gross power is 4 % of the net one."""
    exact = metered.energy(*cell(measured((1.5, 1.5), 2.0)))["power_w"]
    rough = metered.energy(*cell(measured((1.5, 1.5), 2.0, uncertainty=0.01)))["power_w"]
    assert rough["uncertainty"] == pytest.approx(np.hypot(exact["uncertainty"], 0.04), rel=0.05)
    assert rough["ci95"][1] - rough["ci95"][0] >= 2 * 1.95 * 0.04 * 0.5
    assert exact["ci95"][1] - exact["ci95"][0] < 0.05


def test_one_block_has_a_value_and_no_interval() -> None:
    found = metered.energy(*cell(measured(blocks=1), repeats=1))["energy_j"]
    assert found["value"] == pytest.approx(0.03, rel=0.01) and "one repeat" in found["ci95"]["absent"]


def with_summary(run: Run, **figures: float) -> Run:
    return dataclasses.replace(run, summary=dict(run.summary) | figures)


def changed(runs: list[Run], purpose: str, change: Any, repeats: Any = range(100)) -> list[Run]:
    return [change(r) if r.purpose == purpose and r.repeat in repeats else r for r in runs]


def lost(run: Run) -> Run:
    return dataclasses.replace(run, status="failed", counts=False, reason="the meter was silent for 9 s")


def other_meter(run: Run) -> Run:
    about = dict(run.conditions["energy"]) | {"source": "battery"}
    return dataclasses.replace(run, conditions=dict(run.conditions) | {"energy": about})


@pytest.mark.parametrize(
    ("runs", "reason"),
    [
        (lambda: measured((2.0, 2.3)), r"5 of 5 blocks are of no use: idle changed by 1\d % of the net power"),
        (lambda: measured((2.0, 2.0), 1.9), "not above idle"),
        (lambda: changed(measured(), "energy", lambda r: with_summary(r, latency_ms=1.05)),
         r"observer_effect: an inference takes 1.05 ms with the meter and 1 ms without \(\+5.0 %\)"),
        (lambda: changed(measured(), "latency", lost), "no latency to compare"),
        (lambda: changed(measured(), "idle", lost), "silent for 9 s"),
        (lambda: changed(measured(), "energy", lost), "silent for 9 s"),
        (lambda: changed(measured(), "idle", lost, (1, 3, 5, 7, 9)), "no usable idle window behind it"),
        (lambda: changed(measured(), "energy", lambda r: dataclasses.replace(r, boot_id="other")), "rebooted"),
        (lambda: changed(measured(), "energy", other_meter), "different meters"),
        (lambda: changed(measured(), "energy", lambda r: with_summary(r, inferences=0)), "no inference"),
        (lambda: changed(measured(), "energy", lambda r: with_summary(r, power_w=float("nan"))), "lacks its figures"),
        (list, "not measured"),
    ],
)  # fmt: skip
def test_an_absent_energy_says_why(runs: Any, reason: str) -> None:
    import re

    found = metered.energy(*cell(runs()))
    assert found["energy_j"] == found["power_w"] and found["energy_j"].keys() == {"absent"}
    assert re.search(reason.replace(" %", ".?%"), found["energy_j"]["absent"]), found
    assert metered.by_block(*cell(runs())) == {}


def test_a_device_whose_runs_differ_by_themselves_is_not_blamed_on_the_meter() -> None:
    def shaken(run: Run) -> Run:
        factor = 1 + 0.05 * (-1) ** run.repeat
        name = "latency_ms" if run.purpose == "energy" else "p50"
        return with_summary(run, **{name: run.summary[name] * factor * (1.04 if run.purpose == "energy" else 1.0)})

    runs = changed(changed(measured(), "latency", shaken), "energy", shaken)
    assert "value" in metered.energy(*cell(runs))["energy_j"]
    slower = changed(runs, "energy", lambda r: with_summary(r, latency_ms=r.summary["latency_ms"] * 1.2))
    assert "observer_effect" in metered.energy(*cell(slower))["energy_j"]["absent"]


def test_off_and_quick_are_reasons_too() -> None:
    assert metered.energy(*cell([], energy="off"))["energy_j"] == {"absent": "energy: off"}
    s = session([B], [ON], quick=True, plan={"energy": "auto"})
    (row,) = rows(s, [])
    assert metered.energy(row, Planned.of(s))["energy_j"] == {"absent": "a quick run measures no energy"}


def test_a_block_that_is_of_no_use_is_left_out_and_told_but_not_most_of_them() -> None:
    def doubled(run: Run) -> Run:
        return with_summary(run, power_w=4.0)

    found = metered.energy(*cell(changed(measured(), "idle", doubled, (1, 3))))["energy_j"]
    assert found["windows"] == 3 and found["value"] == pytest.approx(0.03, rel=0.01)
    (told,) = found["not_used"]
    assert told["runs"] == 2 and told["reason"].startswith("idle changed by")
    assert "absent" in metered.energy(*cell(changed(measured(), "idle", doubled, (1, 3, 5))))["energy_j"]


def test_blocks_of_two_meters_are_never_mixed() -> None:
    runs = changed(changed(measured(), "energy", other_meter, (4,)), "idle", other_meter, (8, 9))
    found = metered.energy(*cell(runs))["energy_j"]
    assert (found["windows"], found["source"]) == (4, "made")
    assert found["not_used"] == [{"reason": "it was measured by another meter, or other rails", "runs": 1}]


# -- the battery's gauge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "unit", "sign"), [
    (1.0, "µA", "negative"), (-1.0, "µA", "positive"), (1e-3, "mA", "negative"), (-1e-3, "mA", "positive"),
])  # fmt: skip
def test_a_gauges_unit_and_sign_are_found(factor: float, unit: str, sign: str) -> None:
    found = metered.energy(*cell(measured(factor=factor, uncalibrated=True)))["energy_j"]
    assert found["value"] == pytest.approx(0.03, rel=0.02)
    assert found["gauge"] == {"unit": unit, "sign": f"{sign} while discharging"}


@pytest.mark.parametrize(
    ("idle", "load"),
    [
        (3.0, 0.8),  # a charger gives less to the battery under load, and the sign is the other one
        (-3.0, -0.8),  # the same by the ABI's sign
        (-1.0, 2.0),  # charged while idle
        (0.001, 5.0),  # in neither unit both
        (0.0, 0.0),
        (30.0, 40.0),
        (0.03, 26e-3),
    ],
)
def test_a_gauge_that_shows_no_discharge_is_refused(idle: float, load: float) -> None:
    assert isinstance(calibrated([idle], [load]), str)


def test_a_refused_gauge_is_the_reason() -> None:
    runs = changed(measured(uncalibrated=True), "idle", lambda r: with_summary(r, power_w=7.0))
    assert "gauge cannot be understood" in metered.energy(*cell(runs))["energy_j"]["absent"]
