"""The simulated device: its worlds have the truth that they promise, and all above the transport is the real code."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import clock, pipeline
from harness.analyze.results import document
from harness.devices import runners
from harness.devices.bench import _file_name
from harness.devices.depot import Depot
from harness.devices.facts import ask, condition, facts_of
from harness.devices.lease import Lease
from harness.devices.spec import open_transport, resolve
from harness.devices.telemetry import snapshot
from harness.errors import DeviceError, TransportError, UsageError
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.sim import noise, shell
from harness.sim import world as worlds
from harness.sim.address import NUMBERS, parse
from harness.sim.gauges import GAUGES
from harness.sim.heat import Timeline
from harness.sim.heat import clock as clock_share
from harness.sim.model import MAGIC, SimModel
from harness.sim.package import sim_device, sim_package
from harness.sim.profiles import PROFILES
from harness.store import Store
from harness.types import Run, Session
from tests.runner_kit import VALIDATOR, few
from tests.session_kit import named

LATENCY = {"fp32": 10.0, "int8": 4.0}
MODELS = {
    "fp32": SimModel(latency_ms=10.0, power_w=2.0),
    "int8": SimModel(latency_ms=4.0, power_w=1.5, memory_bytes=2_000_000),
}
BRIEF = {"repeats": 3, "memory": False}


@dataclasses.dataclass(frozen=True)
class Study:
    session: Session
    runs: list[Run]
    document: dict[str, Any]

    def of(self, purpose: str) -> list[Run]:
        return [run for run in self.runs if run.purpose == purpose]

    def result(self, variant: str) -> dict[str, Any]:
        return next(r for r in self.document["results"] if r["variant"] == variant)


Measure = Callable[..., Study]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """No test finds a device as another left it."""
    worlds._worlds.clear()
    yield
    worlds._worlds.clear()


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """The whole pipeline on one simulated device, with a store, and without waiting or compiling."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    def never(*arguments: Any) -> None:
        raise AssertionError("a simulated device makes nobody wait, and needs no runner")

    def measure(uri: str, models: dict[str, SimModel] = MODELS, **plan: Any) -> Study:
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", never)
            patch.setattr(clock.Wall, "sleep", never)
            patch.setattr(runners, "ensure", never)
            files = Files(tmp_path / "files")
            files.folder.mkdir(exist_ok=True)
            package = sim_package(models, files, **(BRIEF | plan))
            url = f"sqlite:///{tmp_path}/{len(list(tmp_path.glob('*.db')))}.db"
            session = pipeline.run_package(
                package, files, [sim_device(uri)], Settings(store_url=url, files=files.folder), Screen()
            )
        store = Store.open(url)
        try:
            runs = store.runs(session.id, arrays=True)
        finally:
            store.close()
        return Study(session, runs, document(session, runs, None, named))

    return measure


# -- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROFILES)
def test_every_profile_has_an_address_and_says_what_it_is(name: str) -> None:
    spec = resolve(f"sim://{name}?seed=3")
    transport = open_transport(spec)
    said = ask(transport, spec)
    facts, now = facts_of(said, spec, transport), condition(said)
    assert facts.device_id == spec.uri and facts.cores == PROFILES[name].cores
    assert "simulated" in str(facts.os) and "simulated" in str(facts.model)
    assert len(now.energy) == len(PROFILES[name].gauges)
    assert bool(facts.clusters) == PROFILES[name].clocks_readable


def test_what_a_device_says_of_itself_makes_it_no_simulated_one() -> None:
    said = {"abi": ["x86_64"], "serial": ["sim://pi5-fan/../../x"]}
    spec = resolve("local")
    assert re.fullmatch("[0-9a-f]{8}", facts_of(said, spec, open_transport(spec)).device_id)
    assert "/" not in _file_name("sim://pi5-fan?seed=1") and _file_name("3f9a01c2") == "3f9a01c2"


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        ("sim://pi5-fam", "pi5-fan"),
        ("sim://", "sim://PROFILE"),
        ("sim://pi5-fan?", "seed=0"),
        ("sim://pi5-fan?sed=1", "seed"),
        ("sim://pi5-fan?seed", "NAME=VALUE"),
        ("sim://pi5-fan?seed=-1", "seed"),
        ("sim://pi5-fan?seed=1.5", "whole"),
        ("sim://pi5-fan?seed=1&seed=2", "twice"),
        ("sim://pi5-fan?rho=nan", "rho"),
        ("sim://pi5-fan?rho=1", "0.999"),
        ("sim://pi5-fan?drift=inf", "drift"),
        ("sim://pi5-fan?fault=broken", "wrong_sign"),
        ("sim://pi5-fan?seed=1/../..", "no address"),
        ("sim://Pi5-fan;rm", "no address"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_there_is(uri: str, named: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve(uri)
    assert named in str(error.value)


def test_everything_that_may_be_set_is_a_field_of_a_profile_and_described() -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / "simulated-devices.md").read_text()
    for name in [*NUMBERS, *PROFILES, *GAUGES]:
        assert f"`{name}`" in text, name
    for name, (low, _) in NUMBERS.items():
        assert getattr(parse(f"sim://pi5-fan?{name}={low}").profile, name) == low


# -- the pipeline ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["phone-passive-cooling", "pi5-fan", "big-little", "noisy-host", "phone-unrooted"])
def test_the_whole_pipeline_finds_the_truth(study: Measure, name: str) -> None:
    found = study(f"sim://{name}?seed=1", repeats=5)
    assert found.session.finished_utc is not None
    tolerance = 4 * PROFILES[name].run_sd / 5**0.5 + 0.01
    for variant, truth in LATENCY.items():
        metrics = found.result(variant)["metrics"]
        assert found.result(variant)["status"] == "ok"
        assert metrics["latency_ms"]["value"] == pytest.approx(truth, rel=tolerance)
    caveats = {caveat for run in found.of("latency") for caveat in run.caveats}
    assert ("clock_unknown" in caveats) == (not PROFILES[name].clocks_readable)


def test_memory_and_cold_loads_are_those_of_the_model(study: Measure) -> None:
    metrics = study("sim://pi5-fan", memory=True, cold_loads=5).result("int8")["metrics"]
    assert metrics["model_memory_bytes"]["value"] == pytest.approx(2_000_000, abs=50_000)
    assert metrics["cold_load_ms"]["value"] == pytest.approx(3 * 3.0, rel=0.1)


def test_the_same_seed_is_the_same_course(study: Measure) -> None:
    def medians(uri: str) -> list[float]:
        worlds.forget(uri)
        return [run.summary["p50"] for run in study(uri).of("latency")]

    assert medians("sim://phone-passive-cooling?seed=7") == medians("sim://phone-passive-cooling?seed=7")


def test_another_seed_is_another_course(tmp_path: Path) -> None:
    found = []
    for seed in (7, 8):
        depot = Depot(open_transport(resolve(f"sim://phone-passive-cooling?seed={seed}")), "/home/sim/x", "sim")
        start(depot, tmp_path, "r")
        depot.clock.sleep(60)
        found.append([line["samples_ns"] for line in lines(depot, tmp_path, "r") if line["type"] == "block"])
    assert found[0] != found[1]


def test_what_is_set_in_the_address_changes_the_world(study: Measure) -> None:
    calm = study("sim://noisy-host?run_sd=0&within_sd=0&spike_share=0&burst_every_s=0")
    assert {run.summary["p50"] for run in calm.of("latency") if run.cell.variant == "fp32"} == {10.0}
    slower = study("sim://pi5-fan?drift=0.5&drift_minutes=0.1&run_sd=0&within_sd=0&spike_share=0")
    assert min(run.summary["p50"] for run in slower.of("latency")) == pytest.approx(6.0)


def test_a_link_that_drops_loses_and_doubles_nothing(study: Measure) -> None:
    uri = "sim://pi5-fan?drop_every=12&seed=4"
    found = study(uri, memory=True)
    for purpose, cells, repeats in (("latency", 2, 3), ("memory", 3, 3), ("sentinel", 1, 10)):
        counted = [(r.cell, r.repeat) for r in found.of(purpose) if r.counts]
        assert len(counted) == len(set(counted)) == cells * repeats, purpose


def test_ten_minutes_pass_by_the_devices_own_clock(study: Measure) -> None:
    uri = "sim://phone-passive-cooling?seed=1"
    found = study(uri, sustained_minutes=10)
    run = found.of("sustained")[0]
    assert worlds.world(uri).t - worlds.UP_S > 1200
    levels = np.asarray(run.arrays["sustained_p50_ms"])
    assert np.median(levels[-60:]) > 1.1 * np.median(levels[:60])  # it throttles, as its heat says


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("phone-throttles", "throttled: "),
        ("phone-sleeps", "suspended: "),
        ("phone-capped", "capped: "),
        ("phone-never-cools", "gate_timeout: "),
    ],
)
def test_a_device_that_is_not_fit_gives_the_named_status_and_no_number(
    study: Measure, name: str, reason: str
) -> None:
    found = study(f"sim://{name}")
    assert not [run for run in found.of("latency") if run.counts]
    for variant in LATENCY:
        result = found.result(variant)
        assert result["status"] == "invalid" and str(result["reason"]).startswith(reason)
        assert "value" not in result["metrics"]["latency_ms"]
    assert found.document["front"] == []


def test_a_capped_clock_makes_the_second_half_slower(study: Measure) -> None:
    samples = study("sim://phone-capped?run_sd=0").of("latency")[0].arrays["latency_ns"]
    first, second = np.split(samples, 2)
    assert np.median(second) == pytest.approx(np.median(first) / clock_share(PROFILES["phone-capped"], 2), rel=0.05)


def test_a_file_that_is_no_simulated_model_is_a_failed_run(study: Measure, tmp_path: Path) -> None:
    class Broken(SimModel):
        def content(self) -> bytes:
            return MAGIC + b'{"latency_ms": -1}'

    found = study("sim://pi5-fan", models={"broken": Broken(latency_ms=1.0)})
    assert found.result("broken")["status"] == "failed" and "corrupt" in found.result("broken")["reason"]


# -- the parts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Depot:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    return Depot(open_transport(resolve("sim://pi5-fan?seed=2")), "/home/sim/x", "sim")


def start(depot: Depot, tmp_path: Path, run: str, purpose: str = "latency", *more: str) -> None:
    files = Files(tmp_path)
    sha256 = files.put(MODELS["fp32"].content(), ".pte")
    model = depot.put(files(sha256, ".pte"), sha256, ".pte")
    depot.start(run, ["sim-runner", "--purpose", purpose, "--run", run, "--model", model, *more], b"{}")


def lines(depot: Depot, tmp_path: Path, run: str) -> list[dict[str, Any]]:
    depot.transport.pull(f"{depot.run_dir(run)}/result.jsonl", tmp_path / "lines")
    return [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]


@pytest.mark.parametrize(
    ("purpose", "more"),
    [
        ("latency", ()), ("memory", ()), ("load", ("--drop-cache",)), ("sentinel", ()), ("idle", ("--seconds", "5")),
        ("energy", ("--seconds", "5")), ("sustained", ("--seconds", "5")), ("check", ()),
    ],
)  # fmt: skip
def test_the_lines_are_those_of_a_runner(depot: Depot, tmp_path: Path, purpose: str, more: tuple[str, ...]) -> None:
    start(depot, tmp_path, "r", purpose, *more)
    depot.clock.sleep(60)
    assert depot.poll("r") == "exit 0"
    told = lines(depot, tmp_path, "r")
    for number, line in enumerate(told):
        VALIDATOR.validate({key: few(value) for key, value in line.items()})
        assert line["seq"] == number
    stamps = [line["t_ns"] for line in told]
    assert stamps == sorted(stamps) and told[-1]["type"] == "end"
    for block in (line for line in told if line["type"] == "block"):
        assert block["end_boottime_ns"] - block["start_boottime_ns"] == block["end_ns"] - block["start_ns"] > 0


def test_a_process_takes_its_time_and_can_be_ended(depot: Depot, tmp_path: Path) -> None:
    start(depot, tmp_path, "a")
    assert depot.poll("a") == "running"
    start(depot, tmp_path, "b")
    assert depot.poll("b") == "exit 4" and "busy" in str(lines(depot, tmp_path, "b"))
    depot.clock.sleep(1.0)
    assert depot.end("a") == "lost"
    depot.clock.sleep(60)
    assert not any(line["type"] == "end" for line in lines(depot, tmp_path, "a"))
    start(depot, tmp_path, "c")
    depot.clock.sleep(5)
    start(depot, tmp_path, "c")  # asked twice: the answer to the first time was lost
    assert len([line for line in lines(depot, tmp_path, "c") if line["type"] == "start"]) == 1
    assert worlds.world("sim://pi5-fan?seed=2").started == 3
    assert depot.poll("c") == "exit 0" and depot.leftovers() == ["a", "b", "c"]
    depot.remove(depot.run_dir("a"))
    assert depot.leftovers() == ["b", "c"] and depot.poll("a") == "lost"
    with pytest.raises(DeviceError):
        lines(depot, tmp_path, "a")


def test_a_lease_holds_until_it_is_over(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, other = Lease(depot, takeover=False), Lease(depot, takeover=False)
    other._who = ("another host", "token")
    assert mine.acquire() is None and "pid" in str(other.acquire())
    depot.clock.sleep(121)
    assert other.acquire() is None and mine.acquire() is not None
    other.release()
    assert mine.acquire() is None


def test_a_dropped_call_was_heard_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    transport = open_transport(resolve("sim://pi5-fan?drop_every=2"))
    heard: list[object] = []
    monkeypatch.setitem(shell.COMMANDS, "echo", lambda *given: heard.append(given) or shell.said(b"a\n"))  # type: ignore
    ends = []
    for _ in range(60):
        try:
            ends.append(transport.run(["echo", "a"]).stdout)
        except TransportError as error:
            ends.append(str(error).encode())
    dropped = sum(b"dropped" in end for end in ends)
    assert set(ends[:10]) == {b"a\n"} and 10 < dropped < 50
    assert 60 - dropped < len(heard) < 60


def test_a_word_that_it_does_not_know_is_not_found() -> None:
    transport = open_transport(resolve("sim://pi5-fan"))
    assert transport.run(["reboot"]).returncode == 127
    assert transport.run(["sh", "-s", "/"], stdin=b"echo other").returncode == 127
    assert transport.run(["sh", "/no/such.sh", "verb"]).returncode == 127


def test_heat_follows_its_equation_and_energy_is_the_integral_of_power() -> None:
    profile = dataclasses.replace(PROFILES["phone-passive-cooling"], trips_c=(), rise_c_per_w=5.0, tau_s=100.0)
    line = Timeline(profile)
    rest = profile.ambient_c + 5.0 * profile.idle_w
    line.extend(200.0, lambda level: profile.idle_w + 3.0)
    assert line.at(0.0).temp_c == pytest.approx(rest)
    assert line.at(200.0).temp_c == pytest.approx(rest + 15.0 * (1 - np.exp(-2)))
    assert line.at(77.7).energy_j == pytest.approx(77.7 * (profile.idle_w + 3.0))
    assert line.at(500.0).energy_j == pytest.approx(500 * profile.idle_w + 600.0)
    assert line.at(1e5).temp_c == pytest.approx(rest)


def test_the_clock_steps_down_when_it_is_hot_and_up_again_below_it() -> None:
    profile = dataclasses.replace(PROFILES["phone-passive-cooling"], trips_c=(40.0,), hysteresis_c=4.0, tau_s=10.0)
    line = Timeline(profile)
    line.extend(30.0, lambda level: 6.0)
    hot = line.at(30.0)
    assert hot.temp_c > 40 and hot.level == 1 and clock_share(profile, hot.level) < 1
    levels = {round(line.at(t).temp_c, 1): line.at(t).level for t in np.arange(30.0, 60.0, 0.5)}
    assert all(level == 1 for celsius, level in levels.items() if celsius > 36.1)
    assert all(level == 0 for celsius, level in levels.items() if celsius < 35.5)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.9])
def test_iterations_are_as_correlated_as_they_are_said_to_be(rho: float) -> None:
    z = noise.autocorrelated(np.random.default_rng(0), 50_000, rho)
    assert np.corrcoef(z[1:], z[:-1])[0, 1] == pytest.approx(rho, abs=0.02)
    assert z.std() == pytest.approx(1.0, abs=0.05)


def test_bursts_are_the_same_for_whoever_looks() -> None:
    profile = PROFILES["noisy-host"]
    times = np.arange(0.0, 5000.0, 0.5)
    whole = noise.Bursts(profile, np.random.default_rng(0)).factors(times)
    again = noise.Bursts(profile, np.random.default_rng(0))
    parts = np.concatenate([again.factors(part) for part in np.split(times, 10)])
    assert (whole == parts).all() and set(whole) == {1.0, profile.burst_factor}
    assert (whole > 1).mean() == pytest.approx(profile.burst_s / (profile.burst_s + profile.burst_every_s), rel=0.4)


def test_a_recorded_device_replays_its_trace() -> None:
    profile = PROFILES["recorded-host"]
    trace = noise.recorded("recorded-host")
    assert len(trace["medians"]) >= 40 and len(trace["samples"]) >= 2000
    rng = np.random.default_rng(0)
    assert [noise.run_effect(profile, rng, n) for n in range(40)] == list(trace["medians"][:40])
    assert set(noise.within(profile, rng, 100)) <= set(trace["samples"])


@pytest.mark.parametrize(
    ("uri", "told"),
    [("phone-passive-cooling", "thermal_status"), ("pi5-fan", "throttled"), ("phone-unrooted", "skin_c")],
)
def test_telemetry_is_read_by_the_real_code(uri: str, told: str, tmp_path: Path) -> None:
    spec = resolve(f"sim://{uri}")
    transport = open_transport(spec)
    now = snapshot(Depot(transport, "/home/sim/x", "sim"), spec)
    assert getattr(now, told) is not None and now.uptime_s is not None
    assert bool(now.zones_c or now.skin_c) and bool(now.max_khz) == PROFILES[uri].clocks_readable


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("phone-passive-cooling", "none"), ("pi5-fan", "none"), ("big-little", "none"), ("noisy-host", "none"),
        ("phone-unrooted", "none"), ("noisy-host", "wraps"),
    ],
)  # fmt: skip
def test_a_sound_gauge_tells_the_true_power(study: Measure, name: str, fault: str) -> None:
    found = study(f"sim://{name}?seed=1&gauge_error=0&fault={fault}", repeats=2, energy="auto")
    idle = PROFILES[name].idle_w
    for run in [*found.of("idle"), *found.of("energy")]:
        truth = {"fp32": idle + 2.0, "int8": idle + 1.5}.get(run.cell.variant, idle)
        assert run.status == "ok" and run.summary["power_w"] == pytest.approx(truth, rel=0.01), run.reason
    back = any((np.diff(run.arrays["energy_values"]) < 0).any() for run in [*found.of("idle"), *found.of("energy")])
    assert name != "noisy-host" or back == (fault == "wraps")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("pi5-fan", "missing_rail"), ("noisy-host", "missing_rail"), ("phone-unrooted", "charging"),
        ("phone-unrooted", "gaps"), ("big-little", "wrong_sign"),
    ],
)  # fmt: skip
def test_a_gauge_with_a_fault_gives_no_energy(study: Measure, name: str, fault: str) -> None:
    found = study(f"sim://{name}?seed=1&fault={fault}", repeats=1, energy="auto")
    assert {run.status for run in found.of("energy")} == {"failed"}
    assert {run.status for run in found.of("latency")} == {"ok"}
    assert all("value" not in r["metrics"]["energy_j"] for r in found.document["results"])
