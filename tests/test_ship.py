"""`pick -o DIR`: the file, a manifest that can be checked, a model card; all of it, or nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands.shipping import refuse_file, ship
from harness.errors import PackageError, StoreError, UsageError
from harness.more import Rule
from harness.package import Files
from harness.types import Artifact, Build, Constraint, DeviceFacts, DeviceSpec, Package, Session, SessionDevice

SERIAL = "R58N12ABCDE"
RULE = Rule(minimize="latency_ms", where=[Constraint(metric="accuracy_drop", op="<=", bound=0.01)], confidence=0.9)


def result(**more: Any) -> dict[str, Any]:
    return {
        "variant": "int8", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
        "device": "adb://1a2b3c4d", "device_id": "1a2b3c4d", "threads": 1, "cpus": "any", "context": "shell-ndk",
        "runtime": "executorch 1.5.1", "status": "ok", "reason": None, "caveats": [], "repeats": 3,
        "runs": ["r1", "r2"],
        "conditions": {"load": 0.1, "note": "/home/ann/secret/place at ann@10.0.0.7"}, "simulated": False,
        "metrics": {
            "latency_ms": {"value": 1.0, "unit": "ms", "ci95": [0.9, 1.1], "source": "runner"},
            "energy_j": {"absent": f"adb://{SERIAL} has no meter"},
        },
    } | more  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "artifacts").mkdir()
    return Files(tmp_path / "artifacts")


def session(files: Files) -> Session:
    content = b"a model"
    artifact = Artifact(
        sha256=files.put(content, ".pte"), suffix=".pte", size_bytes=len(content), compressed_bytes=1,
        runtime="executorch", toolchain={"executorch": "1.5.1"},
    )  # fmt: skip
    own = Build(
        variant="int8", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
        artifact=artifact,
    )  # fmt: skip
    facts = DeviceFacts(device_id="1a2b3c4d", abi="arm64-v8a", cores=8)
    spec = DeviceSpec(name=f"adb://{SERIAL}", uri=f"adb://{SERIAL}")
    package = Package(
        schema=1, experiment={"name": "exp"}, yaml="", builds=(own,), checks={}, nulls={}, toolchain={"torch": "2.10"}
    )
    return Session(
        id="s", experiment="exp", kind="experiment", label="v1", created_utc="2026-01-01", finished_utc="x",
        quick=False, plan={}, package=package, devices=(SessionDevice(spec=spec, facts=facts),),
    )  # fmt: skip


def shipped(files: Files, out: Path, identify: bool = False, **more: Any) -> dict[str, Any]:
    row = result(**more)
    cell = {k: row[k] for k in ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads",
                                "cpus", "context")}  # fmt: skip
    up = cell | {"variant": "fp32"}
    chosen = cell | {"probability": 0.8, "binding": None, "runner_up": up, "settle": "about 12 repeats"}
    document = {"label": "v1", "date": "2026-01-01T00:00", "results": [row]}
    ship(chosen, document, session(files), files, out, RULE, identify)
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_text())
    return manifest


def test_every_file_is_there_with_its_hash_and_the_evidence(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "ship"
    manifest = shipped(files, out)
    assert sorted(path.name for path in out.iterdir()) == ["MODEL_CARD.md", "exp-int8.pte", "manifest.json"]
    for name, sha256 in manifest["hashes"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == sha256
    assert set(manifest["hashes"]) == {"MODEL_CARD.md", "exp-int8.pte"}
    assert manifest["hashes"]["exp-int8.pte"] == manifest["artifact"]["sha256"]
    assert manifest["versions"]["toolchain"] == {"torch": "2.10", "executorch": "1.5.1"}
    assert manifest["versions"]["harness"] and manifest["versions"]["runtimes"] == ["executorch 1.5.1"]
    assert manifest["rule"] == {"minimize": "latency_ms", "where": ["accuracy_drop <= 0.01"], "confidence": 0.9,
                                "selected_on": "test"}  # fmt: skip
    (evidence,) = manifest["evidence"]
    assert evidence["runs"] == ["r1", "r2"] and evidence["conditions"]["load"] == 0.1
    assert evidence["intervals"] == {"latency_ms": {"value": 1.0, "unit": "ms", "ci95": [0.9, 1.1]}}
    assert (manifest["session"], manifest["pick"]["probability"]) == ("s", 0.8)
    assert manifest["pick"]["runner_up"]["variant"] == "fp32"
    card = (out / "MODEL_CARD.md").read_text()
    assert "runner-up: `fp32`" in card and "at confidence 0.9" in card
    assert "about 12 repeats" in card and manifest["artifact"]["sha256"] in card
    assert not list(tmp_path.glob(".ship*"))


def test_nothing_of_it_names_a_serial_a_person_or_a_place(files: Files, tmp_path: Path) -> None:
    shipped(files, tmp_path / "ship")
    for path in (tmp_path / "ship").iterdir():
        text = path.read_text()
        for secret in ("/home/ann", "10.0.0.7", "ann@", str(tmp_path), SERIAL):
            assert secret not in text, path
    assert "/home/ann" in json.dumps(shipped(files, tmp_path / "told", identify=True))


def test_a_file_that_is_gone_leaves_nothing_half_written(files: Files, tmp_path: Path) -> None:
    gone = Files(tmp_path / "wiped")
    gone.folder.mkdir()
    made = session(files)
    row = result()
    document = {"label": None, "date": "2026-01-01T00:00", "results": [row]}
    with pytest.raises(PackageError, match="the file is missing") as caught:
        ship(row | {"probability": 0.9}, document, made, gone, tmp_path / "ship", RULE)
    assert caught.value.hint and "harness run" in caught.value.hint and caught.value.exit_code == 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["artifacts", "wiped"]


def test_a_file_that_is_not_what_its_name_says_is_not_shipped(files: Files, tmp_path: Path) -> None:
    made = session(files)
    (path,) = files.folder.glob("*.pte")
    path.unlink()
    path.write_bytes(b"other")
    document = {"label": None, "date": "2026-01-01T00:00", "results": [result()]}
    with pytest.raises(PackageError, match="not what its name says"):
        ship(result() | {"probability": 0.9}, document, made, files, tmp_path / "ship", RULE)
    assert [p.name for p in tmp_path.iterdir()] == ["artifacts"]


def test_an_older_shipment_is_replaced_and_a_place_that_cannot_be_written_is_said(files: Files, tmp_path: Path) -> None:
    out = tmp_path / "ship"
    shipped(files, out)
    (out / "exp-int8.pte").write_bytes(b"stale")
    manifest = shipped(files, out)
    assert hashlib.sha256((out / "exp-int8.pte").read_bytes()).hexdigest() == manifest["hashes"]["exp-int8.pte"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        refuse_file(tmp_path / "file")
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "manifest.json").write_text('{"schema": 1, "builds": []}')
    with pytest.raises(UsageError, match=r"a manifest\.json of something else"):
        refuse_file(tmp_path / "package")
    with pytest.raises(StoreError, match="cannot write"):
        shipped(files, tmp_path / "file" / "below")


