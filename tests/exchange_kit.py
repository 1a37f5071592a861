"""A store with one run of every kind: measured on a simulated device, and others made up beside them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from harness.analyze import stats
from harness.commands.exporting import export_runs
from harness.commands.importing import import_runs
from harness.exchange import formats
from harness.exchange.check import Checker
from harness.exchange.row import ARRAYS, Row, content_sha256
from harness.exchange.session import Known
from harness.store import Store
from harness.store.raw import EXACT
from harness.types import (
    Artifact,
    Build,
    Cell,
    CheckSet,
    DeviceFacts,
    DeviceSpec,
    Measurement,
    Package,
    Run,
    RunnerSpec,
    SessionDevice,
    TensorFile,
    TensorSpec,
)

FORMS = ("csv", "json", "parquet")
#: what no export tells without --identify
SECRETS = ("SERIAL12345", "ada@", "10.1.2.3", "/home/ada", "hunter2", "lab-pc")
SHA = "ab" * 32
NASTY = '=cmd|" /C calc"!A0,\n"two"\tlines\r\nü\u2028'


def package(name: str = "made-up") -> Package:
    file = TensorFile(spec=TensorSpec(dtype="float32", shape=(1, 16)), sha256="cd" * 32, samples=1)
    build = Build(
        variant="fp32", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
        artifact=Artifact(sha256=SHA, suffix=".pte", size_bytes=10, compressed_bytes=9, runtime="executorch",
                          toolchain={"torch": "2.13.0"}),
    )  # fmt: skip
    experiment = {
        "name": name, "devices": ["adb://SERIAL12345", "ssh://ada@lab-pc"], "folder": "/home/ada/models",
        "measure": {"repeats": 3}, "objectives": ["latency_ms"],
    }  # fmt: skip
    return Package(
        schema=1, experiment=experiment, yaml="name: made-up  # of /home/ada/models\ndevices: [adb://SERIAL12345]\n",
        builds=(build,), checks={"default": CheckSet(input="default", inputs=(file,), has_data=False)}, nulls={},
        toolchain={"torch": "2.13.0"},
    )  # fmt: skip


SPECS = (
    DeviceSpec(name="adb://SERIAL12345", uri="adb://SERIAL12345", runner=RunnerSpec(env={"TOKEN": "hunter2"})),
    DeviceSpec(name="ssh://ada@lab-pc", uri="ssh://ada@lab-pc", workdir="/home/ada/harness"),
)


def run(session: str, **more: Any) -> Run:
    cell = Cell(
        variant="fp32", seed=0, exporter="executorch", backend="xnnpack", input="default", device_id="3f9a01c2",
        threads=1, cpus="any", context="shell-bundle",
    )  # fmt: skip
    common: dict[str, Any] = {
        "id": uuid.uuid4().hex, "session": session, "cell": cell, "purpose": "latency", "repeat": 0, "attempt": 1,
        "counts": True, "status": "ok", "started_utc": "2026-01-02T03:04:05.678+00:00", "artifact_sha256": SHA,
        "provenance": {"harness": "0.1.0", "runner_sha256": SHA},
    }  # fmt: skip
    return Run(**common | more)


def of_every_kind(session: str) -> list[Run]:
    chance = np.random.default_rng(1)
    latency = chance.integers(900_000, 1_100_000, 400).astype(np.uint64)
    slow = latency * np.uint64(10_000)  # beyond 32 bits
    every = {
        name: {"ns": np.arange(3, dtype=np.uint64), "f8": chance.normal(size=3), "bytes": np.arange(9, dtype=np.uint8)}[
            kind
        ]
        for name, kind in ARRAYS.items()
    }
    told = {"uptime_s": 1e-7, "zones_c": {"ü": 1 / 3}, "none": None, "deep": [[{"a": [1, 1.0, True]}]]}
    said = {"runner": {"loop_overhead_ns": 50.5, "runtime": "executorch", "version": "1.5.1"}, "before": told}
    made = [
        run(session, arrays={"latency_ns": latency, "input_ns": latency // 9, "warmup_ns": latency[:0]},
            summary=stats.summary(latency), conditions=said, boot_id="b", start_boottime_ns=0,
            end_boottime_ns=2**62, block=7, position=3, caveats=("noisy", "drift"),
            measurements=(Measurement(metric="load_ms", values=(0.1 + 0.2,)),)),
        run(session, repeat=1, arrays={"latency_ns": slow}, summary=stats.summary(slow)),
        run(session, purpose="sustained", arrays=every),
        run(session, purpose="accuracy", arrays={"score": np.array([1.0, -0.0, np.nan, np.inf, -np.inf, 5e-324])},
            measurements=(Measurement(metric="accuracy", values=(0.5,), phase="accuracy", source="device"),)),
        run(session, purpose="memory", started_utc="", artifact_sha256="", measurements=(
            Measurement(metric="peak_memory_bytes", values=(1e7,), phase="peak"),
            Measurement(metric="load_ms", values=(1.0, 2.5), phase="load"))),
        run(session, purpose="check", attempt=1, counts=False, status="failed", reason=NASTY,
            conditions={"reason": "adb://SERIAL12345 did not answer", "path": "/home/ada/models/x.pte"}),
        run(session, purpose="check", attempt=2, counts=False, status="invalid",
            reason="ssh://ada@lab-pc at 10.1.2.3:22 was lost, see /home/ada/log"),
        run(session, purpose="check", attempt=3, counts=False, status="skipped", reason="-"),
    ]  # fmt: skip
    return [
        dataclasses.replace(
            one,
            id=hashlib.md5(f"{session} {number}".encode()).hexdigest(),
            started_utc=one.started_utc and f"2026-01-02T03:04:{number:02}.678+00:00",
        )
        for number, one in enumerate(made)
    ]


def filled(url: str, label: str | None = "=1+1, \"v'1\"", finished: bool = True) -> str:
    """A session of made-up runs in the store of this URL; its id."""
    store = Store.open(url, create=True)
    session = store.begin(
        package=package(), plan={"repeats": 3, "seed": 5}, plan_key="ef" * 32, label=label, quick=False, devices=SPECS
    )
    facts = DeviceFacts(device_id="3f9a01c2", abi="aarch64", cores=8, os="Android 16", clusters=({"cpus": [0]},))
    store.put_device(session, SessionDevice(spec=SPECS[0], facts=facts, runners={"executorch": SHA}))
    store.put_device(session, SessionDevice(spec=SPECS[1], unreached="ssh://ada@lab-pc: no route to 10.1.2.3"))
    for one in of_every_kind(session):
        assert store.append(one)
    if finished:
        store.finish(session)
    store.close()
    return session


def exported(url: str, file: Path, **more: Any) -> Path:
    asked: dict[str, Any] = {"form": None, "samples": True, "experiment": None, "label": None, "identify": True}
    assert export_runs(file, store=url, json_out=False, **asked | more) == 0
    return file


def imported(file: Path, url: str, dry_run: bool = False) -> None:
    assert import_runs(file, dry_run, url, False) == 0


#: tables that a file carries
CARRIED = ("sessions", "session_devices", "runs", "samples")


def tables(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every column of every row as it stands there, JSON as its text."""
    store = Store.open(url)
    try:
        with store.engine.connect() as connection:
            return {
                name: sorted(
                    (tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)
                     for row in connection.execute(select(EXACT[name]))), key=repr,
                )
                for name in (*CARRIED, "imports", "baselines")
            }  # fmt: skip
    finally:
        store.close()


def rows_of(file: Path) -> list[Row]:
    return list(formats.read(formats.by_content(file), file))


def checked(rows: Iterator[Row] | list[Row]) -> list[tuple[Known | None, Mapping[str, Any], Mapping[str, Any]]]:
    check = Checker()
    return [check(number, dict(row)) for number, row in enumerate(rows, 1)]


def sealed(row: Row) -> Row:
    """The row with the hash of what it says now, as somebody has it who writes such a file himself."""
    arrays = {}
    for name, kind in ARRAYS.items():
        value = row[name]
        if isinstance(value, bytes):
            arrays[name] = np.frombuffer(value, np.uint8)
        elif isinstance(value, list):
            whole = all(isinstance(v, int) and 0 <= v < 2**64 for v in value)
            if kind == "ns" and whole:
                arrays[name] = np.array(value, np.uint64 if value and max(value) > 0xFFFFFFFF else np.uint32)
            elif kind == "f8" and all(isinstance(v, int | float) for v in value):
                arrays[name] = np.array(value, np.float64)
    own = {name: row[name] for name in row if name not in ARRAYS} | dict.fromkeys(ARRAYS) | arrays
    return row | {"content_sha256": content_sha256(own)}


@contextmanager
def record(row: Row) -> Iterator[dict[str, Any]]:
    """The session_record, to be changed in place."""
    found = json.loads(row["session_record"])
    yield found
    row["session_record"] = json.dumps(found)
