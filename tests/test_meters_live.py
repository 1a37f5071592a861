"""The meters for real on this computer, with made-up sensors; and the script that reads them, in every shell."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analyze import energy as analysis
from harness.devices.bench import opened
from harness.errors import RunnerError
from harness.measure import energy as metering
from harness.measure.meters import exec, sampler
from harness.measure.session import Attempt
from harness.paths import device_scripts_dir
from harness.types import DeviceSpec, Run
from tests.session_kit import build, device
from tests.session_kit import run as made_run

SHELLS = {"dash": ["dash"], "bash": ["bash"], "mksh": ["mksh"], "busybox": ["busybox", "sh"]}


class Sensors:
    """A /sys tree in a folder: two RAPL packages and a power monitor, kept up to date by a thread of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.watts = root, {"package-0": 5.0, "package-1": 2.0, "ina226": 3.25}
        self.range_uj, self._stop = 30_000_000, threading.Event()
        self._joules = {"package-0": 28.0, "package-1": 3.0}  # the first wraps while it is watched
        for i, name in enumerate(self._joules):
            folder = root / f"sys/class/powercap/intel-rapl:{i}"
            folder.mkdir(parents=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        chip = root / "sys/class/hwmon/hwmon0"
        chip.mkdir(parents=True)
        (chip / "name").write_text("ina226\n")
        (chip / "update_interval").write_text("100\n")
        (chip / "power1_label").write_text("VIN\n")
        self._write()

    def _write(self) -> None:
        for i, joules in enumerate(self._joules.values()):
            self._put(f"sys/class/powercap/intel-rapl:{i}/energy_uj", round(joules * 1e6) % self.range_uj)
        self._put("sys/class/hwmon/hwmon0/power1_input", round(self.watts["ina226"] * 1e6))

    def _put(self, path: str, value: int) -> None:
        (self.root / f"{path}.new").write_text(f"{value}\n")
        (self.root / f"{path}.new").rename(self.root / path)  # as a kernel's file: never half written

    def _live(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.005):
            now = time.monotonic()
            for name in self._joules:
                self._joules[name] += self.watts[name] * (now - last)
            last = now
            self._write()

    @contextmanager
    def alive(self) -> Iterator[None]:
        thread = threading.Thread(target=self._live, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()


def waiting(seconds: float) -> Callable[[], Attempt]:
    """An attempt whose runner did nothing but wait."""

    def attempt() -> Attempt:
        start = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        time.sleep(seconds)
        end = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        said = {"start_boottime_ns": start, "end_boottime_ns": end, "inferences": 100}
        run = made_run(
            build("fp32"), device(), "energy", 0, conditions={"window": [said]}, arrays={"latency_ns": np.full(9, 1e6)}
        )
        return Attempt(run=run)

    return attempt


def refused(reason: str) -> Run:
    raise AssertionError(reason)


SOURCE = """
import time
print("t_s,watts", flush=True)
while True:
    time.sleep(0.05)
    print(f"{time.monotonic():.4f},7.5", flush=True)
"""


@pytest.mark.parametrize(
    ("wanted", "entry", "watts"),
    [
        ("rapl", {}, 7.0),
        ("rapl", {"rails": ["package-1"]}, 2.0),
        ("hwmon", {}, 3.25),
        ("auto", {"command": [sys.executable, "-c", SOURCE]}, 7.5),
    ],
)
def test_a_meter_beside_a_run_for_real(
    wanted: str, entry: Any, watts: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analysis, "LEAST_S", 0.5)  # else it takes half a minute
    monkeypatch.setattr("harness.analyze.counters.TARGET", 0.3)
    if "command" in entry:
        entry = {"command": [*entry["command"], str(tmp_path)]}  # by which it is found again
    figures: Any = {"power_w": None}
    for attempt in range(3):  # on a busy computer the thread that plays the sensors may be late
        sensors = Sensors(tmp_path / f"root{attempt}")
        spec = DeviceSpec(
            name="local", uri="local", sysroot=str(sensors.root), workdir=str(tmp_path / "w" / "work"), energy=entry
        )
        with sensors.alive(), opened(spec, lambda depot, run: None) as bench:
            found = metering.metered(bench, wanted, waiting(2.5), refused).run
            assert bench.depot.leftovers() == [], "the sampler's folder is still there"
        assert found.status == "ok", found.reason
        assert not processes(str(tmp_path))
        assert {found.arrays[name].dtype.str for name in ("energy_values", "energy_t_s")} == {"<f8"}
        with suppress(RunnerError):
            figures = analysis.window(found)
        if figures["power_w"] == pytest.approx(watts, rel=0.05):
            return
    raise AssertionError(figures)


def processes(words: str) -> list[str]:
    return subprocess.run(["pgrep", "-f", words], capture_output=True, text=True).stdout.split()


def test_a_run_that_is_interrupted_leaves_no_sampler(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path / "root")
    spec = DeviceSpec(name="local", uri="local", sysroot=str(sensors.root), workdir=str(tmp_path / "w" / "work"))

    def attempt() -> Attempt:
        raise KeyboardInterrupt

    with opened(spec, lambda depot, run: None) as bench:
        with pytest.raises(KeyboardInterrupt):
            metering.metered(bench, "rapl", attempt, refused)
        assert bench.depot.leftovers() == []


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print('t_s,watts', flush=True)\nimport time; time.sleep(60)", "gave 0 readings"),
        ("import sys; print('no device', file=sys.stderr); sys.exit(3)", "ended by itself, with exit 3: no device"),
        ("print('hello', flush=True)\nimport time; time.sleep(60)", "began with 'hello'"),
    ],
)
def test_a_program_that_breaks_fails_the_run_with_its_reason(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exec, "FIRST_LINE_S", 0.5)
    command = [sys.executable, "-c", program]
    spec = DeviceSpec(name="local", uri="local", workdir=str(tmp_path / "w" / "work"), energy={"command": command})
    with opened(spec, lambda depot, run: None) as bench:
        found = metering.metered(bench, "auto", waiting(0.1), refused).run
    assert (found.status, found.counts) == ("failed", False)
    assert found.reason is not None and reason in found.reason


# -- the script ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    if shutil.which(SHELLS[request.param][0]) is None:
        pytest.skip(f"apt-get install {request.param}")
    return SHELLS[request.param]


def tree(root: Path, **files: str) -> None:
    for path, text in files.items():
        place = root / path.replace("__", "/").replace("_C_", ":").replace("_D_", "-")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def test_the_script_says_what_there_is(shell: list[str], tmp_path: Path) -> None:
    hostile = "$(touch pwned)`id`\nreadable /etc/shadow - x"
    rapl_, supply = "sys__class__powercap__intel_D_rapl_C_", "sys__class__power_supply__"
    files = {
        f"{rapl_}0__name": "package-0\n", f"{rapl_}0__energy_uj": "5\n", f"{rapl_}0__max_energy_range_uj": "99\n",
        f"{rapl_}0_C_0__name": "core\n", f"{rapl_}0_C_0__energy_uj": "5\n",
        f"{supply}bat__type": "Battery\n", f"{supply}bat__status": "Not charging\n", f"{supply}bat__current_now": "1\n",
        f"{supply}usb__type": "USB\n", f"{supply}usb__online": "1\n",
        f"{supply}mouse__type": "Battery\n", f"{supply}mouse__scope": "Device\n", f"{supply}mouse__current_now": "1\n",
        "sys__class__hwmon__hwmon0__name": hostile, "sys__class__hwmon__hwmon0__power1_input": "7\n",
    }  # fmt: skip
    tree(tmp_path, **files)

    def look(kind: str) -> list[sampler.Found]:
        argv = [*shell, str(device_scripts_dir() / "meter.sh"), "look", str(tmp_path), kind]
        done = subprocess.run(argv, capture_output=True, timeout=20, cwd=tmp_path)
        assert not done.stderr and done.returncode == 0
        return sampler.looked(done.stdout.decode())

    (zone_,) = look("rapl")
    assert (zone_.path, zone_.value, zone_.name) == ("/sys/class/powercap/intel-rapl:0/energy_uj", "99", "package-0")
    (gauge,) = look("battery")
    assert (gauge.path, gauge.value) == ("/sys/class/power_supply/bat", "Not+charger")
    (line,) = look("hwmon")
    assert line.path.endswith("power1_input") and line.value is None and not (tmp_path / "pwned").exists()
    assert look("odpm") == [] and look("pmic") == []


def test_the_script_reads_over_and_over(shell: list[str], tmp_path: Path) -> None:
    phone = "sys__bus__iio__devices__iio_C_device0__energy_value"
    tree(tmp_path, a="5 x\n", **{phone: "t=1\nCH0(T=1)[A * B], 5\n", "bat__current_now": "-3\n"})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/vcgencmd").write_text("#!/bin/sh\nprintf '  A_A current(0)=1A\\n  A_V volt(1)=2V\\n'\n")
    (tmp_path / "bin/vcgencmd").chmod(0o755)
    wanted = {
        ("rapl", "/a", "/no"): "5 -",
        ("hwmon", "/a"): "5",
        ("battery", "/bat"): "-3 - -",
        ("odpm", "/sys/bus/iio/devices/iio:device0/energy_value", "/no"): "dev t=1 CH0(T=1)[A * B], 5 dev -",
        ("pmic",): "A_A current(0)=1A A_V volt(1)=2V",
    }
    for (kind, *paths), text in wanted.items():
        argv = [*shell, str(device_scripts_dir() / "meter.sh"), kind, str(tmp_path), "0.05", *paths]
        path = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env={"PATH": path}, cwd=tmp_path)
        assert process.stdout is not None
        lines = [process.stdout.readline().decode() for _ in range(3)]
        process.kill()
        process.wait()
        assert [line.partition(" ")[2].strip() for line in lines] == [text] * 3, kind
        found = sampler.readings("".join(lines).encode())
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert now - 5 < found[0].t_s < found[-1].t_s < now + 0.02
