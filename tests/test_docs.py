"""What the documentation says exists, and what exists is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import registry
from harness.experiment import Check, Data, Experiment, Inputs, Measure, Model, Pick, Train, VariantSpec
from harness.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent
EXPERIMENT = (ROOT / "docs" / "experiment.md").read_text()


@pytest.mark.parametrize("model", [Experiment, Model, Inputs, Data, Train, VariantSpec, Measure, Check, Pick])
def test_every_key_of_the_experiment_file_is_described(model: type) -> None:
    for name in model.model_fields:  # type: ignore[attr-defined]
        assert name == "folder" or name in EXPERIMENT, name


@pytest.mark.parametrize("name", registry.TECHNIQUES)
def test_every_technique_is_described_with_all_its_parameters(name: str) -> None:
    table = EXPERIMENT[EXPERIMENT.index("## variants") : EXPERIMENT.index("## export")]
    assert f"`{name}`" in table
    for parameter in registry.load("technique", name).Params.model_fields:
        assert f"`{parameter}`" in table, parameter


def test_every_exporter_and_metric_is_described() -> None:
    contract = (ROOT / "docs" / "contract.md").read_text()
    for name in registry.EXPORTERS:
        assert f"`{name}`" in EXPERIMENT
    for name in METRICS:
        assert f"`{name}`" in contract


@pytest.mark.parametrize("kind", registry.KINDS)
def test_everything_in_the_registry_loads(kind: str) -> None:
    for name in registry.KINDS[kind]:
        assert registry.load(kind, name)


def test_every_local_link_of_the_readme_leads_somewhere() -> None:
    import re

    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (ROOT / target).exists(), target
