"""What leaves this computer: plans, shipped files, and no path of this computer in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.commands import looking
from harness.commands.common import artifacts_folder, discreet
from harness.commands.dry import tell_plan
from harness.commands.hidden import teller
from harness.commands.reporting import ship
from harness.devices.spec import resolve
from harness.experiment import Experiment
from harness.package import Files
from harness.types import Artifact, Build, Cell, Package, Session


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cannot read /home/ann/models/a.pte: no", "cannot read …/a.pte: no"),
        ("in '/home/ann/x.py', line 3", "in '…/x.py', line 3"),
        ("error:/home/ann/x", "error:…/x"),
        ("at /home/ann", "at …"),
        ("file:///home/ann/x and sqlite:////home/ann/h.db", "file://…/x and sqlite:///…/h.db"),
        ("see https://host.org/a/b", "see https://host.org/a/b"),
        ("models/a/b.pte and ../a/b, 3 inferences/s", "models/a/b.pte and ../a/b, 3 inferences/s"),
    ],
)
def test_an_absolute_path_is_told_by_its_last_part_only(text: str, told: str) -> None:
    assert discreet({"a": [text, 1, None]}, identify=False) == {"a": [told, 1, None]}
    assert discreet(text, identify=True) == text


CELL = Cell(
    variant="a", seed=0, exporter="executorch", backend="xnnpack", input="short", device_id="x", threads=1, cpus="any"
)


def test_an_exported_run_tells_no_path() -> None:
    assert teller({})("reason", "no /home/ann/a.pte") == "no …/a.pte"


def test_doctor_hides_the_stores_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "look", lambda names: [])
    said = json.dumps(list(looking._checks("postgresql://me:secret@127.0.0.1:1/db")))
    assert "postgresql" in said
    assert "secret" not in said


def test_artifacts_at_an_address_are_not_kept_in_a_folder_of_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setenv("HARNESS_ARTIFACTS", "memory://bucket/key")
    assert artifacts_folder("sqlite:///x.db").parent == tmp_path / "artifacts"


def result(case: str, device: str, threads: int, value: float) -> dict[str, Any]:
    return {
        "variant": "a", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": case, "device": device,
        "device_id": device, "threads": threads, "cpus": "any", "context": "host",
        "runtime": "executorch 1", "status": "ok", "reason": None, "caveats": [], "repeats": 3,
        "metrics": {"latency_ms": {"value": value, "unit": "ms", "ci95": [value, value], "source": "runner"}},
    }  # fmt: skip


def build(case: str, files: Files, status: Any = "ok") -> Build:
    content = case.encode()
    artifact = Artifact(
        sha256=files.put(content, ".pte"), suffix=".pte", size_bytes=len(content), compressed_bytes=1,
        runtime="executorch", toolchain={},
    )  # fmt: skip
    return Build(
        variant="a", seed=0, exporter="executorch", backend="xnnpack", input=case, status=status,
        artifact=artifact if status == "ok" else None,
    )  # fmt: skip


def shipped(tmp_path: Path, results: list[dict[str, Any]], **chosen: Any) -> dict[str, Any]:
    files = Files(tmp_path)
    package = Package(
        schema=1, experiment={"name": "exp"}, yaml="", builds=(build("short", files), build("long", files)), checks={},
        nulls={},
    )  # fmt: skip
    session = Session(
        id="s", experiment="exp", kind="experiment", label=None, created_utc="2026-01-01", finished_utc="x",
        quick=False, plan={}, package=package,
    )  # fmt: skip
    document = {"label": None, "date": "2026-01-01T00:00", "results": results}
    cell = {k: v for k, v in results[0].items() if k not in ("metrics", "runtime", "status", "reason", "caveats")}
    ship(cell | {"probability": 0.9, "binding": None} | chosen, document, session, files, tmp_path / "ship")
    manifest: dict[str, Any] = json.loads((tmp_path / "ship" / "manifest.json").read_text())
    return manifest


def test_the_result_that_is_shipped_is_the_one_of_the_picked_threads(tmp_path: Path) -> None:
    results = [result("short", "local", 1, 9.0), result("short", "local", 2, 5.0)]
    manifest = shipped(tmp_path, results, threads=2)
    assert manifest["result"]["threads"] == 2
    assert len(manifest["results"]) == 1
    assert "2 thread(s)" in (tmp_path / "ship" / "MODEL_CARD.md").read_text()
    assert manifest["file"] == "exp-a.pte"


def test_a_pick_over_several_input_cases_ships_each_ones_file(tmp_path: Path) -> None:
    results = [result(case, device, 1, 9.0) for device in ("p", "q") for case in ("short", "long")]
    manifest = shipped(tmp_path, results, input="*", device="*", device_id="*")
    assert [one["file"] for one in manifest["files"]] == ["exp-a-short.pte", "exp-a-long.pte"]
    for one in manifest["files"]:
        assert (tmp_path / "ship" / one["file"]).read_text() == one["input"]
    card = (tmp_path / "ship" / "MODEL_CARD.md").read_text()
    assert card.count("Measured on") == 4
    assert "exp-a-long.pte" in card


EXPERIMENT = {
    "name": "exp",
    "model": {"factory": "m:net", "inputs": {"short": {"shape": [1, 2]}, "long": {"shape": [1, 9]}}},
    "reference": "a",
    "variants": [{"name": "a"}],
    "export": [{"exporter": "executorch", "label": "executorch"}],
}


def test_a_plan_counts_every_input_case(capsys: pytest.CaptureFixture[str]) -> None:
    experiment = Experiment.model_validate_json(json.dumps(EXPERIMENT))
    tell_plan(experiment.model_dump(mode="json"), experiment, [resolve("local")], False, True)
    two = json.loads(capsys.readouterr().out)
    assert [row["input"] for row in two["builds"]] == ["short", "long"]
    assert "unknown" in two["build_minutes"]["absent"]
    one_case = EXPERIMENT | {"model": {"factory": "m:net", "example_inputs": {"shape": [1, 2]}}}
    experiment = Experiment.model_validate_json(json.dumps(one_case))
    tell_plan(experiment.model_dump(mode="json"), experiment, [resolve("local")], False, True)
    one = json.loads(capsys.readouterr().out)
    assert two["devices"][0]["runs_minutes"] == pytest.approx(2 * one["devices"][0]["runs_minutes"], abs=0.11)


def test_a_packages_plan_counts_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builds = [build("short", Files(tmp_path)), build("long", Files(tmp_path), "failed")]
    resolved = Experiment.model_validate_json(json.dumps(EXPERIMENT)).model_dump(mode="json")
    tell_plan(resolved, None, [resolve("local")], False, True, builds)
    told = json.loads(capsys.readouterr().out)
    assert [row["skipped"] is None for row in told["builds"]] == [True, False]
    assert told["build_minutes"] == 0
    assert told["devices"][0]["runs_minutes"] > 0


def test_a_reason_names_no_address_and_a_variant_keeps_its_name() -> None:
    from harness.commands.common import discreet, names_of
    from harness.types import DeviceSpec, SessionDevice

    spec = DeviceSpec(name="ssh://ann@small:2222", uri="ssh://ann@small:2222")
    session = Session(
        id="s", experiment="small", kind="experiment", label=None, created_utc="", finished_utc=None, quick=False,
        plan={}, package=Package(schema=1, experiment={}, yaml="", builds=(), checks={}, nulls={}),
        devices=(SessionDevice(spec=spec, unreached="x"),),
    )  # fmt: skip
    said = {"experiment": "small", "results": [{"reason": "ssh://ann@small:2222: small:2222 (10.1.2.3) is gone"}]}
    told = json.dumps(discreet(said, False, names_of(session)))
    for secret in ("ann", "2222", "10.1.2.3"):
        assert secret not in told
    assert '"experiment": "small"' in told
    assert "is gone" in told
    assert discreet(said, True, names_of(session)) == said


def test_a_label_of_four_numbers_is_no_address() -> None:
    told = discreet({"label": "1.4.0.2", "reason": "no answer from 192.168.1.20:5555"}, False)
    assert told == {"label": "1.4.0.2", "reason": "no answer from …"}
