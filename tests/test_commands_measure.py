"""`harness measure FILE` and `harness pick --measure-more`, for real on this computer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.conftest import Harness
from tests.session_kit import schema


def test_a_finished_file_is_measured_with_nothing_but_itself(package: Path, harness: Harness, tmp_path: Path) -> None:
    manifest = json.loads((package / "manifest.json").read_text())
    (fp32,) = (
        b for b in manifest["builds"] if b["variant"] == "fp32" and b["exporter"] == "executorch"
    )
    shutil.copy(package / "files" / f"{fp32['artifact']['sha256']}.pte", tmp_path / "m.pte")
    for _ in range(3):  # others' work on this computer may spoil both repeats
        done = harness("measure", "m.pte", "--repeats", "2", "--json", cwd=tmp_path)
        if done.json["status"] != "invalid":
            break
        assert done.code == 3 and done.json["reason"]
    assert done.code == 0, done.stderr
    schema("measure").validate(done.json)
    assert done.json["metrics"]["latency_ms"]["value"] > 0
    assert "absent" in done.json["metrics"]["output_sqnr_db"]
    assert done.json["backend"] == "xnnpack"

    (ptl,) = (b for b in manifest["builds"] if b["variant"] == "fp32" and b["exporter"] == "torchscript_lite")
    shutil.copy(package / "files" / f"{ptl['artifact']['sha256']}.ptl", tmp_path / "m.ptl")
    assert harness("measure", "m.ptl", "--input", "1,16", "--repeats", "1", cwd=tmp_path).code == 0
    wrong = harness("measure", "m.ptl", "--input", "1,17", "--repeats", "1", "--json", cwd=tmp_path)
    assert wrong.code == 3
    assert wrong.json["status"] == "failed"


def test_more_is_measured_here_for_real(harness: Harness, package: Path, tmp_path: Path) -> None:
    done = harness("run", str(package), "--label", "v1", cwd=tmp_path)
    assert done.code in (0, 3), done.stderr  # a run may have been spoilt by others' work on this computer
    words = ["--minimize", "latency_ms", "--measure-more", "--minutes", "0.05", "--json"]
    found = harness("pick", *words, cwd=tmp_path)
    assert found.code == 0, found.stderr
    schema("pick").validate(found.json)
    told = found.json["measured_more"]
    assert told["runs"] > 0 or "as sure as asked for" in told["reason"] or "would not help" in told["reason"]
    nothing = harness("pick", "--where", "latency_ms <= -1", "--json", cwd=tmp_path)
    assert nothing.code == 1 and nothing.json["pick"] is None and nothing.json["nearest"]
    wrong = harness("pick", "--where", "latncy_ms <= 1", cwd=tmp_path)
    assert (wrong.code, wrong.stdout) == (2, "") and "latency_ms" in wrong.stderr
