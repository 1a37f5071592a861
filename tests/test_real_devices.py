"""The whole job on stand-ins: OpenSSH on loopback as a board, Android's own daemon as a phone, all at once."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness import package as packages
from harness.store import Store
from tests.conftest import Harness, hears_ctrl_c, listed
from tests.standins.phone import AdbServer, Phone
from tests.standins.sshd import Sshd


@pytest.fixture(scope="module")
def slow(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, one format only, with runs long enough that something can happen in the middle of one."""
    built, files = packages.read(package)
    plan = dict(built.experiment["measure"]) | {"min_seconds": 6.0, "min_iterations": 10, "repeats": 1, "memory": False}
    experiment = dict(built.experiment) | {"measure": plan}
    some = tuple(b for b in built.builds if b.exporter == "executorch")
    out = tmp_path_factory.mktemp("slow") / "package"
    packages.write(dataclasses.replace(built, experiment=experiment, builds=some), files, out)
    return out


def devices_of(document: dict[str, Any]) -> dict[str, list[str]]:
    """A device's name, or the scheme of one that is named by its URI -> the statuses of its results that can exist."""
    found: dict[str, list[str]] = {}
    for result in document["results"]:
        if result["device"] is not None:
            found.setdefault(result["device"].partition("://")[0], []).append(result["status"])
    return found


def counted(folder: Path) -> Counter[tuple[Any, ...]]:
    """How often each planned run counts, in the newest session."""
    store = Store.open(f"sqlite:///{folder}/.harness/harness.db")
    runs = store.runs(store.list_sessions()[0]["id"])
    return Counter((r.cell.variant, r.cell.context, r.purpose, r.repeat) for r in runs if r.counts)


def finished(code: int, document: str) -> bool:
    """Whether all was measured, but for what others' work on this computer spoilt each time it was tried."""
    statuses = [r["status"] for r in json.loads(document)["results"] if r["device"] is not None]
    return code == 0 or (code in (1, 3) and "invalid" in statuses and set(statuses) <= {"ok", "invalid"})


begun: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_is_left_running() -> Iterator[None]:
    yield
    while begun:
        if (process := begun.pop()).poll() is None:
            process.kill()
            process.wait()


def begin(environment: dict[str, str], cwd: Path, *words: str, **more: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *words], preexec_fn=hears_ctrl_c,
        cwd=cwd, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    begun.append(process)
    return process


def a_run_is_on(device: Phone, deadline_s: float = 120) -> Path:
    """The folder of a latency run that has begun on the phone."""
    folder = device.root / "data/local/tmp/harness/runs"
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        for notes in folder.glob("*/notes.json"):
            with suppress(FileNotFoundError):  # a short one that is over, and is removed just now
                if (notes.parent / "pid").exists() and b'"purpose": "latency"' in notes.read_bytes():
                    return notes.parent
        time.sleep(0.02)
    raise AssertionError("no latency run began")


def test_one_command_measures_this_computer_a_board_and_a_phone_at_once(
    package: Path, harness: Harness, sshd: Sshd, phone: Phone, tmp_path: Path
) -> None:
    words = ["run", str(package), "--device", "local", "--device", sshd.uri, "--device", phone.uri, "--json"]
    more = {"HARNESS_SSH_CONFIG": str(sshd.config)}
    done = harness(*words, cwd=tmp_path, timeout_s=600, **more)
    assert done.code == 0, done.stderr
    statuses = devices_of(done.json)
    assert set(statuses) == {"local", "ssh", "adb+tcp"}
    assert all(status == "ok" for found in statuses.values() for status in found), statuses
    assert {r["context"] for r in done.json["results"] if r["device"]} == {"host", "shell-bundle"}
    assert len(done.json["picks"]) == 3
    for secret in (str(sshd.port), phone.uri.removeprefix("adb+tcp://"), phone.serial):
        assert secret not in done.stdout
    again = harness(*words, cwd=tmp_path, timeout_s=600, **more)
    assert again.code == 0, again.stderr
    for name in ("local", sshd.uri, phone.uri):
        assert f"{name}: pushed 0 bytes" in again.stderr


def test_a_phone_is_measured_through_the_adb_server_too(
    package: Path, harness: Harness, phone: Phone, adb_server: AdbServer, tmp_path: Path
) -> None:
    listed(tmp_path, served=adb_server.uri(phone))
    done = harness("run", str(package), "--device", "served", "--json", cwd=tmp_path, timeout_s=600)
    assert done.code == 0, done.stderr
    assert set(devices_of(done.json)) == {"served"}


def test_an_arm64_phone_without_any_c_library_gives_the_answers_that_this_computer_gives(
    package: Path, harness: Harness, arm64_phone: Phone, tmp_path: Path
) -> None:
    """Under QEMU: what it answers is real, how fast is not."""
    listed(tmp_path, phone=arm64_phone.uri)
    words = ["run", str(package), "--quick", "--device", "local", "--device", "phone", "--json"]
    done = harness(*words, cwd=tmp_path, timeout_s=900)
    assert done.code == 0, done.stderr
    results = [result for result in done.json["results"] if result["device"]]
    found = {(r["device"], r["variant"], r["exporter"]): r for r in results}
    for (device, variant, exporter), result in found.items():
        assert result["status"] == "ok", (device, variant, exporter, result["reason"])
        # of what the model on the host answers: 100 dB is a hundred-thousandth
        assert result["metrics"]["output_sqnr_db"]["value"] >= (100 if variant == "fp32" else 30)
        here = found["local", variant, exporter]
        assert result["metrics"]["accuracy"]["value"] == here["metrics"]["accuracy"]["value"]
    assert found["phone", "fp32", "torchscript_lite"]["runtime"] == "torchscript 2.9.1"
    assert found["local", "fp32", "torchscript_lite"]["runtime"] == "torchscript 2.13.0"


def test_one_device_that_is_not_there_stops_no_other(
    package: Path, harness: Harness, phone: Phone, tmp_path: Path
) -> None:
    listed(tmp_path, phone=phone.uri)
    words = ["run", str(package), "--quick", "--device", "phone", "--device", "adb+tcp://127.0.0.1:9", "--json"]
    done = harness(*words, cwd=tmp_path, timeout_s=600)
    assert done.code == 3
    assert "adb+tcp://127.0.0.1:9" in done.stderr
    statuses = sorted(set(status for found in devices_of(done.json).values() for status in found))
    assert statuses == ["failed", "ok"]


def test_two_names_of_one_phone_are_refused(
    package: Path, harness: Harness, phone: Phone, adb_server: AdbServer, tmp_path: Path
) -> None:
    listed(tmp_path, one=phone.uri, other=adb_server.uri(phone))
    words = ["run", str(package), "--quick", "--device", "one", "--device", "other", "--json"]
    done = harness(*words, cwd=tmp_path, timeout_s=600)
    assert done.code == 3
    assert "is the same device as" in done.stderr


def test_a_link_that_is_cut_in_mid_run_loses_nothing(
    slow: Path, environment: dict[str, str], phone: Phone, tmp_path: Path
) -> None:
    listed(tmp_path, phone=phone.uri)
    process = begin(environment, tmp_path, "run", str(slow), "--device", "phone", "--json")
    a_run_is_on(phone)
    phone.cut()
    time.sleep(20)
    phone.mend()
    stdout, stderr = process.communicate(timeout=300)
    assert finished(process.returncode, stdout), stderr
    assert set(counted(tmp_path).values()) == {1}


def test_a_daemon_that_restarts_in_mid_run_loses_nothing(
    slow: Path, environment: dict[str, str], phone: Phone, tmp_path: Path
) -> None:
    listed(tmp_path, phone=phone.uri)
    process = begin(environment, tmp_path, "run", str(slow), "--device", "phone", "--json")
    a_run_is_on(phone)
    phone.restart()
    stdout, stderr = process.communicate(timeout=300)
    assert finished(process.returncode, stdout), stderr
    assert set(counted(tmp_path).values()) == {1}


def test_a_host_that_is_killed_in_mid_run_leaves_nothing_changed_after_the_next_start(
    slow: Path, harness: Harness, environment: dict[str, str], phone: Phone, tmp_path: Path
) -> None:
    before = phone.settings()
    listed(tmp_path, phone=phone.uri)
    process = begin(environment, tmp_path, "run", str(slow), "--device", "phone", "--json")
    a_run_is_on(phone)
    assert phone.settings() != before  # it is being measured: something was set
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = harness("run", str(slow), "--device", "phone", "--json", cwd=tmp_path, timeout_s=300)
    assert finished(done.code, done.stdout), done.stderr
    assert phone.settings() == before
    assert set(counted(tmp_path).values()) == {1}
    assert list((phone.root / "data/local/tmp/harness/runs").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_puts_the_phone_back_at_once(
    slow: Path, environment: dict[str, str], phone: Phone, tmp_path: Path, number: signal.Signals
) -> None:
    before = phone.settings()
    listed(tmp_path, phone=phone.uri)
    process = begin(environment, tmp_path, "run", str(slow), "--device", "phone", "--json")
    folder = a_run_is_on(phone)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)  # 5 s are promised; a machine that others share is given more
    assert process.returncode == 130, stderr
    assert phone.settings() == before
    assert not folder.exists()


def test_two_on_one_device_the_second_waits_and_says_for_whom(
    slow: Path, environment: dict[str, str], phone: Phone, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The second has another cache, as another computer has: only the lease on the phone keeps it away."""
    other = tmp_path_factory.mktemp("other")
    for name in ("sdk", "runners"):
        (other / name).symlink_to((Path(environment["HARNESS_CACHE"]) / name).resolve())
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        listed(folder, phone=phone.uri)
    words = ("run", str(slow), "--device", "phone", "--json")
    first = begin(environment, folders[0], *words)
    a_run_is_on(phone)
    second = begin(environment, folders[1], *words, HARNESS_CACHE=str(other))
    ends = {}
    threads = [
        threading.Thread(target=lambda p=process, n=name: ends.update({n: p.communicate(timeout=300)}))
        for name, process in (("first", first), ("second", second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (first.returncode, second.returncode) == (0, 0), ends
    assert "waiting" in ends["second"][1]
    for folder in folders:
        assert set(counted(folder).values()) == {1}


def test_a_phone_that_dies_in_mid_push_never_runs_half_a_file(phone: Phone, tmp_path: Path) -> None:
    import hashlib
    import random

    from harness.devices.depot import Depot
    from harness.devices.link import Link
    from harness.devices.spec import resolve

    file = tmp_path / "large"
    file.write_bytes(random.Random(0).randbytes(200 << 20))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    link = Link(resolve(phone.uri))
    depot = Depot(link, "/data/local/tmp/harness", "phone")
    depot.script("store.sh")
    threading.Timer(0.3, phone.restart).start()
    link.patience_s = 60
    try:
        remote = depot.put(file, digest, ".bin")
        assert depot.sha256([remote]) == {remote: digest}
        depot.sweep()
        assert not list((phone.root / "data/local/tmp/harness/store").glob(".tmp-*"))
    finally:
        depot.remove(f"/data/local/tmp/harness/store/{digest}.bin")
        link.close()
