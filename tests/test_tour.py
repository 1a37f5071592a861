"""The compression tour: every technique from the committed YAML to numbers from the runner. Its trainings are cut to a
few steps here, so nothing is said of accuracy; `make tour` and `make quality` do that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from harness import registry
from tests.conftest import Harness
from tests.test_pipeline import SCHEMA

TOUR: dict[str, Any] = YAML(typ="safe", pure=True).load(
    Path(__file__).resolve().parent.parent / "configs" / "compression-tour.yaml"
)


def steps(variant: dict[str, Any]) -> list[str]:
    named = (variant.get("sweep") or variant).get("steps", [])
    return [step if isinstance(step, str) else next(iter(step)) for step in named]


def test_every_technique_is_in_it() -> None:
    assert {name for variant in TOUR["variants"] for name in steps(variant)} == set(registry.TECHNIQUES)


@pytest.mark.timeout(1500)
def test_every_row_is_built_and_measured_with_its_accuracy_on_the_device(harness: Harness, tmp_path: Path) -> None:
    short = TOUR | {"train": TOUR["train"] | {"max_steps": 4}, "pick": None,
                    "measure": {"repeats": 1, "min_seconds": 0.05, "min_iterations": 20, "accuracy_samples": 200}}
    (tmp_path / "tour.yaml").write_text(json.dumps(short))
    done = harness("run", "tour.yaml", "--json", cwd=tmp_path, timeout_s=1400)
    assert done.code == 0, done.stderr[-3000:]
    jsonschema.validate(done.json, SCHEMA)
    pte = {r["variant"]: r for r in done.json["results"] if r["exporter"] == "executorch"}
    ptl = {r["variant"]: r for r in done.json["results"] if r["exporter"] == "torchscript_lite"}
    for name in pte:
        rows = [r for r in (pte[name], ptl[name]) if r["status"] == "ok"]
        assert rows, f"{name}: {pte[name]['reason']}; {ptl[name]['reason']}"
        for row in rows:
            assert row["metrics"]["accuracy"]["source"] == "device", row
            assert "value" in row["metrics"]["latency_ms"] and "value" in row["metrics"]["output_sqnr_db"]
            assert row["why"] and row["steps"] is not None
    skipped = {name for name in pte if pte[name]["status"] == "skipped"}
    assert skipped == {"torch-int8", "slim50-torch-int8"}  # what only a .ptl can carry
    last = {v["name"]: steps(v)[-1:] for v in TOUR["variants"] if "name" in v}
    pt2e = {n for n, s in last.items() if s in (["quantize_pt2e"], ["quantize_aware"])} - {"fp16"}
    assert pt2e < {name for name in ptl if ptl[name]["status"] == "skipped"}
    trained = [r for r in pte.values() if r["variant"] in ("prune80", "slim50", "student-int8", "qat")]
    assert all("value" in r["metrics"]["accuracy_drop_control"] for r in trained) and len(trained) == 4
