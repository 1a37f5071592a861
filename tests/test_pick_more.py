"""A pick that is not sure says what would settle it, and `--measure-more` does it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from harness import lanes, pipeline
from harness import more as measuring_more
from harness.analyze.constraints import judge
from harness.analyze.draws import Raw
from harness.analyze.intervals import over_runs
from harness.analyze.measured import exact, metric_object
from harness.analyze.pick import Decision, decide
from harness.commands import reporting
from harness.errors import DeviceError, PackageError, UsageError
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.sim import world as worlds
from harness.sim.model import SimModel
from harness.sim.package import sim_device, sim_package
from harness.store import Store
from harness.types import Constraint

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "schema" / "pick.schema.json").read_text())
)
DROP = Constraint(metric="accuracy_drop", op="<=", bound=0.01)


# -- what would settle it ----------------------------------------------------------------------------------------


def runs_of(latency: float, sd: float, count: int, seed: int) -> list[float]:
    """Runs whose mean logarithm and spread are just these."""
    noise = np.random.default_rng(seed).normal(size=count)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return [float(v) for v in latency * np.exp(sd * noise)]


def candidate(
    variant: str, latency: float, *, sd: float = 0.01, count: int = 5, seed: int = 0, drop: tuple[float, float] = (0, 0)
) -> tuple[dict[str, Any], Raw]:
    """`drop`: value and half of its interval, from 1,000 samples."""
    runs = runs_of(latency, sd, count, seed)
    value = float(np.median(runs))
    interval = (drop[0] - drop[1], drop[0] + drop[1])
    result = {
        "variant": variant, "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": "local", "device_id": "x", "threads": 1, "cpus": "any", "context": "host",
        "status": "ok", "reason": None, "repeats": count,
        "metrics": {
            "latency_ms": metric_object("latency_ms", value, over_runs(runs, value), "runner"),
            "accuracy_drop": metric_object("accuracy_drop", drop[0], interval, "device", samples=1000),
            "size_bytes": exact("size_bytes", 1000, "host"),
        },
    }  # fmt: skip
    return result, Raw(blocks={"latency_ms": dict(enumerate(runs))})


def asked(*pairs: tuple[dict[str, Any], Raw], **rule: Any) -> Decision:
    return decide([result for result, _ in pairs], raw=[raw for _, raw in pairs], **rule)


def settled_by(decision: Decision) -> str:
    assert decision.pick is not None
    return str(decision.pick["settle"])


def test_a_sure_pick_needs_nothing() -> None:
    found = asked(candidate("a", 1.0), candidate("b", 1.5))
    assert found.pick and found.pick["settle"] is None and found.racing == ()


def test_two_that_are_close_are_told_apart_by_as_many_repeats_as_are_said() -> None:
    pairs = [candidate("int8", 1.0, seed=1), candidate("slim50", 1.003, seed=3), candidate("fp32", 3.0)]
    found = asked(*pairs)
    said = settled_by(found)
    assert said.startswith("about ") and " repeats of int8 and slim50 would tell them apart" in said
    count = int(said.split()[1])
    assert 6 <= count <= 60
    assert found.racing == (0, 1)  # and not fp32, which is out of it
    chances = []
    for repeats in (count // 2, count, 2 * count):
        again = asked(*(candidate(v, ms, count=repeats, seed=9) for v, ms in (("a", 1.0), ("b", 1.003))))
        assert again.pick
        chances.append(again.pick["probability"])
    assert chances == sorted(chances) and chances[-1] > 0.9


def test_where_the_medians_and_the_paired_runs_disagree_it_says_who_leads() -> None:
    block = np.array([-0.05, -0.04, 0.0, 0.04, 0.05])
    apart = ([0.03, 0.02, 0.0, 0.02, 0.03], [0.0, 0.0, 0.001, 0.0, 0.0])
    a, b = ([float(v) for v in np.exp(block + np.array(own))] for own in apart)
    pairs = [candidate("a", 1.0), candidate("b", 1.0)]
    for (result, _), runs in zip(pairs, (a, b), strict=True):
        result["metrics"]["latency_ms"] = metric_object("latency_ms", float(np.median(runs)), over_runs(runs), "runner")
    found = decide([r for r, _ in pairs], raw=[Raw(blocks={"latency_ms": dict(enumerate(x))}) for x in (a, b)])
    assert found.pick and found.pick["variant"] == "b" and found.pick["probability"] > 0.9  # as sure as the rule asks
    raw = [Raw(blocks={"latency_ms": dict(enumerate(x))}) for x in (a, b)]
    careful = decide([r for r, _ in pairs], raw=raw, confidence=0.999)
    assert careful.pick and careful.pick["variant"] == "a" and careful.pick["probability"] < 0.2
    assert "b leads so far" in settled_by(careful)


@pytest.mark.parametrize(("count", "said", "racing"), [(60, "as good as equal", ()), (5, "none of them leads", (0, 1))])
def test_two_without_any_lead_are_called_equal_only_after_many_repeats(
    count: int, said: str, racing: tuple[int, ...]
) -> None:
    runs = [candidate(v, 1.0, count=count, seed=s) for v, s in (("a", 1), ("b", 2))]
    level = float(np.median(list(runs[0][1].blocks["latency_ms"].values())))
    for result, _ in runs:
        result["metrics"]["latency_ms"]["value"] = level
    found = asked(*runs)
    assert said in settled_by(found)
    assert found.racing == racing


def test_a_rival_whose_constraint_is_open_needs_samples_and_no_repeats() -> None:
    found = asked(candidate("fp32", 2.0), candidate("int8", 1.0, drop=(0.009, 0.004)), where=[DROP])
    assert found.pick and found.pick["variant"] == "fp32" and found.pick["probability"] < 0.5
    needs = judge(candidate("int8", 1.0, drop=(0.009, 0.004))[0], DROP, 0.9).needs
    assert settled_by(found) == f"int8, accuracy_drop <= 0.01: {needs}"
    assert "samples" in settled_by(found)
    assert found.racing == ()


def test_a_pick_whose_own_constraint_only_probably_holds_needs_more_of_what_that_counts() -> None:
    found = asked(candidate("a", 1.0, drop=(0.005, 0.006)), candidate("b", 2.0), where=[DROP], confidence=0.97)
    assert found.pick is not None and found.pick["variant"] == "b"
    # each holds with 95 %, which the rule takes; together they do not
    tight = [Constraint(metric="accuracy_drop", op="<=", bound=0.0102), DROP]
    found = asked(candidate("a", 1.0, drop=(0.005, 0.006)), where=tight)
    assert found.pick and found.pick["probability"] == pytest.approx(0.949, abs=0.01)
    surer = Constraint(metric="latency_ms", op="<=", bound=1.0125)
    both = asked(candidate("a", 1.0, drop=(0.0055, 0.0065)), where=[DROP, surer])
    assert both.pick and both.pick["probability"] < 0.9
    said = settled_by(both)
    assert said.startswith("about ") and "of a would make accuracy_drop <= 0.01 surer" in said
    assert int(said.split()[1].replace(",", "")) > 1000


def test_without_an_interval_repeats_come_first() -> None:
    found = asked(candidate("a", 1.0), candidate("b", 2.0))
    once = candidate("a", 1.0)
    once[0]["metrics"]["latency_ms"]["ci95"] = {"absent": "one repeat has no interval"}
    once = (once[0], Raw(blocks={"latency_ms": {0: 1.0}}))
    found = asked(once, candidate("b", 2.0))
    assert "at least 2 repeats" in settled_by(found)
    assert found.racing == (0,)


def test_what_one_file_loses_it_loses_on_every_device() -> None:
    """The same samples judge it everywhere: two devices do not make a doubtful constraint twice as doubtful."""
    def on(device: str, *pairs: tuple[dict[str, Any], Raw]) -> list[tuple[dict[str, Any], Raw]]:
        return [(r | {"device": device, "device_id": device}, raw) for r, raw in pairs]

    rng = np.random.default_rng(0)
    scores = {v: (rng.random(1000) < p).astype(float) for v, p in (("a", 0.012), ("b", 0.0))}
    pairs = [candidate("a", 1.0, drop=(0.009, 0.004)), candidate("b", 2.0)]
    pairs = [(r, dataclasses.replace(raw, samples={"accuracy_drop": scores[r["variant"]]})) for r, raw in pairs]
    here, both = asked(*pairs, where=[DROP]), asked(*on("p", *pairs), *on("q", *pairs), where=[DROP])
    assert here.pick and both.pick and here.pick["variant"] == both.pick["variant"] == "b"
    assert both.pick["probability"] == pytest.approx(here.pick["probability"], abs=0.02)


def test_constraints_on_two_statistics_of_the_same_runs_hold_and_fail_together() -> None:
    """A slow run is slow in its p90 and in its p95: that both hold is as probable as one, and no product."""
    result, raw = candidate("a", 1.0, sd=0.05)
    runs = raw.blocks["latency_ms"]
    stats = {stat: {b: factor * v for b, v in runs.items()} for stat, factor in (("p90", 1.1), ("p95", 1.2))}
    own = {stat: list(over_runs(list(values.values())) or ()) for stat, values in stats.items()}
    points = {stat: float(np.median(list(values.values()))) for stat, values in stats.items()}
    result["metrics"]["latency_ms"] |= {**points, "ci95_of": own}
    raw = Raw(blocks={**raw.blocks, **{f"latency_ms.{stat}": values for stat, values in stats.items()}})
    where = [Constraint(metric=f"latency_ms.{s}", op="<=", bound=points[s] * 1.025) for s in stats]
    chances = [judge(result, c, 0.6).probability or 0.0 for c in where]
    assert 0.7 < chances[0] < 0.95
    found = asked((result, raw), where=where, confidence=0.6)
    assert found.pick and found.pick["probability"] == pytest.approx(min(chances), abs=0.01)


# -- nothing fits ------------------------------------------------------------------------------------------------


def test_where_nothing_fits_the_three_nearest_are_told_with_what_they_miss_by() -> None:
    pairs = [candidate(f"v{i}", 1.0 + i, drop=(0.02 + 0.01 * i, 0.001)) for i in range(5)]
    found = asked(*pairs, where=[DROP])
    assert found.pick is None
    assert [one["variant"] for one in found.nearest] == ["v0", "v1", "v2"]
    assert [one["misses"][0]["short_by"] for one in found.nearest] == pytest.approx([0.01, 0.02, 0.03])
    assert found.closest == found.nearest[0]


def test_nothing_fits_yet_but_repeats_could_tell() -> None:
    fast = Constraint(metric="latency_ms", op="<=", bound=1.0)
    found = asked(candidate("a", 0.999), candidate("b", 3.0), where=[fast])
    assert found.pick is None and found.racing == (0,)


# -- measuring more ----------------------------------------------------------------------------------------------

#: int8 is 5 % faster than slim, on a device that differs by 2 % from run to run
CLOSE = {"fp32": SimModel(latency_ms=9.0), "int8": SimModel(latency_ms=3.0), "slim": SimModel(latency_ms=3.15)}
DEVICE = "sim://pi5-fan?run_sd=0.02&within_sd=0.02&samples=128&seed=6"
RULE = {"minimize": "latency_ms", "where": [], "confidence": 0.999}
Study = Callable[..., str]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    worlds._worlds.clear()
    yield
    worlds._worlds.clear()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A session on simulated devices in the working folder's store; its id."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)

    def measure(models: dict[str, SimModel] = CLOSE, devices: Sequence[str] = (DEVICE,), **more: Any) -> str:
        folder = tmp_path / ".harness" / "artifacts"
        folder.mkdir(parents=True, exist_ok=True)
        rule = more.pop("rule", RULE)
        quick = more.pop("quick", False)
        package = sim_package(models, Files(folder), pick=rule, **({"repeats": 3, "memory": False} | more))
        settings = Settings(store_url="sqlite:///.harness/harness.db", files=folder, quick=quick)
        with Screen(quiet=True) as screen:
            return pipeline.run_package(package, Files(folder), [sim_device(d) for d in devices], settings, screen).id

    return measure


def pick(*, minutes: float | None = 0.5, more: bool = True, **changes: Any) -> int:
    given: dict[str, Any] = {"minimize": None, "where": None, "devices": [], "experiment": None, "label": None}
    if not more:
        minutes = minutes if minutes != 0.5 else None
    given |= {"out": None, "store": None, "identify": False, "json_out": True}
    return reporting.pick(**(given | changes), measure_more=more, minutes=minutes)


def answer(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    SCHEMA.validate(found)
    return found


def repeats(identity: str) -> dict[str, int]:
    store = Store.open("sqlite:///.harness/harness.db")
    try:
        runs = [r for r in store.runs(identity) if r.purpose == "latency" and r.counts]
    finally:
        store.close()
    return {v: sum(r.cell.variant == v for r in runs) for v in CLOSE}


def test_more_is_measured_of_those_in_the_race_until_the_pick_is_sure(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = study()
    assert pick(more=False) == 0
    before = answer(capsys)
    assert before["measured_more"] is None
    assert before["pick"]["probability"] < 0.999 and before["pick"]["settle"]
    assert pick() == 0
    after = answer(capsys)
    told = after["measured_more"]
    assert told["before"] == before["pick"]["probability"]
    assert told["after"] == after["pick"]["probability"] >= 0.999
    assert after["pick"]["variant"] == "int8" and after["pick"]["settle"] is None
    assert "as sure as asked for" in told["reason"]
    had = repeats(identity)
    assert had["fp32"] == 3  # out of the race from the start
    assert had["int8"] == had["slim"] > 3
    assert told["runs"] == had["int8"] + had["slim"] - 6
    # what is sure already needs nothing
    assert pick() == 0
    again = answer(capsys)["measured_more"]
    assert again["runs"] == 0 and repeats(identity) == had


def test_the_text_says_how_the_odds_have_changed(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study()
    pick(more=False, json_out=False)
    assert "To be surer: about " in capsys.readouterr().out
    pick(json_out=False)
    said = capsys.readouterr().out
    assert " more runs in " in said and "-> 100%" in said


def test_the_budget_ends_it(study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    identity = study(dict(CLOSE, slim=SimModel(latency_ms=3.0)))  # equal: nothing would ever settle it
    monkeypatch.setattr(measuring_more, "MINUTES", 0.0)
    assert pick(minutes=None) == 0
    told = answer(capsys)["measured_more"]
    assert told["reason"] == "the 0 minutes are over"
    assert sum(repeats(identity).values()) <= 9 + 2  # at most the block that was begun


def test_equal_ones_are_given_up(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    models = {"fp32": SimModel(latency_ms=9.0)} | {v: SimModel(latency_ms=3.0) for v in ("int8", "slim")}
    identity = study(models, rule=RULE | {"confidence": 0.999})
    assert pick(minutes=0.5) == 0
    told = answer(capsys)["measured_more"]
    assert "would not help" in told["reason"] or "minutes are over" in told["reason"]
    assert repeats(identity)["int8"] > 3


def test_nothing_is_measured_where_more_runs_would_not_help(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    identity = study()
    assert pick(where=["size_bytes <= 1"]) == 1
    found = answer(capsys)
    assert found["pick"] is None and len(found["nearest"]) == 3
    assert found["measured_more"]["runs"] == 0 and "would not help" in found["measured_more"]["reason"]
    assert repeats(identity) == dict.fromkeys(CLOSE, 3)


def test_a_robust_pick_is_measured_on_each_device(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    devices = [DEVICE, DEVICE.replace("seed=6", "seed=5")]
    identity = study(devices=devices)
    assert pick(minutes=0.2) == 0
    found = answer(capsys)
    assert found["pick"]["device"] == "*"
    assert found["measured_more"]["runs"] >= 4
    had = repeats(identity)
    assert had["int8"] > 6 and had["slim"] > 6
    # of one device only that one is asked
    assert pick(minutes=0.2, devices=[devices[0]]) == 0


def test_a_quick_session_is_refused(study: Study) -> None:
    study(quick=True)
    with pytest.raises(UsageError, match="never decide"):
        pick()


def test_minutes_without_measuring_and_an_unknown_device_are_refused(study: Study) -> None:
    study()
    with pytest.raises(UsageError, match="--measure-more"):
        pick(more=False, minutes=3)
    with pytest.raises(UsageError, match="no device 'pixel'"):
        pick(devices=["pixel"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"facts": {"os": "older"}}, "OS was older"),
        ({"facts": {"kernel": "6.1"}}, "kernel was 6.1"),
        ({"facts": {"device_id": "other"}}, "device was other"),
        ({"runners": {"executorch": "f" * 64}}, "executorch runner was ffffffffffff"),
    ],
)
def test_a_device_that_is_not_as_the_session_has_it_is_refused(
    study: Study, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    identity = study()
    original = Store.session

    def changed(store: Store, session: str) -> Any:
        found = original(store, session)
        known = found.devices[0]
        assert known.facts
        facts = dataclasses.replace(known.facts, **change.get("facts", {}))
        new = dataclasses.replace(known, facts=facts, runners=change.get("runners", known.runners))
        return dataclasses.replace(found, devices=(new,))

    monkeypatch.setattr(Store, "session", changed)
    before = repeats(identity)
    monkeypatch.setattr(measuring_more.Rule, "decide", lambda *a: (Decision(pick=None, racing=(0,)), []))
    with pytest.raises(DeviceError, match="is not as the session has it") as caught:
        pick()
    assert said in caught.value.what
    assert repeats(identity) == before


def test_files_that_are_gone_are_an_error_before_any_device_is_asked(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study()
    for path in (tmp_path / ".harness" / "artifacts").glob("*.pte"):
        path.unlink()
    monkeypatch.setattr(lanes, "reach", lambda *a: pytest.fail("a device was asked"))
    with pytest.raises(PackageError, match="the file is missing"):
        pick()


def test_what_was_measured_before_an_interruption_stays(
    study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = study()
    original, asked_for = measuring_more._told, []

    def interrupted(decision: Decision, confidence: float) -> str:
        asked_for.append(decision)
        if len(asked_for) == 2:
            raise KeyboardInterrupt
        return original(decision, confidence)

    monkeypatch.setattr(measuring_more, "_told", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pick()
    had = repeats(identity)
    assert had["int8"] == had["slim"] == 4
