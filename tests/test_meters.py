"""The meters: what each makes of what a device says, and which of them is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import registry
from harness.devices import catalog
from harness.errors import ConfigError, RunnerError
from harness.interfaces import EnergyTrace
from harness.measure import energy as metering
from harness.measure.meters import battery, exec, hwmon, odpm, pmic, rapl, sampler
from harness.measure.session import Attempt
from harness.types import DeviceSpec, Run
from tests import energy_kit as kit
from tests.session_kit import build, device
from tests.session_kit import run as made_run


def read(*lines: str) -> list[sampler.Reading]:
    return sampler.readings(("\n".join(lines) + "\n").encode())


def zone(name: str = "package-0", value: str | None = "262143328850", path: str = "/x") -> sampler.Found:
    return sampler.Found(readable=True, path=path, value=value, name=name)


# -- what is read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw", [b"1.0 5\nx 6\n", b"nan 5\n", b"1e9 5\n", b"-1 5\n", b"2.0 5\n1.0 6\n", b"\n", b"\xff\xfe 1\n"]
)
def test_readings_that_no_script_of_ours_writes_are_refused(raw: bytes) -> None:
    with pytest.raises(RunnerError):
        sampler.readings(raw)


def test_a_reading_cut_off_in_the_middle_is_left_out() -> None:
    assert [one.t_s for one in sampler.readings(b"1.0 5\n2.0 1234")] == [1.0]


def test_a_look_takes_only_paths_that_can_be_meant() -> None:
    text = "readable /sys/a:0/energy_uj 5 package-0\nreadable /sys/../etc/shadow - x\nreadable $(reboot) - x\nx\n"
    text += "unreadable /sys/b - a \x1b[31mname\n"
    assert [(one.path, one.value, one.readable) for one in sampler.looked(text)] == [
        ("/sys/a:0/energy_uj", "5", True), ("/sys/b", None, False),
    ]  # fmt: skip
    assert sampler.looked(text)[1].name == "a [31mname"


def test_rapl_is_a_counter_of_joules_with_its_range() -> None:
    found = rapl.trace(read("1.0 1000000 5", "1.2 3000000 5", "1.4 - 5"), [zone(), zone("package-1", None)])
    assert found.values == pytest.approx((1.0, 5e-6, 3.0, 5e-6)) and found.t_s == (1.0, 1.2)
    assert found.range_j[0] == pytest.approx(262143.328850) and found.range_j[1] is None
    assert (found.kind, found.clock, found.rails) == ("counter", "read", ("package-0", "package-1"))


@pytest.mark.parametrize("line", ["1.0 5", "1.0 5 6 7", "1.0 5 x", "1.0 5 -6", "1.0 5 nan", "1.0 5 9e9", "1.0"])
def test_values_that_no_counter_has_are_refused(line: str) -> None:
    with pytest.raises(RunnerError):
        rapl.trace(read(line), [zone(), zone("package-1")])


def test_a_monitor_is_watts_and_read_no_slower_than_it_updates() -> None:
    found = hwmon.trace(read("1.0 1500000", "1.2 2500000"), [zone("ina226 VDD", "140")], 0.14)
    assert (found.kind, found.values, found.period_s) == ("power", (1.5, 2.5), 0.14)
    told = [hwmon.period_s([zone(value=value)]) for value in ("2", "140", "9000", None, "x")]
    assert told == [0.1, 0.14, 2.0, 0.2, 0.2]
    with pytest.raises(RunnerError, match="negative"):
        hwmon.trace(read("1.0 -5"), [zone()], 0.1)


def adc(**change: str | None) -> str:
    """A Pi 5's answer: 0.5 A and 2 V on each rail, and its inputs; `change`: word -> its text, None leaves it out."""
    words = {f"{rail}_A": f"current({i})=0.50000000A" for i, rail in enumerate(pmic.RAILS)}
    words |= {f"{rail}_V": f"volt({i + 12})=2.00000000V" for i, rail in enumerate(pmic.RAILS)}
    words |= {"EXT5V_V": "volt(24)=5.15128000V", "BATT_V": "volt(25)=0.00000000V"}
    return " ".join(f"{name} {text}" for name, text in (words | change).items() if text is not None)


def test_a_pis_rails_are_current_times_voltage_each() -> None:
    found = pmic.trace(read(f"1.0 {adc()}", "1.2 -", f"1.5 {adc(VDD_CORE_A='current(7)=1.00000000A')}"))
    assert found.t_s == (1.0, 1.5) and len(found.rails) == 12
    assert sum(found.values[:12]) == pytest.approx(12.0) and sum(found.values[12:]) == pytest.approx(13.0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (adc(VDD_CORE_A=None), "VDD_CORE has no current"),
        (adc(DDR_VDD2_V=None), "DDR_VDD2 has no voltage"),
        (adc(HDMI_A=None, HDMI_V=None), "HDMI is missing"),
        (adc(HDMI_A="current(11)=99.0A"), "impossible"),
        (adc(HDMI_A="current(11)=0.5V"), "not understood"),
        (adc(HDMI_A="current(11)=1e3A"), "not understood"),
        (f"{adc()} HDMI_A current(1)=0.5A", "twice"),
        (f"{adc()} x", "not understood"),
        ("error=1 error_msg=\"Command not registered\"", "not understood"),
        ("-", "could not be asked"),
    ],
)  # fmt: skip
def test_a_power_chip_with_a_missing_rail_is_refused(text: str, reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        pmic.trace(read(f"1.0 {text}"))


def test_a_rail_that_comes_and_goes_is_refused() -> None:
    more = f"{adc()} NEW_A current(30)=0.1A NEW_V volt(31)=1.0V"
    with pytest.raises(RunnerError, match="changed"):
        pmic.trace(read(f"1.0 {adc()}", f"1.2 {more}"))


def chip(t: int, **rails: tuple[int, int]) -> str:
    """energy_value of one chip, as words: rail -> (T in ms, µWs)."""
    lines = [f"CH{i}(T={own})[{name}], {uws}" for i, (name, (own, uws)) in enumerate(rails.items())]
    return " ".join(["dev", f"t={t}", *lines])


def test_rails_of_a_phone_bring_their_own_time() -> None:
    one, two = chip(10_000, CPU=(9_000, 1_000_000), MEM=(8_000, 0)), chip(10_500, CPU=(500, 7))
    three, four = chip(12_000, CPU=(11_000, 5_000_000), MEM=(10_000, 500_000)), chip(12_500, CPU=(2_500, 7))
    found = odpm.trace(read(f"10.1 {one} {two}", f"12.1 {three} {four}"), ["a", "b"])
    assert found.rails == ("CPU", "MEM", "b/CPU")  # two chips may have the same name
    assert found.t_s == pytest.approx((10.0, 10.0, 10.5, 12.0, 12.0, 12.5))
    assert found.values == pytest.approx((1.0, 0.0, 7e-6, 5.0, 0.5, 7e-6))
    assert (found.kind, found.clock, found.counts) == ("counter", "own", 20)
    some = odpm.trace(read(f"10.1 {one} {two}", f"12.1 {three} {four}"), ["a", "b"], ("MEM",))
    assert (some.rails, some.values) == (("MEM",), (0.0, 0.5))


@pytest.mark.parametrize(
    ("second", "wanted", "reason"),
    [
        (chip(12_000, CPU=(11_000, 5)), (), "MEM is missing"),
        (chip(12_000, MEM=(11_000, 5), CPU=(11_000, 5)), (), "missing in a reading"),
        (chip(12_000, CPU=(9_100, 5), MEM=(11_000, 5)), (), "CPU was not measured all the time"),
        (chip(12_000, CPU=(11_000, 5), MEM=(11_000, 5)), ("GPU",), "no rail 'GPU'"),
        ("dev t=12000 CH0(T=x)[CPU], 5", (), "not understood"),
        ("dev", (), "power rail monitor said"),
        ("t=1", (), "power rail monitor said"),
        (f"{chip(12_000, CPU=(11_000, 5), MEM=(11_000, 5))} dev -", (), ""),
    ],
)
def test_a_phone_with_a_missing_rail_is_refused(second: str, wanted: tuple[str, ...], reason: str) -> None:
    first = chip(10_000, CPU=(9_000, 1), MEM=(9_000, 1))
    lines = read(f"10.1 {first}", f"12.1 {second}")
    if not reason:  # a chip that could not be read is a gap in time
        assert len(odpm.trace(lines, ["a"]).t_s) == 2
        return
    with pytest.raises(RunnerError, match=reason):
        odpm.trace(lines, ["a"], wanted)


@pytest.mark.parametrize(
    ("rails", "clusters", "fit"),
    [(("VDD_CPUCL0", "VDD_CPUCL1", "MIF"), 2, True), (("VDD_CPUCL0", "MIF"), 2, False), (("MIF",), 0, False),
     (("S4M_VDD_CPU", "MIF"), 0, True)],
)  # fmt: skip
def test_every_cluster_of_cores_must_have_a_rail(rails: tuple[str, ...], clusters: int, fit: bool) -> None:
    assert (odpm.without_cores(rails, clusters) is None) is fit


@pytest.mark.parametrize(("watts", "fit"), [(5.0, True), (0.3, True), (0.005, False), (5000.0, False)])
def test_a_supply_in_another_unit_is_refused(watts: float, fit: bool) -> None:
    found = hwmon.trace(read(f"1.0 {watts * 1e6:.0f}", f"1.2 {watts * 1e6:.0f}"), [zone("ina226 VIN")], 0.1)
    assert (hwmon.impossible(found) is None) is fit


@pytest.mark.parametrize(("volts", "unit"), [("3850000", "µV"), ("3850", "mV")])
def test_a_batterys_power_is_as_the_abi_has_it_and_so_marked(volts: str, unit: str) -> None:
    found = battery.trace(read(f"1.0 -500000 {volts} Discharging", "1.2 - - -", f"1.5 500 {volts} Discharging"))
    assert found.values == pytest.approx((1.925, -0.001925)) and found.uncalibrated
    assert found.t_s == (1.0, 1.5) and found.notes["volt_unit"] == unit


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1.5 -500000 3850000 Charging", "0 s into the run the battery is not discharging"),
        ("1.5 -500000 3850000 Full", "not discharging"),
        ("1.5 -500000 3850000 Not", "not discharging"),
        ("1.5 -500000 3850000 Unknown", "not discharging"),
        ("1.5 -500000 38 Discharging", "neither µV nor mV"),
        ("1.5 -500000 -3850000 Discharging", "neither µV nor mV"),
        ("1.5 -500000 3850000", None),
        ("1.5 x 3850000 Discharging", "no numbers"),
    ],
)
def test_a_battery_that_tells_nothing_of_the_device_is_refused(line: str, reason: str | None) -> None:
    lines = read("1.0 -500000 3850000 Discharging", line)
    if reason is None:
        assert len(battery.trace(lines).t_s) == 2
        return
    with pytest.raises(RunnerError, match=reason):
        battery.trace(lines)


def test_a_battery_in_which_no_current_flows_is_refused() -> None:
    with pytest.raises(RunnerError, match="no current flows"):
        battery.trace(read("1.0 0 3850000 Discharging", "1.5 0 3850000 Discharging"))


# -- a program of the user's --------------------------------------------------------------------------------------


def printed(header: str, *lines: str, delay: Callable[[int], float] = lambda i: 0.0) -> list[tuple[float, bytes]]:
    """One line every 0.1 s of this computer's time from 50 s on, `delay(i)` late."""
    rest = [(50.0 + 0.1 * i + delay(i), f"{line}\n".encode()) for i, line in enumerate(lines)]
    return [(49.9, f"{header}\n".encode()), *rest]


def test_a_programs_time_is_brought_to_the_devices() -> None:
    """Its clock says 7 s at 50 s of ours; the device's is 1000 s ahead. Most lines come late, as from a pipe."""
    lines = printed("t_s, watts", *(f"{7 + 0.1 * i:.3f}, 3.5" for i in range(100)), delay=lambda i: 0.3 * (i % 4 > 0))
    found = exec.trace(lines, [(1000.0, 0.01), (1000.02, 0.02)])
    assert found.t_s[0] == pytest.approx(1050.01) and found.t_s[-1] == pytest.approx(1059.91)
    assert found.clock_s == pytest.approx(0.02 + 0.01)
    assert (found.kind, found.clock) == ("power", "mapped") and found.period_s == pytest.approx(0.1)
    assert exec.trace(printed("t_s,joules", "0,1", "1,2", "2,3"), [(0.0, 0.0)]).kind == "counter"


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], "flush"),
        (printed("time,power", "0,1"), "began with 'time,power'"),
        (printed("t_s,watts", "0,1", "0.1,x", "0.2,1"), "line 3 .* is not understood: '0.1,x'"),
        (printed("t_s,watts", "0,1", "0.1,nan", "0.2,1"), "not understood"),
        (printed("t_s,watts", "0,1", "0,1", "0.2,1"), "its time does not go on"),
        (printed("t_s,watts", "0,1", "0.1,1"), "gave 2 readings"),
        (printed("t_s,watts", *(f"{100 * i},1" for i in range(100))), "counts 9900 s where 9.9 s pass"),
        (printed("t_s,watts", *(f"{0.108 * i:.3f},1" for i in range(100))), "counts 10.692 s where 9.9 s pass"),
    ],
)  # fmt: skip
def test_a_program_that_prints_anything_else_is_refused(lines: Any, reason: str) -> None:
    with pytest.raises(RunnerError, match=reason):
        exec.trace(lines, [(0.0, 0.0)])


# -- which meter --------------------------------------------------------------------------------------------------


def looking(text: str = "", energy: Any = None) -> Any:
    """A bench that answers every look with `text`."""
    done = SimpleNamespace(stdout=text.encode(), returncode=0)
    transport = SimpleNamespace(run=lambda argv, **more: done)
    depot = SimpleNamespace(script=lambda name: f"/{name}", transport=transport)
    return SimpleNamespace(depot=depot, spec=DeviceSpec(name="d", uri="local", energy=energy or {}))


TWO = "readable /a 100 ina226 IN\nreadable /b 100 ina226 CORE\n"


@pytest.mark.parametrize(
    ("meter", "text", "entry", "reason"),
    [
        ("rapl", "", {}, "no RAPL"),
        ("rapl", "unreadable /a 5 package-0", {}, "may not read package-0"),
        ("rapl", "readable /a 5 psys", {}, "no RAPL"),
        ("rapl", "readable /a 5 package-0\nunreadable /b 5 package-1", {}, "may not read package-1"),
        ("rapl", "readable /a 5 package-0\nreadable /b 5 package-0", {}, "same name"),
        ("rapl", "readable /a 5 package-0", {}, None),
        ("rapl", "readable /a 5 package-0", {"rails": ["package-1"]}, "no rail 'package-1'"),
        ("hwmon", "", {}, "no power monitor"),
        ("hwmon", "readable /a - amdgpu power1", {}, "need not be a supply"),
        ("hwmon", "readable /a - amdgpu power1", {"rails": ["amdgpu power1"]}, None),
        ("hwmon", TWO, {}, "several lines are monitored"),
        ("hwmon", TWO, {"rails": ["ina226 IN"]}, None),
        ("hwmon", "readable /a 100 ina226 IN", {}, None),
        ("odpm", "", {}, "no on-device power rail monitor"),
        ("odpm", "unreadable /a - s2mpg14", {}, "may not read s2mpg14"),
        ("pmic", "", {}, "no vcgencmd"),
        ("pmic", "readable vcgencmd - vcgencmd", {}, None),
        ("battery", "", {}, "no battery gauge"),
        ("battery", "readable /a Discharging BAT0", {}, None),
        ("battery", "readable /a Charging BAT0", {}, "not discharging"),
        ("battery", "readable /a Discharging+charger BAT0", {}, "charger is connected"),
        ("battery", "readable /a Discharging a\nreadable /b Discharging b", {}, "several batteries"),
        ("exec", "", {}, "no energy: {command"),
        ("exec", "", {"command": ["/no/such/meter"]}, "no program '/no/such/meter'"),
        ("exec", "", {"command": ["sh"]}, None),
    ],
)  # fmt: skip
def test_a_meter_says_why_it_cannot_be_used(meter: str, text: str, entry: Any, reason: str | None) -> None:
    found = registry.load("meter", meter)().unfit(looking(text, entry))
    assert found is None if reason is None else reason in (found or ""), found


def test_auto_takes_the_first_that_is_fit_and_an_entry_comes_before_it() -> None:
    assert metering.choose(looking("readable /a Discharging BAT0"), "auto")[0] == "odpm"  # the first to ask is pleased
    assert metering.candidates({}, "auto") == ["odpm", "pmic", "rapl", "hwmon", "battery"]
    assert metering.candidates({"meter": "rapl"}, "auto") == ["rapl"]
    assert metering.candidates({"command": ["x"]}, "auto") == ["exec"]
    assert metering.candidates({"meter": "rapl"}, "battery") == ["battery"]


def test_without_any_meter_nothing_is_run_and_the_reason_names_each() -> None:
    def never() -> Attempt:
        raise AssertionError

    def refuse(reason: str) -> Run:
        return made_run(build("fp32"), device(), "energy", 0, status="failed", counts=False, reason=reason)

    run = metering.metered(looking(), "auto", never, refuse).run
    assert run.status == "failed" and run.reason is not None and run.reason.startswith("no usable meter: odpm: ")
    assert all(f"{name}: " in run.reason for name in ("odpm", "pmic", "rapl", "hwmon", "battery"))
    assert "exec" not in run.reason


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("{meter: rapl, rails: [package-0], uncertainty: 0.02}", None),
        ("{command: [meter, --json]}", None),
        ("{meter: exec, command: [meter]}", None),
        ("{meter: exec}", "needs a command"),
        ("{meter: rapl, command: [x]}", "of the meter exec"),
        ("{meter: ropl}", "no meter 'ropl'"),
        ("{uncertainty: 2}", "energy.uncertainty"),
        ("{command: x}", "energy.command"),
    ],
)
def test_a_devices_entry_is_strict(entry: str, reason: str | None, tmp_path: Path) -> None:
    text = f"board: {{uri: local, energy: {entry}}}"
    if reason is None:
        assert catalog.parse(text, "devices.yaml", tmp_path).devices["board"].energy
        return
    with pytest.raises(ConfigError, match=reason):
        catalog.parse(text, "devices.yaml", tmp_path)


def test_every_meter_keeps_to_the_same_form() -> None:
    assert EnergyTrace(
        kind="power", clock="own", rails=("a",), t_s=(1.0,), values=(2.0,), period_s=1.0, uncertainty=0.0
    ).range_j == ()  # fmt: skip
    run = metering.with_trace(made_run(build("fp32"), device(), "idle", 0), "made", kit.power(1.0))
    assert run.conditions["energy"]["range_j"] == [None] and run.conditions["energy"]["source"] == "made"
