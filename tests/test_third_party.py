"""A technique from another distribution, by entry point: the very file and line that the documentation shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.conftest import Harness

DOC = (Path(__file__).resolve().parent.parent / "docs" / "adding-a-technique.md").read_text()


@pytest.fixture
def installed(tmp_path: Path, project: Path) -> Path:
    """A folder that Python looks into: what pip would lay there of such a package."""
    (code,) = re.findall(r"```python\n(.*?)```", DOC, re.S)
    folder = tmp_path / "site"
    info = folder / "my_techniques-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "my_techniques.py").write_text(code)
    group, line = re.search(r"`\[project\.entry-points\.\"(.*?)\"\]`, then\n`(.*?)`", DOC).groups()  # type: ignore[union-attr]
    (info / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-techniques\nVersion: 1.0\n")
    return folder


def test_the_page_that_shows_it_is_short() -> None:
    assert len(DOC.splitlines()) < 40


def test_a_technique_from_outside_the_package_builds_and_its_parameters_are_validated(
    installed: Path, project: Path, harness: Harness, tmp_path: Path
) -> None:
    (tmp_path / "small_model.py").write_text((project / "small_model.py").read_text())
    text = (project / "small.yaml").read_text().replace(
        "  - {name: int8,", "  - {name: clipped, steps: [{clip_weights: {sigmas: 0.5}}]}\n  - {name: int8,")
    (tmp_path / "clip.yaml").write_text(text)
    more = {"PYTHONPATH": str(installed)}
    done = harness("build", "clip.yaml", "--variant", "clipped", "-o", "package", "--json", cwd=tmp_path, **more)
    assert done.code == 0, done.stderr
    assert {row["status"] for row in done.json["builds"]} == {"ok"}
    assert any("clip_weights: at 0.5 sigmas" in note for row in done.json["builds"] for note in row["notes"])

    (tmp_path / "wrong.yaml").write_text(text.replace("sigmas: 0.5", "sigma: 0.5"))
    refused = harness("build", "wrong.yaml", cwd=tmp_path, **more)
    assert refused.code == 2 and "clip_weights.sigma: unknown key" in refused.stderr
    unknown = harness("build", "clip.yaml", cwd=tmp_path)
    assert unknown.code == 2 and "unknown technique 'clip_weights'" in unknown.stderr


def test_what_it_does_is_what_the_page_says(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))
    from harness import registry
    from harness.interfaces import Compressed

    technique = registry.load("technique", "clip_weights")
    layer = torch.nn.Linear(64, 64)
    before = float(layer.weight.std(unbiased=False))
    technique().apply(Compressed(module=layer, form="eager", example_inputs=()), technique.Params(sigmas=0.5), None)
    assert float(layer.weight.detach().abs().max()) <= 0.5 * before * 1.0001
