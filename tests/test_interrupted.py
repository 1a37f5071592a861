"""Killed at any moment and started again: every planned run counts exactly once, and no two runners ever lived."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from harness import schedule
from harness.store import Store
from tests.conftest import Harness, hears_ctrl_c
from tests.undisturbed import given_up, planned_as

KILLS = 20
RUNNER = "harness-runner-"


def runners_alive(workdir: Path) -> list[int]:
    """Processes whose program is a runner that was deployed to this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            program = os.readlink(entry / "exe") if entry.name.isdigit() else ""
        except OSError:
            continue
        if RUNNER in program and program.startswith(str(workdir)):
            found.append(int(entry.name))
    return found


class Watch(threading.Thread):
    """Looks all the time how many runners are alive together."""

    def __init__(self, workdir: Path) -> None:
        super().__init__(daemon=True)
        self.workdir, self.most, self.over = workdir, 0, threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            self.most = max(self.most, len(runners_alive(self.workdir)))
            time.sleep(0.002)


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A cache, and so a device folder, of this test alone."""
    own = tmp_path / "cache"
    own.mkdir()
    for name in ("sdk", "runners"):
        (own / name).symlink_to((cache / name).resolve())
    return own


def start(package: Path, cwd: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "run", str(package), "--json"]
    return subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_killed_at_any_moment_it_goes_on_and_counts_every_run_once(
    package: Path, harness: Harness, environment: dict[str, str], own_cache: Path, tmp_path: Path
) -> None:
    mine = environment | {"HARNESS_CACHE": str(own_cache)}
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    watch = Watch(own_cache / "device")
    watch.start()
    # The first start deploys; its kills fall into that too. Later ones fall where the runs are made.
    for kill in range(KILLS):
        process = start(package, tmp_path, mine)
        time.sleep(chance.uniform(0.3, 2.0) + (1.0 if kill % 2 else 0.0))
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = harness("run", str(package), "--json", cwd=tmp_path, HARNESS_CACHE=str(own_cache))
    watch.over.set()
    watch.join()
    assert done.code == 0, f"seed {seed}: {done.stderr}"
    assert watch.most == 1, f"seed {seed}: {watch.most} runners were alive together"
    assert runners_alive(own_cache / "device") == []
    assert list((own_cache / "device" / "runs").iterdir()) == []

    store = Store.open(f"sqlite:///{tmp_path}/.harness/harness.db")
    lost_in: dict[str, int] = {}
    for session in store.list_sessions():
        if session["finished_utc"] is None:
            continue
        runs = store.runs(session["id"])
        assert all(run.status == "ok" for run in runs if run.counts)
        counted = Counter(planned_as(run) for run in runs if run.counts)
        assert set(counted.values()) == {1}
        lost = given_up(runs)
        by_purpose = Counter(what[2] for what in {*counted, *lost})
        by_purpose.pop("burn_in", None)
        # memory: with two baselines
        expected = {"accuracy": 3, "memory": 5 * 3, "sentinel": schedule.ENROLMENTS, "latency": 3 * 3}
        assert by_purpose == expected, f"seed {seed}"
        lost_in[session["id"]] = sum(what[2] == "latency" for what in lost)
    assert done.json["session"] in {s["id"] for s in store.list_sessions() if s["finished_utc"]}
    measured = sum(r["repeats"] for r in done.json["results"] if r["status"] != "skipped")
    assert measured == 3 * 3 - lost_in[done.json["session"]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_ends_its_runner_at_once_and_says_how_to_go_on(
    package: Path, environment: dict[str, str], own_cache: Path, tmp_path: Path, number: signal.Signals
) -> None:
    mine = environment | {"HARNESS_CACHE": str(own_cache)}
    command = [sys.executable, "-m", "harness", "run", str(package), "--json"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=mine, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=hears_ctrl_c
    )
    began = time.monotonic()
    while not runners_alive(own_cache / "device"):
        assert process.poll() is None and time.monotonic() - began < 120
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)  # 5 s are promised; a machine that others share is given more
    assert process.returncode == 130
    assert stdout == b""
    assert b"run again to go on" in stderr
    assert b"Traceback" not in stderr
    assert runners_alive(own_cache / "device") == []


def test_a_run_that_ended_after_its_host_died_is_collected_and_not_made_again(
    package: Path, harness: Harness, environment: dict[str, str], own_cache: Path, tmp_path: Path
) -> None:
    mine = environment | {"HARNESS_CACHE": str(own_cache)}
    runs = own_cache / "device" / "runs"
    process = start(package, tmp_path, mine)
    latency = None
    while latency is None:  # a latency run has begun: its notes say so
        assert process.poll() is None
        for notes in runs.glob("*/notes.json"):
            try:
                text = json.loads(notes.read_text())
            except (OSError, ValueError):
                continue
            if text["purpose"] == "latency" and (notes.parent / "pid").exists():
                latency = text
        time.sleep(0.002)
    process.kill()
    process.wait()
    left = runs / latency["run"]
    for _ in range(500):  # the runner goes on without its host, and ends
        if not left.exists() or (left / "exit").exists():
            break
        time.sleep(0.02)
    assert (left / "exit").read_text() == "0\n"
    done = harness("run", str(package), "--json", cwd=tmp_path, HARNESS_CACHE=str(own_cache))
    assert done.code == 0
    store = Store.open(f"sqlite:///{tmp_path}/.harness/harness.db")
    assert [r.counts for r in store.runs(done.json["session"]) if r.id == latency["run"]] == [True]
