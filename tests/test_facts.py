"""What a device says of itself: read under every shell that a device may have, from trees and tools made up here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from harness.devices.facts import (
    Said,
    ask,
    condition,
    cpu_mask,
    device_facts,
    device_id,
    is_android,
    parse_facts,
    read_facts,
    target,
    understood,
)
from harness.devices.local import Local
from harness.errors import DeviceError
from harness.paths import device_scripts_dir
from harness.types import DeviceFacts, DeviceSpec

SPEC = DeviceSpec(name="local", uri="local")
SHELLS = ("dash", "bash", "mksh", "busybox")
FINGERPRINT = "google/shiba/shiba:14/UD1A.230803.041/10808477:user/release-keys"


class MadeUp:
    """A made-up device: a tree for /sys and /proc, and commands that answer what a test wants."""

    def __init__(self, shell: str, folder: Path) -> None:
        self.root, self.bin = folder / "a root", folder / "bin"
        self.root.mkdir(parents=True)
        self.bin.mkdir()
        self.shell = shell

    def file(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def command(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
        (self.bin / name).chmod(0o755)

    def props(self, **values: str) -> None:
        for name, value in values.items():
            (self.bin / f"prop.{name.replace('__', '.')}").write_text(value)
        self.command("getprop", f'cat "{self.bin}/prop.$1" 2>/dev/null || echo')

    def said(self, *words: str) -> Said:
        argv = [self.shell, *(["sh"] if self.shell == "busybox" else []), "-s", str(self.root), *words]
        done = subprocess.run(
            argv, input=(device_scripts_dir() / "facts.sh").read_bytes(), capture_output=True, timeout=60,
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": "/somewhere"},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")
        return understood(done.stdout.decode("utf-8", "replace"))


@pytest.fixture(params=SHELLS)
def made_up(request: pytest.FixtureRequest, tmp_path: Path) -> MadeUp:
    if shutil.which(request.param) is None:
        pytest.skip(f"apt-get install {request.param}")
    return MadeUp(request.param, tmp_path)


def test_a_phone_says_what_it_is(made_up: MadeUp) -> None:
    made_up.props(
        ro__build__fingerprint=FINGERPRINT, ro__product__manufacturer="Google", ro__product__model="Pixel 8",
        ro__soc__manufacturer="Google", ro__soc__model="Tensor G3", ro__product__cpu__abi="arm64-v8a",
        ro__serialno="3A031FDJH0041B",
    )  # fmt: skip
    battery = "  AC powered: true\\n  status: 2\\n  level: 83\\n  temperature: 283\\n"
    made_up.command("dumpsys", f'[ "$1" = battery ] && printf "{battery}"')
    for policy, cpus, khz in ((0, "0 1 2 3", 1704000), (4, "4 5", 2914000)):
        made_up.file(f"sys/devices/system/cpu/cpufreq/policy{policy}/related_cpus", f"{cpus}\n")
        made_up.file(f"sys/devices/system/cpu/cpufreq/policy{policy}/cpuinfo_max_freq", f"{khz}\n")
    made_up.file("sys/devices/system/cpu/cpu4/regs/identification/midr_el1", "0x00000000412fd4e0\n")
    made_up.file("proc/meminfo", "MemTotal:        7812345 kB\nMemFree: 1 kB\n")
    made_up.file("proc/sys/kernel/random/boot_id", "11111111-2222\n")
    said = made_up.said()
    facts, now = device_facts(said, "p"), condition(said)
    assert (facts.model, facts.soc) == ("Google Pixel 8", "Google Tensor G3")
    assert (facts.abi, facts.os) == ("aarch64", FINGERPRINT)
    assert facts.device_id == device_id("3A031FDJH0041B")
    assert (facts.memory_bytes, facts.boot_id) == (7812345 * 1024, "11111111-2222")
    assert facts.clusters == (
        {"cpus": [0, 1, 2, 3], "max_khz": 1704000},
        {"cpus": [4, 5], "max_khz": 2914000, "midr": "0x412fd4e0"},
    )
    assert cpu_mask(facts, "big") == "0x30"
    assert (now.battery_percent, now.battery_c, now.charging) == (83, 28.3, True)
    assert is_android(facts) and target(facts) == "android-aarch64"


def test_a_board_says_what_it_is(made_up: MadeUp) -> None:
    made_up.file("proc/device-tree/model", "Raspberry Pi 5 Model B Rev 1.0\0")
    made_up.file("proc/device-tree/compatible", "raspberrypi,5-model-b\0brcm,bcm2712\0")
    made_up.file("proc/device-tree/serial-number", "f00d1234c0ffee99\0")
    for zone in range(2):
        made_up.file(f"sys/class/thermal/thermal_zone{zone}/type", "cpu")
    adc = "VDD_CORE_A current(7)=1.5A"
    made_up.command("vcgencmd", f'case $1 in pmic_read_adc) echo "{adc}" ;; *) echo throttled=0x50005 ;; esac')
    made_up.file("sys/class/hwmon/hwmon0/name", "ina226\n")
    made_up.file("sys/class/hwmon/hwmon0/power1_input", "1\n")
    made_up.file("sys/class/powercap/intel-rapl:0/name", "package-0\n")
    made_up.file("sys/class/powercap/intel-rapl:0:0/name", "core\n")
    made_up.file("sys/class/powercap/intel-rapl:0:0/energy_uj", "1\n")
    (made_up.root / "sys/class/powercap/intel-rapl:0/energy_uj").mkdir()  # as good as unreadable, for root too
    said = made_up.said()
    facts, now = device_facts(said, "b"), condition(said)
    assert (facts.model, facts.soc) == ("Raspberry Pi 5 Model B Rev 1.0", "brcm,bcm2712")
    assert facts.device_id == device_id("f00d1234c0ffee99")
    assert (now.thermal_zones, now.throttled, now.battery_percent) == (2, "0x50005", None)
    assert [(s["source"], s["usable"], s["reason"]) for s in now.energy] == [
        ("pmic", True, None),
        ("rapl", False, "this login may not read package-0"),
        ("hwmon", True, None),
    ]
    assert target(facts).startswith("linux-")


def test_a_laptops_battery_is_found_and_a_mouses_is_not(made_up: MadeUp) -> None:
    gauges = {"hidpp_battery_0": {"scope": "Device", "capacity": "5"}, "mains": {"type": "Mains", "online": "1"}}
    gauges["test_bat"] = {"capacity": "71", "status": "Discharging", "current_now": "1", "temp": "301"}
    for gauge, values in gauges.items():
        for name, text in ({"type": "Battery"} | values).items():
            made_up.file(f"sys/class/power_supply/{gauge}/{name}", f"{text}\n")
    now = condition(made_up.said())
    assert (now.battery_percent, now.battery_c, now.charging) == (71, 30.1, False)
    assert now.energy == ({"source": "battery", "usable": True, "reason": None},)


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\x0b", "\x1e", "\u2028"])
def test_no_value_can_forge_another_fact(made_up: MadeUp, line_break: str) -> None:
    model = f"x{line_break}serial=evil\"'$(touch {made_up.bin}/pwned)`id`\\n"
    made_up.props(ro__product__model=model, ro__serialno="good-serial")
    made_up.file("sys/class/hwmon/hwmon0/name", "x\nserial=evil\nenergy=readable gold\n")
    made_up.file("sys/class/hwmon/hwmon0/power1_input", "1\n")
    said = made_up.said()
    assert said["serial"][0] == "good-serial"
    assert "evil" not in said["serial"]
    assert len(said["energy"]) == 1 and [s["source"] for s in condition(said).energy] == ["hwmon"]
    assert "serial=evil" in said["model"][0]
    assert not (made_up.bin / "pwned").exists()
    assert device_facts(said, "p").device_id == device_id("good-serial")


def test_root_is_looked_at_only_where_it_may_be_used(made_up: MadeUp) -> None:
    asked = made_up.root / "asked"
    made_up.command("id", "echo 1000")  # ends in a 0, and is no root
    made_up.command("su", f'touch "{asked}"; [ "$1" = -c ] && eval "$2"')
    made_up.command("sudo", "exit 1")
    assert condition(made_up.said()).root is None
    assert not asked.exists()
    assert condition(made_up.said("su")).root is False
    assert asked.exists()
    made_up.command("su", "echo 0")
    assert condition(made_up.said("su")).root is True


def test_a_service_that_reads_or_hangs_costs_only_its_own_fact(made_up: MadeUp) -> None:
    made_up.props(ro__serialno="good-serial")
    made_up.command("vcgencmd", "cat; echo throttled=0x0")  # the script itself is standard input: not to be eaten
    made_up.command("dumpsys", "sleep 600")
    said = made_up.said()
    assert said["serial"][0] == "good-serial"
    assert condition(said).throttled == "0x0"
    assert condition(said).battery_percent is None


def test_this_computer_says_what_it_is() -> None:
    facts = read_facts(Local(SPEC), SPEC)
    assert facts.cores == os.cpu_count()
    assert facts.page_size == os.sysconf("SC_PAGE_SIZE")
    assert len(facts.device_id) == 8
    assert ask(Local(SPEC), SPEC)["home"][0].startswith("/")


def test_a_devices_answers_are_data_and_not_trusted() -> None:
    text = "abi=aarch64\nserial=secret-1\nmodel=a\x1b[31m\x00b\ncores=lots\n"
    text += "memory_kib=99999999999999999999\nnonsense\n=\n"
    facts = parse_facts(text + "cluster=0 1 x 99999999999 ² max_khz 100\n" + "x=y\n" * 5000, "d")
    assert facts.model == "a[31mb"
    assert facts.cores == 1
    assert facts.memory_bytes is None
    assert facts.clusters == ({"cpus": [0, 1], "max_khz": 100},)
    assert "secret" not in facts.device_id
    assert facts.device_id == device_id("secret-1")
    now = condition(understood("battery_percent=900\nbattery_decicelsius=x\nthrottled=reboot\nenergy=readable gold\n"))
    assert (now.battery_percent, now.battery_c, now.throttled) == (None, None, None)
    assert now.energy == ()


def test_a_device_that_says_nothing_is_an_error() -> None:
    with pytest.raises(DeviceError, match="what it is"):
        parse_facts("", "d")


def test_the_unit_is_known_by_the_best_name_it_has() -> None:
    board = "abi=aarch64\nhostname=raspberrypi\n"
    assert parse_facts(board, "d").device_id == device_id("raspberrypi")
    assert parse_facts(board, "d", host_key="SHA256:abc").device_id == device_id("SHA256:abc")
    assert parse_facts(board + "serial=f00d\n", "d", host_key="SHA256:abc").device_id == device_id("f00d")
    for shared in ("unknown", "0000000000000000", "0123456789ABCDEF", "To be filled by O.E.M."):
        many = f"{board}serial={shared}\n"
        assert parse_facts(many + "serial=machine-id\n", "d").device_id == device_id("machine-id")


@pytest.mark.parametrize(
    ("kernel", "android", "abi"),
    [
        ("arm64", None, "aarch64"),
        ("amd64", None, "x86_64"),
        ("armv8l", "arm64-v8a", "aarch64"),
        ("aarch64", "armeabi-v7a", "aarch64"),
        ("armv7l", "armeabi-v7a", "armv7l"),
        ("riscv64", None, "riscv64"),
    ],
)
def test_an_abi_has_one_name(kernel: str, android: str | None, abi: str) -> None:
    named = f"cpu_abi={android}\n" if android else ""
    facts = parse_facts(f"abi={kernel}\n{named}serial=ab\nos_release=Debian GNU/Linux 12 (bookworm)\n", "d")
    assert (facts.abi, target(facts)) == (abi, f"linux-{abi}")


def test_big_is_the_fastest_cluster_and_unknown_without_clusters() -> None:
    clusters = ({"cpus": [0, 1], "max_khz": 1000}, {"cpus": [2, 3], "max_khz": 2000})
    assert cpu_mask(DeviceFacts(device_id="x", abi="a", cores=4, clusters=clusters), "big") == "0xc"
    assert cpu_mask(DeviceFacts(device_id="x", abi="a", cores=4), "big") is None
    assert cpu_mask(DeviceFacts(device_id="x", abi="a", cores=4), "any") == "any"
