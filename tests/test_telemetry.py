"""What a device says of this moment: read under every shell that it may have, from trees and tools made up here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.devices.depot import Depot
from harness.devices.local import Local
from harness.devices.telemetry import parsed, snapshot
from harness.errors import DeviceError
from harness.interfaces import Completed
from harness.paths import device_scripts_dir
from harness.types import DeviceSpec, Snapshot

SPEC = DeviceSpec(name="local", uri="local")
SCRIPT = device_scripts_dir() / "telemetry.sh"
SHELLS = {"dash": ["dash"], "bash": ["bash"], "mksh": ["mksh"], "busybox": ["busybox", "sh"]}

#: a phone's, as its services write it (Android 14), with a cache that is out of date
THERMAL = """\
IsStatusOverride: false
ThermalEventListeners:
\tcallbacks: 2
Thermal Status: 1
Cached temperatures:
\tTemperature{mValue=54.1, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
HAL Ready: true
HAL connection:
\tThermalHAL AIDL 1  connected: yes
Current temperatures from HAL:
\tTemperature{mValue=44.8, mType=0, mName=BIG, mStatus=0}
\tTemperature{mValue=0.0, mType=2, mName=SUBBAT, mStatus=0}
\tTemperature{mValue=31.4, mType=3, mName=VIRTUAL-SKIN, mStatus=0}
\tTemperature{mValue=90.0, mType=-1, mName=VIRTUAL-SKIN-ODPM, mStatus=0}
Emulated temperatures:
\tTemperature{mValue=99.0, mType=3, mName=VIRTUAL-SKIN, mStatus=6}
Current cooling devices from HAL:
\tCoolingDevice{mValue=3, mType=2, mName=thermal-cpufreq-0}
Temperature static thresholds from HAL:
\tTemperatureThreshold{mType=3, mName=VIRTUAL-SKIN, mHotThrottlingThresholds=[NaN, 39.0]}
"""
#: a vendor's service that counts the types apart, and cannot be asked just now
VENDOR = """\
Thermal Status: 0
Cached temperatures:
 Temperature{mValue=-99.9, mType=6, mName=TYPE_POWER_AMPLIFIER, mStatus=0}
\tTemperature{mValue=25.3, mType=4, mName=TYPE_SKIN, mStatus=0}
\tTemperature{mValue=24.4, mType=3, mName=TYPE_BATTERY, mStatus=0}
HAL Ready: false
"""
BATTERY = "Current Battery Service state:\n{}  USB powered: true\n  status: 2\n  level: 83\n  temperature: 283\n"


class MadeUp:
    """A tree for /sys and /proc, and commands that answer what a test wants."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.root, self.bin, self.shell = folder / "a root", folder / "bin", shell
        for path in (self.root, self.bin):
            path.mkdir(parents=True)

    def file(self, path: str, text: str | bytes) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(text if isinstance(text, bytes) else text.encode())

    def zone(self, number: int, name: str, millidegrees: str) -> None:
        self.file(f"sys/class/thermal/thermal_zone{number}/type", f"{name}\n")
        self.file(f"sys/class/thermal/thermal_zone{number}/temp", f"{millidegrees}\n")

    def gauge(self, name: str, **values: str) -> None:
        for key, text in ({"type": "Battery"} | values).items():
            self.file(f"sys/class/power_supply/{name}/{key}", f"{text}\n")

    def command(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def dumpsys(self, **services: str) -> None:
        for service, text in services.items():
            (self.bin / f"service.{service}").write_text(text)
        self.command("dumpsys", f'cat "{self.bin}/service.$1" 2>/dev/null')

    def text(self) -> str:
        done = subprocess.run(
            [*SHELLS[self.shell], str(SCRIPT), str(self.root)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, env={"PATH": f"{self.bin}:/usr/bin:/bin"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode("utf-8", "replace")

    def now(self) -> Snapshot:
        return parsed(self.text())


@pytest.fixture(params=SHELLS)
def made_up(request: pytest.FixtureRequest, tmp_path: Path) -> MadeUp:
    if shutil.which(request.param) is None:
        pytest.skip(f"apt-get install {request.param}")
    return MadeUp(request.param, tmp_path)


@pytest.fixture
def phone(tmp_path: Path) -> MadeUp:
    return MadeUp("dash", tmp_path)


def test_a_phone_says_how_it_is(made_up: MadeUp) -> None:
    made_up.dumpsys(thermalservice=THERMAL, battery=BATTERY.format(""), deviceidle="true\n")
    for policy, khz in ((0, 1704000), (4, 2914000)):
        folder = f"sys/devices/system/cpu/cpufreq/policy{policy}"
        made_up.file(f"{folder}/scaling_max_freq", f"{khz}\n")
        made_up.file(f"{folder}/scaling_governor", "sched_pixel\n")
    made_up.file("proc/uptime", "12345.67 9999.00\n")
    made_up.file("proc/loadavg", "2.50 1.00 0.50 1/234 5678\n")
    assert made_up.now() == Snapshot(
        uptime_s=12345.67, zones_c={"BIG": 44.8, "VIRTUAL-SKIN": 31.4, "VIRTUAL-SKIN-ODPM": 90.0}, skin_c=31.4,
        battery_c=28.3, battery_percent=83, charging=True, thermal_status=1, throttled=None,
        max_khz={"policy0": 1704000, "policy4": 2914000},
        governors={"policy0": "sched_pixel", "policy4": "sched_pixel"}, loadavg=2.5, screen_on=True,
    )  # fmt: skip


def test_a_board_says_how_it_is(made_up: MadeUp) -> None:
    made_up.zone(0, "cpu-thermal", "48312")
    made_up.zone(1, "rp1 adc", "51000")
    made_up.command("vcgencmd", '[ "$1" = get_throttled ] && echo throttled=0x50005')
    made_up.file("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "2400000\n")
    assert made_up.now() == Snapshot(
        zones_c={"cpu-thermal": 48.312, "rp1 adc": 51.0}, throttled=0x50005, max_khz={"policy0": 2400000}
    )


def test_a_laptops_battery_is_found_and_a_mouses_is_not(made_up: MadeUp) -> None:
    made_up.gauge("hidpp_battery_0", scope="Device", capacity="5", temp="999")
    made_up.gauge("mains", type="Mains")
    made_up.gauge("test_bat", capacity="71", status="Not charging", temp="301")
    now = made_up.now()
    assert (now.battery_percent, now.battery_c, now.charging) == (71, 30.1, False)


@pytest.mark.parametrize(("word", "charging"), [("Charging", True), ("Full", True), ("Discharging", False)])
def test_a_battery_that_is_fed_is_charging(phone: MadeUp, word: str, charging: bool) -> None:
    phone.gauge("bat", status=word)
    assert phone.now().charging is charging


def test_what_the_battery_service_no_longer_updates_is_not_believed(made_up: MadeUp) -> None:
    frozen = BATTERY.format("  (UPDATES STOPPED -- use 'reset' to restart)\n")
    made_up.dumpsys(battery=frozen, thermalservice="")
    now = made_up.now()
    assert (now.battery_percent, now.battery_c, now.charging) == (None, None, None)
    made_up.gauge("battery", capacity="40", temp="312")  # where the kernel's own gauge may be read, it knows
    assert (made_up.now().battery_percent, made_up.now().battery_c) == (40, 31.2)


def test_a_cache_stands_only_where_nothing_was_read_now_and_a_name_is_worth_more_than_a_type(made_up: MadeUp) -> None:
    made_up.dumpsys(thermalservice=VENDOR)
    now = made_up.now()
    assert (now.thermal_status, now.skin_c) == (0, 25.3)
    assert now.zones_c == {"TYPE_SKIN": 25.3, "TYPE_BATTERY": 24.4}


def test_the_kernels_zones_come_before_androids_sensors(phone: MadeUp) -> None:
    phone.dumpsys(thermalservice=THERMAL)
    phone.zone(0, "big", "41000")
    assert phone.now().zones_c == {"big": 41.0}
    assert phone.now().skin_c == 31.4


@pytest.mark.parametrize(
    "millidegrees", ["-40001", "150001", "0", "35", "-274000", "", "warm", "1e4", "٤٠٠٠٠", "9" * 30]
)
def test_a_zone_that_makes_no_sense_is_left_out(phone: MadeUp, millidegrees: str) -> None:
    phone.zone(0, "odd", millidegrees)
    phone.zone(1, "good", "40000")
    assert phone.now().zones_c == {"good": 40.0}


def test_zones_of_one_name_do_not_hide_each_other(made_up: MadeUp) -> None:
    for number, celsius in enumerate((41, 63, 52)):
        made_up.zone(number, "acpitz", f"{celsius}000")
    assert made_up.now().zones_c == {"acpitz": 41.0, "acpitz#2": 63.0, "acpitz#3": 52.0}


@pytest.mark.parametrize("tool", ["dumpsys", "vcgencmd"])
def test_a_service_that_hangs_or_reads_costs_only_its_own_facts(phone: MadeUp, tool: str) -> None:
    phone.command(tool, "cat; sleep 600")
    phone.command("timeout", "shift; exec /usr/bin/timeout 0.2 \"$@\"")
    phone.zone(0, "cpu", "40000")
    now = phone.now()
    assert (now.zones_c, now.thermal_status, now.throttled, now.battery_c) == ({"cpu": 40.0}, None, None, None)


def test_hostile_files_forge_nothing_and_run_nothing(made_up: MadeUp) -> None:
    marker = made_up.root / "pwned"
    evil = f"x\\nthrottled=0x1 $(touch '{marker}') `touch '{marker}'` %s%n"
    made_up.zone(0, f"{evil}\nthrottled=0x2", "40000")
    made_up.zone(1, "\x00\x01\x7f\xff" * 2000, "41000")
    made_up.zone(2, f"$(touch '{marker}')* ; x=y\x1b[31m", "42000")
    made_up.file("proc/loadavg", b"\xff\xfe\x00 1")
    made_up.file("proc/uptime", "-5 1\n")
    made_up.file("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "2400000 \nthrottled=0x4\n")
    made_up.file("sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "a;b\n")
    made_up.file("sys/devices/system/cpu/cpufreq/policyX/scaling_max_freq", "1\n")
    now = made_up.now()
    assert not marker.exists()
    assert (now.throttled, now.loadavg, now.uptime_s, now.governors) == (None, None, None, {})
    assert now.max_khz == {"policy0": 2400000}
    assert now.zones_c == {f"$(touch '{marker}')* ; x=y[31m"[:60]: 42.0}


def test_an_answer_of_any_length_is_bounded_and_typed() -> None:
    many = "".join(f"zone=z{i} 40000\n" for i in range(50_000))
    assert len(parsed(many).zones_c) <= 1000
    wrong = "battery_percent=900\nbattery_decicelsius=x\nthrottled=reboot\ncharging=maybe\nthermal_status=-1\n"
    wrong += "screen=1\nuptime_s=nan\nloadavg=inf\nmax_khz=policy0 -5\nmax_khz=../x 100\ntemperature=now Temperature{\n"
    wrong += "temperature=now Temperature{mValue=nan, mType=3, mName=SKIN}\nzone=\nzone=x\n=\n"
    assert parsed(wrong) == Snapshot()
    for text in ("", "throttled=0x1ffffffffff", "throttled=0xfg", "throttled=4"):
        assert parsed(text) == Snapshot()


def test_one_look_costs_one_call_and_comes_through_the_depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    class Counted(Local):
        def run(self, argv: object, *more: object, **named: object) -> Completed:
            asked.append(list(argv))  # type: ignore[call-overload]
            return super().run(argv, *more, **named)  # type: ignore[arg-type]

    made = MadeUp("dash", tmp_path)
    made.zone(0, "cpu", "40000")
    made.dumpsys(thermalservice=THERMAL)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    spec = DeviceSpec(name="local", uri="local", sysroot=str(made.root))
    depot = Depot(Counted(spec), str(tmp_path / "work dir"), "local")
    snapshot(depot, spec)
    asked.clear()
    now = snapshot(depot, spec)
    assert len(asked) == 1
    assert (now.zones_c, now.skin_c, now.thermal_status) == ({"cpu": 40.0}, 31.4, 1)


def test_a_device_that_cannot_be_asked_is_not_one_without_sensors(tmp_path: Path) -> None:
    depot = Depot(Local(SPEC), str(tmp_path / "work dir"), "local")
    Path(depot.script("telemetry.sh")).unlink()
    with pytest.raises(DeviceError, match=r"telemetry\.sh failed"):
        snapshot(depot, SPEC)


@pytest.mark.skipif(shutil.which("strace") is None, reason="apt-get install strace")
def test_on_linux_it_starts_no_process_beside_the_shell(made_up: MadeUp) -> None:
    made_up.zone(0, "cpu", "40000")
    made_up.gauge("bat", capacity="40", status="Full")
    made_up.file("sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "2400000\n")
    log = made_up.root / "log"
    calls = "trace=clone,clone3,fork,vfork,execve"
    shell = [str(shutil.which(SHELLS[made_up.shell][0])), *SHELLS[made_up.shell][1:]]
    done = subprocess.run(
        [str(shutil.which("strace")), "-f", "-e", calls, "-o", str(log), *shell, str(SCRIPT), str(made_up.root)],
        capture_output=True, env={"PATH": "/nothing"}, timeout=60,
    )  # fmt: skip
    assert b"battery_percent=40" in done.stdout
    assert len([line for line in log.read_text().splitlines() if "+++" not in line]) == 1


def test_this_computer_says_how_it_is(tmp_path: Path) -> None:
    now = snapshot(Depot(Local(SPEC), str(tmp_path / "work dir"), "local"), SPEC)
    assert sys.platform == "linux" and now.uptime_s is not None and now.uptime_s > 0
    assert now.loadavg is not None
