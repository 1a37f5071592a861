"""Everything that can be measured, at once, over each link: on this computer, by SSH, and in Android's own daemon.

The sensors are a stand-in (tests/standins/sensors.py) behind each device's `sysroot`; what reads them, the runners, the
links and the whole of the pipeline are real."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import package as packages
from tests.conftest import Harness
from tests.standins.phone import Phone
from tests.standins.sensors import IDLE_W, LOAD_W, Sensors
from tests.standins.sshd import Sshd

PLAN = {
    "repeats": 2, "min_seconds": 0.3, "cold_loads": 3, "energy": "auto", "energy_seconds": 10.5,
    "sustained_minutes": 0.2, "profile": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def full(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's reference as .pte only, asked for everything."""
    built, files = packages.read(package)
    experiment = dict(built.experiment) | {"measure": dict(built.experiment["measure"]) | PLAN}
    some = tuple(b for b in built.builds if b.exporter == "executorch" and b.variant == "fp32")
    out = tmp_path_factory.mktemp("full") / "package"
    packages.write(dataclasses.replace(built, experiment=experiment, builds=some), files, out)
    return out


@pytest.fixture(params=["local", "ssh", "adb"])
def entry(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A device's entry for devices.yaml, its sensors alive."""
    with ExitStack() as stack:
        folder, sysroot, found = tmp_path / "sensors", str(tmp_path / "sensors"), {"uri": "local"}
        if request.param == "ssh":
            sshd: Sshd = request.getfixturevalue("sshd")
            found = {"uri": sshd.uri, "config": str(sshd.config)}
        elif request.param == "adb":
            phone: Phone = request.getfixturevalue("phone")
            folder, sysroot = phone.root / "data/local/tmp/sensors", "/data/local/tmp/sensors"
            found = {"uri": phone.uri}
        stack.enter_context(Sensors(folder))
        if request.param != "ssh":  # there it comes to rest for real, half a minute
            found["thermal"] = {"wait_minutes": 0}
        yield found | {"sysroot": sysroot, "prepare": "none"}


def test_each_link_gives_every_number_and_what_it_was_made_under(
    harness: Harness, full: Path, entry: dict[str, Any], tmp_path: Path
) -> None:
    name = "local" if entry["uri"] == "local" else "board"
    more = {"HARNESS_SSH_CONFIG": entry.pop("config")} if "config" in entry else {}
    (tmp_path / "devices.yaml").write_text(yaml.safe_dump({name: entry}))
    done = harness("run", str(full), "--device", name, "--json", cwd=tmp_path, **more)
    assert done.code in (0, 1), done.stderr
    (result,) = [r for r in json.loads(done.stdout)["results"] if r["device"] is not None]
    assert result["status"] == "ok", result["reason"]
    metrics = result["metrics"]
    for metric in ("latency_ms", "peak_memory_bytes", "cold_load_ms", "energy_j", "power_w", "sustained_ms"):
        assert "value" in metrics[metric], (metric, metrics[metric])
    assert metrics["energy_j"]["source"] == "rapl"
    assert metrics["power_w"]["value"] == pytest.approx(LOAD_W - IDLE_W, rel=0.1)
    assert "absent" in metrics["throttle_after_s"]
    assert not {"clock_unknown", "thermal_unknown", "freq_unstable"} & set(result["caveats"])
    assert result["conditions"]["clocks"]["residency"] > 0.95
    assert result["operators"][0]["share"] > 0
    assert result["simulated"] is False
