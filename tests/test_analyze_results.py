"""The results document: one row per planned cell, and nothing unmeasured has a number."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import jsonschema
import numpy as np
import pytest

from harness.analyze.pick import decide
from harness.analyze.results import document, quantiles, raw_values
from harness.analyze.stats import summary
from harness.metrics import METRICS
from harness.types import Constraint, Measurement, Run, Session
from tests.session_kit import (
    CHECKED,
    SCHEMAS,
    SLOW,
    accuracy_run,
    all_runs,
    build,
    device,
    documented,
    latency_run,
    memory_run,
    named,
    run,
    schema,
    session,
    value,
)


def only(s: Session, runs: Sequence[Run]) -> dict[str, Any]:
    found = documented(s, runs)["results"]
    assert len(found) == 1
    return dict(found[0])


def without(runs: Sequence[Run], gone: Callable[[Run], bool]) -> list[Run]:
    return [r for r in runs if not gone(r)]


VARIANTS = [build(v) for v in SLOW]


def test_a_whole_session_gives_every_metric_a_front_and_a_pick() -> None:
    s = session(VARIANTS)
    found = documented(s, all_runs(s))
    assert [r["variant"] for r in found["results"]] == list(SLOW)
    assert all(r["status"] == "ok" and r["reason"] is None and r["repeats"] == 5 for r in found["results"])
    for result in found["results"]:
        assert list(result["metrics"]) == list(METRICS)
        absent = {name for name, m in result["metrics"].items() if "absent" in m}
        not_asked = {"accuracy_drop_control", "validation_accuracy", "validation_drop"}
        unasked = {"cold_load_ms", "sustained_ms", "throttle_after_s", "energy_j", "power_w"}
        assert absent == unasked | not_asked
    int8 = found["results"][1]["metrics"]
    assert int8["latency_ms"]["value"] == int8["latency_ms"]["p50"] == pytest.approx(0.4, rel=0.02)
    assert int8["latency_ms"]["samples"] == 2500
    assert int8["throughput_ips"]["value"] == pytest.approx(1000 / int8["latency_ms"]["mean"])
    assert int8["model_memory_bytes"]["value"] == 5_260_000 - 4_000_000
    assert int8["accuracy"]["value"] == 395 / 400
    assert int8["accuracy"]["host"] == {"value": 0.99, "samples": 400}
    assert int8["accuracy_drop"]["value"] == pytest.approx(1 / 400)
    assert int8["size_bytes"]["ci95"] == [260_000, 260_000]
    assert {f["variant"] for f in found["front"]} == set(SLOW) - {"slim"}  # int8 beats slim in everything
    assert all(f["probability"] > 0.6 for f in found["front"])
    assert found["pick"] == found["picks"][0]
    assert found["pick"]["variant"] == "int8" and found["pick"]["probability"] > 0.95
    assert found["pick"]["runner_up"]["variant"] == "slim"
    assert found["pick"]["binding"] == "accuracy_drop <= 0.05"
    assert found["objectives_dropped"] == {}


def test_the_reference_loses_exactly_nothing_against_itself() -> None:
    s = session(VARIANTS)
    assert documented(s, all_runs(s))["results"][0]["metrics"]["accuracy_drop"]["ci95"] == [0, 0]


def test_the_order_of_the_runs_changes_nothing() -> None:
    s = session(VARIANTS)
    runs = all_runs(s)
    one = documented(s, runs)
    np.random.default_rng(1).shuffle(runs)  # type: ignore[arg-type]
    two = documented(s, runs)
    for found in (one, two):
        for result in found["results"]:
            result["runs"] = sorted(result["runs"])
    assert one == two


def test_a_build_that_cannot_exist_is_one_row_for_all_devices() -> None:
    s = session([*VARIANTS, build("ptl", status="skipped", reason="a PT2E program", artifact=None)],
                [device("one"), device("two")])  # fmt: skip
    found = documented(s, all_runs(s))["results"]
    assert len(found) == 2 * len(VARIANTS) + 1
    row = found[-1]
    assert (row["device"], row["threads"], row["runs"], row["metrics"]) == (None, None, [], {})
    assert (row["status"], row["artifact"]) == ("skipped", {"absent": "a PT2E program"})


def test_each_thread_count_is_its_own_row_and_a_threadless_backend_has_one() -> None:
    s = session([build("fp32"), build("int8")], measure={"threads": [1, 2], "repeats": 1, "memory": False})
    rng = np.random.default_rng(0)
    runs = []
    for b, counts in zip(s.package.builds, ([1, 2], [None]), strict=True):
        for n in counts:
            runs += [latency_run(b, s.devices[0], 0, rng, threads=n), accuracy_run(b, s.devices[0], threads=n)]
    found = documented(s, runs)["results"]
    assert [(r["variant"], r["threads"], r["status"]) for r in found] == [
        ("fp32", 1, "ok"), ("fp32", 2, "ok"), ("int8", None, "ok")]  # fmt: skip


def test_more_threads_than_cores_are_skipped() -> None:
    s = session([build("fp32")], measure={"threads": [8], "repeats": 1})
    row = only(s, [])
    assert (row["status"], row["reason"]) == ("skipped", "8 threads, the device has 2 cores")


def test_a_device_that_was_not_reached_fails_with_its_reason_and_no_number_from_it() -> None:
    s = session(VARIANTS, [device("local"), device("gone", facts=None, unreached="no route to it")])
    found = documented(s, all_runs(s))
    gone = [r for r in found["results"] if r["device"] == "gone"]
    assert len(gone) == len(VARIANTS)
    for row in gone:
        assert (row["status"], row["reason"]) == ("failed", "device not reached: no route to it")
        assert row["metrics"]["latency_ms"] == {"absent": "device not reached"}
        assert "value" in row["metrics"]["size_bytes"]  # known without the device
    assert found["picks"][0]["device"] == "local"
    assert found["pick"] is None  # nothing is known to fit everywhere


def test_a_wrong_output_fails_the_row_and_its_latency_is_absent() -> None:
    s = session(VARIANTS)
    runs = without(all_runs(s), lambda r: r.cell.variant == "int8")
    said = (value("output_sqnr_db", -123.0), value("output_max_abs", 9e9))
    runs.append(accuracy_run(VARIANTS[1], s.devices[0], status="failed", counts=False, measurements=said, arrays={},
                             reason="output check: -123.0 dB, static_int8 must reach 25 dB"))  # fmt: skip
    found = documented(s, runs)
    row = found["results"][1]
    assert (row["status"], row["reason"]) == ("failed", "output check: -123.0 dB, static_int8 must reach 25 dB")
    assert row["metrics"]["latency_ms"] == {"absent": "output check failed"}
    assert row["metrics"]["output_sqnr_db"]["value"] == -123.0
    assert "int8" not in {f["variant"] for f in found["front"]}
    assert found["pick"]["variant"] == "slim"


def test_latencies_that_were_taken_before_the_check_failed_do_not_count() -> None:
    s = session([build("fp32")])
    runs = without(all_runs(s), lambda r: r.purpose == "accuracy")
    runs.append(accuracy_run(s.package.builds[0], s.devices[0], status="failed", reason="wrong"))
    row = only(s, runs)
    assert row["status"] == "failed"
    assert row["metrics"]["latency_ms"] == {"absent": "output check failed"}


def test_an_interrupted_session_says_how_far_it_came() -> None:
    s = session([build("fp32")], finished_utc=None)
    row = only(s, without(all_runs(s), lambda r: r.purpose == "latency" and r.repeat >= 2))
    assert (row["status"], row["reason"]) == ("failed", "interrupted: 2 of 5 repeats")


def test_a_device_lost_on_the_way_is_named_as_the_reason() -> None:
    s = session([build("fp32")], [device("local", unreached="the link went down")])
    row = only(s, without(all_runs(s), lambda r: r.purpose == "latency" and r.repeat >= 2))
    assert (row["status"], row["reason"]) == ("failed", "device lost after 2 of 5 repeats: the link went down")


def unsteady(s: Session, repeats: Sequence[int], status: str = "invalid", reason: str = "not steady") -> list[Run]:
    """All runs, but those repeats of latency were tried twice in vain."""
    runs = without(all_runs(s), lambda r: r.purpose == "latency" and r.repeat in repeats)
    b, on = s.package.builds[0], s.devices[0]
    tries = [run(b, on, "latency", r, attempt=a, counts=False, status=status, reason=reason)
             for r in repeats for a in (0, 1)]  # fmt: skip
    return [*runs, *tries]


def test_latency_that_was_never_steady_is_invalid_and_has_no_number() -> None:
    s = session([build("fp32")])
    row = only(s, unsteady(s, range(5)))
    assert (row["status"], row["reason"]) == ("invalid", "not steady")
    assert row["metrics"]["latency_ms"] == {"absent": "not steady"}


def test_one_unsteady_repeat_of_five_is_a_caveat_and_three_are_invalid() -> None:
    s = session([build("fp32")])
    row = only(s, unsteady(s, [1]))
    assert (row["status"], row["repeats"], row["caveats"]) == ("ok", 4, ["incomplete"])
    row = only(s, unsteady(s, [1, 2, 3]))
    assert (row["status"], row["reason"]) == ("invalid", "3 of 5 repeats: not steady")


def test_a_repeat_that_crashes_each_time_fails_the_result_however_good_the_others_were() -> None:
    s = session([build("fp32")])
    row = only(s, unsteady(s, [2], "failed", "the runner died: SIGSEGV"))
    assert (row["status"], row["reason"]) == ("failed", "1 of 5 latency repeats failed: the runner died: SIGSEGV")


def test_what_broke_while_its_memory_was_measured_says_so_though_it_was_never_timed() -> None:
    s = session([build("fp32")])
    runs = without(all_runs(s), lambda r: r.purpose == "latency" or (r.purpose == "memory" and r.repeat > 0))
    runs.append(memory_run(s.package.builds[0], s.devices[0], 1, counts=False, status="failed", reason="SIGKILL"))
    row = only(s, runs)
    assert (row["status"], row["reason"]) == ("failed", "1 of 5 memory repeats failed: SIGKILL")


def test_one_check_that_stands_and_failed_outweighs_another_that_passed() -> None:
    s = session([build("fp32")])
    wrong = run(s.package.builds[0], s.devices[0], "check", 0, status="failed", reason="wrong output")
    assert only(s, [*all_runs(s), wrong])["reason"] == "wrong output"


def test_a_redone_attempt_does_not_count() -> None:
    s = session([build("fp32")])
    b, on = s.package.builds[0], s.devices[0]
    slow = summary(np.full(500, 9_000_000))
    extra = run(b, on, "latency", 0, attempt=1, counts=False, summary=slow)
    broken = run(b, on, "accuracy", 0, attempt=1, counts=False, status="failed", reason="link lost")
    row = only(s, [*all_runs(s), extra, broken])
    assert (row["status"], row["repeats"]) == ("ok", 5)
    assert row["metrics"]["latency_ms"]["samples"] == 2500
    assert extra.id not in row["runs"]


def test_a_device_that_cannot_run_the_file_skips_it() -> None:
    s = session([build("fp32")])
    why = "needs QnnBackend, this runner has XnnpackBackend"
    row = only(s, [accuracy_run(s.package.builds[0], s.devices[0], status="skipped", counts=False, reason=why)])
    assert (row["status"], row["reason"]) == ("skipped", why)


def test_memory_that_only_failed_fails_the_row_and_invalid_memory_is_not_ranked() -> None:
    s = session(VARIANTS)
    for status, expected in (("failed", "failed"), ("invalid", "ok")):
        runs = without(all_runs(s), lambda r: r.purpose == "memory" and r.cell.variant == "int8")
        runs.append(memory_run(VARIANTS[1], s.devices[0], 0, counts=False, status=status, reason="swapped out"))
        found = documented(s, runs)
        row = found["results"][1]
        assert row["status"] == expected
        assert row["metrics"]["peak_memory_bytes"] == {"absent": "swapped out"}
        assert found["pick"]["variant"] == "slim"
        assert "int8" not in {f["variant"] for f in found["front"]}
    assert row["reason"] == "not ranked: no peak_memory_bytes (swapped out)"


def test_an_objective_that_nobody_has_is_dropped_and_named() -> None:
    s = session(VARIANTS, data=None, has_data=False, pick=None)
    runs = [dataclasses.replace(r, purpose="check") if r.purpose == "accuracy" else r for r in all_runs(s)]
    found = documented(s, runs)
    assert found["objectives_dropped"] == {"local": {"accuracy": "no data in the experiment"}}
    assert {r["metrics"]["accuracy_drop"]["absent"] for r in found["results"]} == {"no data in the experiment"}
    assert [f["variant"] for f in found["front"]] == ["tiny"]
    assert found["pick"]["variant"] == "tiny" and found["pick"]["binding"] is None


def test_one_repeat_has_no_interval_and_a_quick_session_no_pick() -> None:
    s = session(VARIANTS, quick=True)
    found = documented(s, all_runs(s, repeats=1))
    latency = found["results"][0]["metrics"]["latency_ms"]
    assert latency["ci95"] == {"absent": "one repeat has no interval"}
    assert (found["picks"], found["pick"]) == (None, None)
    assert found["front"] and all("absent" in f["probability"] for f in found["front"])


def test_without_null_runs_the_models_memory_is_absent_and_the_peak_is_not() -> None:
    s = session([build("fp32")])
    row = only(s, without(all_runs(s), lambda r: r.cell.variant == "(null)"))
    assert row["metrics"]["model_memory_bytes"] == {"absent": "the runner's null baseline was not measured"}
    assert row["metrics"]["peak_memory_bytes"]["value"] > 0


def test_a_percentile_that_one_run_lacks_is_absent() -> None:
    s = session([build("fp32")])
    runs = all_runs(s)
    i = next(i for i, r in enumerate(runs) if r.purpose == "latency")
    runs[i] = dataclasses.replace(runs[i], summary=summary(np.full(50, 1_000_000)))
    found = only(s, runs)["metrics"]["latency_ms"]
    assert found["p99"] == {"absent": "a run has fewer than 368 samples"}
    assert isinstance(found["p90"], float)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), "fast", None, True])
def test_what_is_not_a_finite_number_never_becomes_one(bad: Any) -> None:
    s = session([build("fp32")])
    runs = [dataclasses.replace(r, summary=dict(r.summary) | {"p50": bad, "mean": bad, "quantiles": [bad]})
            if r.purpose == "latency" else r for r in all_runs(s)]  # fmt: skip
    runs = [dataclasses.replace(r, measurements=(Measurement(metric="peak_memory_bytes", values=(bad,)),))
            if r.purpose == "memory" else r for r in runs]  # fmt: skip
    metrics = only(s, runs)["metrics"]
    assert "absent" in metrics["latency_ms"] and "absent" in metrics["peak_memory_bytes"]
    assert quantiles(s, runs) == {}


def test_the_samples_of_an_accuracy_are_the_rows_that_have_a_target_not_the_calls() -> None:
    s = session([build("fp32")], targets=dataclasses.replace(CHECKED, samples=CHECKED.samples * 8 - 3))
    runs = [dataclasses.replace(r, arrays={}) if r.purpose == "accuracy" else r for r in all_runs(s)]
    assert only(s, runs)["metrics"]["accuracy"]["samples"] == CHECKED.samples * 8 - 3


def test_data_that_does_not_fit_is_not_called_absent() -> None:
    why = "test items have shape [8], which does not fit this input case"
    s = session([build("fp32")], has_data=False, targets=None, targets_absent=why)
    assert only(s, all_runs(s))["metrics"]["accuracy"] == {"absent": why}


def test_uncalibrated_quantization_has_no_accuracy() -> None:
    note = "calibrated on 1 example inputs"
    s = session([build("fp32"), build("int8", calibrated=False, notes=(note,), caveats=("low_sqnr",))])
    row = documented(s, all_runs(s))["results"][1]
    assert row["metrics"]["accuracy"] == {"absent": note}
    assert row["caveats"] == ["low_sqnr"]


def test_why_a_metric_gave_no_value_is_what_the_run_or_the_data_say() -> None:
    s = session([build("fp32")])
    said = {"accuracy_absent": "the metric 'wer' needs torch on this host"}
    runs = [dataclasses.replace(r, measurements=(), arrays={}, conditions=said) if r.purpose == "accuracy" else r
            for r in all_runs(s)]  # fmt: skip
    assert only(s, runs)["metrics"]["accuracy"] == {"absent": "the metric 'wer' needs torch on this host"}
    s = session([build("fp32")], targets=None)
    assert only(s, all_runs(s))["metrics"]["accuracy"] == {"absent": "the data has no targets"}


def test_the_runtime_is_named_as_the_runner_named_itself() -> None:
    s = session([build("fp32")])
    said = {"runner": {"runtime": "executorch", "version": "1.6.0"}}
    assert only(s, all_runs(s))["runtime"] == "executorch 1.5.1"
    assert only(s, [dataclasses.replace(r, conditions=said) for r in all_runs(s)])["runtime"] == "executorch 1.6.0"


def test_without_the_reference_there_is_no_drop() -> None:
    s = session(VARIANTS)
    runs = without(all_runs(s), lambda r: r.cell.variant == "fp32")
    runs.append(accuracy_run(VARIANTS[0], s.devices[0], status="failed", counts=False, reason="wrong output"))
    drop = documented(s, runs)["results"][1]["metrics"]["accuracy_drop"]
    assert drop == {"absent": "the reference fp32 is failed: wrong output"}
    crash = run(VARIANTS[0], s.devices[0], "latency", 9, counts=False, status="failed", reason="SIGSEGV")
    drop = documented(s, [*all_runs(s), crash])["results"][1]["metrics"]["accuracy_drop"]
    assert drop == {"absent": "the reference fp32 is failed: 1 of 5 latency repeats failed: SIGSEGV"}
    s = session([build("fp32", status="failed", reason="it raised", artifact=None), build("int8")])
    drop = documented(s, all_runs(s))["results"][1]["metrics"]["accuracy_drop"]
    assert drop == {"absent": "the reference fp32 is failed: it raised"}


def test_a_metric_of_ones_own_where_lower_is_better_turns_the_drop_and_the_front_round() -> None:
    s = session(
        [build("fp32"), build("int8")],
        data={"metric": {"name": "wer", "factory": "my:wer", "better": "lower"}},
        objectives=["latency_ms", "accuracy"],
    )
    runs = all_runs(s)
    for i, r in enumerate(runs):
        if r.purpose == "accuracy":
            wer = 0.10 if r.cell.variant == "fp32" else 0.15
            score = wer + 0.01 * np.sin(np.arange(400))
            runs[i] = dataclasses.replace(r, measurements=(value("accuracy", wer),), arrays={"score": score})
    found = documented(s, runs)
    metrics = found["results"][1]["metrics"]
    assert metrics["accuracy"]["name"] == "wer" and metrics["accuracy"]["better"] == "lower"
    assert metrics["accuracy_drop"]["value"] == pytest.approx(0.05)
    assert {f["variant"] for f in found["front"]} == {"fp32", "int8"}
    without_scores = [dataclasses.replace(r, arrays={}) for r in runs]
    drop = documented(s, without_scores)["results"][1]["metrics"]["accuracy_drop"]
    assert drop["value"] == pytest.approx(0.05)
    assert drop["ci95"] == {"absent": "the metric gives no score per sample"}


def test_noise_drift_and_modes_are_caveats_that_keep_the_result_ranked() -> None:
    s = session([build("fp32")])
    rng = np.random.default_rng(0)
    runs = without(all_runs(s), lambda r: r.purpose == "latency")
    drifting = np.linspace(1e6, 1.02e6, 500)
    modes = np.where(rng.random(500) < 0.5, 1e6, 1.2e6)
    b, on = s.package.builds[0], s.devices[0]
    for shape, caveat in ((drifting, "drift"), (modes, "bimodal")):
        own = [run(b, on, "latency", r, summary=summary(shape), caveats=("clock_unknown",)) for r in range(5)]
        row = only(s, [*runs, *own])
        assert (row["status"], row["caveats"]) == ("ok", ["clock_unknown", caveat])
    own = [run(b, on, "latency", r, summary=summary(np.full(500, 1e6 * (1 + 0.05 * r)))) for r in range(5)]
    assert only(s, [*runs, *own])["caveats"] == ["noisy"]


def test_pooled_quantiles_show_both_modes_of_runs_that_differ() -> None:
    s = session([build("fp32")])
    b, on = s.package.builds[0], s.devices[0]
    runs = [run(b, on, "latency", r, summary=summary(np.full(100, ms * 1e6))) for r, ms in enumerate((1.0, 1.0, 3.0))]
    found = quantiles(s, runs)[0]
    assert (found[0], found[50], found[100]) == (1.0, 1.0, 3.0)


def test_quantiles_keep_the_documents_index() -> None:
    s = session([build("ptl", status="failed", reason="broke"), *VARIANTS])
    found = quantiles(s, all_runs(s))
    assert sorted(found) == [1, 2, 3, 4]
    assert all(len(q) == 101 and q == sorted(q) for q in found.values())
    assert found[1][50] == pytest.approx(1.0, rel=0.02)


def test_two_devices_have_a_front_and_a_pick_each_and_a_robust_pick() -> None:
    s = session(VARIANTS, [device("one"), device("two")])
    found = documented(s, all_runs(s))
    assert [p["device"] for p in found["picks"]] == ["one", "two"]
    assert {f["device"] for f in found["front"]} == {"one", "two"}
    assert (found["pick"]["variant"], found["pick"]["device"], found["pick"]["device_id"]) == ("int8", "*", "*")


def test_the_document_names_devices_as_it_is_told_and_holds_no_path() -> None:
    s = session([build("fp32")], [device("adb+tcp://10.0.0.7:5555")])
    found = document(s, all_runs(s), None, lambda spec, facts: f"adb+tcp://{facts.device_id[:2]}" if facts else "?")
    text = json.dumps(found["results"][0] | {"runs": []})
    assert "10.0.0.7" not in text.replace("id-adb+tcp://10.0.0.7:5555", "")
    assert found["results"][0]["device"] == "adb+tcp://id"
    assert not found["results"][0]["artifact"]["path"].startswith("/")


def test_a_pick_can_be_asked_again_with_other_constraints() -> None:
    s = session(VARIANTS)
    runs = all_runs(s)
    found = documented(s, runs)["results"]
    rule = Constraint(metric="size_bytes", op="<", bound=100_000)
    again = decide(found, minimize="latency_ms", where=[rule], raw=raw_values(s, runs))
    assert again.pick and again.pick["variant"] == "tiny"
    schema("pick").validate({"pick": again.pick, "reason": again.reason, "closest": again.closest})


def test_ten_thousand_runs_are_one_document() -> None:
    s = session([build("fp32"), *(build(f"v{i}") for i in range(899))])
    pattern = all_runs(session(VARIANTS))
    runs = [r for r in pattern if r.cell.variant == "(null)"]
    for i, b in enumerate(s.package.builds):  # the runs of four variants, over and over under other names
        like = [r for r in pattern if r.cell.variant == VARIANTS[i % 4].variant]
        runs += [
            dataclasses.replace(r, id=f"{i}-{r.id}", cell=dataclasses.replace(r.cell, variant=b.variant)) for r in like
        ]
    assert len(runs) > 9_900
    found = document(s, runs, None, named)
    assert len(found["results"]) == len(quantiles(s, runs)) == 900
    assert found["front"] and found["pick"]


def test_schemas_are_schemas_and_share_their_definitions() -> None:
    for path in SCHEMAS.glob("*.schema.json"):
        jsonschema.Draft202012Validator.check_schema(json.loads(path.read_text()))
    names = ("results", "measure", "pick")
    shared = {n: json.loads((SCHEMAS / f"{n}.schema.json").read_text())["$defs"] for n in names}
    for name in ("measure", "pick"):
        for key in set(shared[name]) & set(shared["results"]):
            assert shared[name][key] == shared["results"][key], (name, key)


@pytest.mark.parametrize(
    "break_it",
    [
        lambda d: d["results"][0].pop("runtime"),
        lambda d: d["results"][0].update(extra=1),
        lambda d: d["results"][0].update(status="fine"),
        lambda d: d["results"][0].update(status="failed"),  # without a reason
        lambda d: d["results"][0]["metrics"].pop("energy_j"),
        lambda d: d["results"][0]["metrics"]["latency_ms"].pop("ci95"),
        lambda d: d["results"][0]["metrics"]["latency_ms"].update(value=None),
        lambda d: d["results"][0]["metrics"]["latency_ms"].update(unit="s"),
        lambda d: d["results"][0]["artifact"].update(path="/home/someone/a.pte"),
        lambda d: d["front"][0].update(probability=1.5),
        lambda d: d["pick"].pop("binding"),
        lambda d: d.pop("objectives_dropped"),
    ],
)
def test_the_schema_refuses_a_document_that_breaks_the_contract(break_it: Callable[[dict[str, Any]], Any]) -> None:
    s = session(VARIANTS)
    found = json.loads(json.dumps(documented(s, all_runs(s))))
    break_it(found)
    assert not schema("results").is_valid(found)
