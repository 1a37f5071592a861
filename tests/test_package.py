"""A package may come from anywhere: what it names becomes paths only where it is a name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import package as packages
from harness.errors import PackageError
from harness.package import Files
from harness.types import Artifact, Build, CheckSet, Package, TensorFile, TensorSpec

EXPERIMENT = {
    "name": "exp",
    "model": {"factory": "m:net", "example_inputs": {"shape": [1, 2]}},
    "reference": "fp32",
    "variants": [{"name": "fp32", "steps": [{"name": "quantize_pt2e", "params": {"scheme": "static"}}]}],
    "export": [{"exporter": "executorch", "params": {}, "label": "executorch"}],
}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    files = Files(source)
    tensor = TensorFile(
        spec=TensorSpec(dtype="float32", shape=(1, 2)), sha256=files.put(b"12345678", ".bin"), samples=1
    )
    artifact = Artifact(
        sha256=files.put(b"program", ".pte"), suffix=".pte", size_bytes=7, compressed_bytes=7, runtime="executorch",
        toolchain={},
    )  # fmt: skip
    build = Build(
        variant="fp32", seed=0, exporter="executorch", backend="xnnpack", input="default", status="ok",
        artifact=artifact, expected=(tensor,),
    )  # fmt: skip
    check = CheckSet(input="default", inputs=(tensor,), has_data=False)
    package = Package(
        schema=1, experiment=EXPERIMENT, yaml="", builds=(build,), checks={"default": check},
        nulls={"executorch": artifact}, null_input=tensor,
    )  # fmt: skip
    packages.write(package, files, tmp_path / "p")
    return tmp_path / "p"


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    edit(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_is_written_is_read(written: Path) -> None:
    package, files = packages.read(written)
    (build,) = package.builds
    assert build.artifact is not None
    assert files(build.artifact.sha256, ".pte").read_bytes() == b"program"


def test_a_package_narrowed_to_variants_without_the_reference_is_read(written: Path) -> None:
    change(written, lambda m: m["experiment"].update(reference="other"))
    assert packages.read(written)[0].experiment["reference"] == "other"


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a name that climbs": lambda m: m["experiment"].update(name="../evil"),
    "an absolute name": lambda m: m["experiment"].update(name="/tmp/evil"),
    "no name": lambda m: m["experiment"].pop("name"),
    "no measure plan that is one": lambda m: m["experiment"].update(measure={"repeats": "many"}),
    "a pick that is no rule": lambda m: m["experiment"].update(pick={"minimize": "beauty"}),
    "a variant that climbs": lambda m: m["builds"][0].update(variant="../../evil"),
    "an absolute exporter": lambda m: m["builds"][0].update(exporter="/etc/x"),
    "an input that climbs": lambda m: m["builds"][0].update(input="../x"),
    "an input case that is not there": lambda m: m["builds"][0].update(input="other"),
    "a case under another name": lambda m: m["checks"].update({"../x": m["checks"]["default"]}),
    "a hash that is none": lambda m: m["builds"][0]["artifact"].update(sha256="abc"),
    "a hash that climbs": lambda m: m["null_input"].update(sha256="../../../etc/passwd"),
    "a suffix that climbs": lambda m: m["builds"][0]["artifact"].update(suffix="/../../x"),
    "no suffix": lambda m: m["nulls"]["executorch"].update(suffix=""),
    "a suffix in capitals": lambda m: m["builds"][0]["artifact"].update(suffix=".PTE"),
    "a runtime that climbs": lambda m: m["builds"][0]["artifact"].update(runtime="../x"),
    "a dtype nobody knows": lambda m: m["builds"][0]["expected"][0]["spec"].update(dtype="bfloat16"),
    "a negative shape": lambda m: m["null_input"]["spec"].update(shape=[-1]),
    "no builds": lambda m: m.pop("builds"),
}


@pytest.mark.parametrize("edit", [pytest.param(edit, id=name) for name, edit in HOSTILE.items()])
def test_a_manifest_that_we_would_not_write_is_refused(written: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(written, edit)
    with pytest.raises(PackageError, match=r"manifest\.json: "):
        packages.read(written)


def test_a_damaged_file_of_the_hosts_is_mended_from_the_package(written: Path, tmp_path: Path) -> None:
    package, files = packages.read(written)
    assert package.null_input is not None
    sha256 = package.null_input.sha256
    own = tmp_path / "own"
    own.mkdir()
    (own / f"{sha256}.bin").write_bytes(b"1234")  # as a full disk leaves it
    kept = packages.keep(package, files, own)
    assert kept(sha256, ".bin").read_bytes() == b"12345678"


def test_a_file_is_replaced_and_what_was_linked_to_it_stays(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"new").hexdigest()
    (tmp_path / "cache").write_bytes(b"other")
    (tmp_path / f"{sha256}.bin").hardlink_to(tmp_path / "cache")
    assert Files(tmp_path).put(b"new", ".bin") == sha256
    assert (tmp_path / f"{sha256}.bin").read_bytes() == b"new"
    assert (tmp_path / "cache").read_bytes() == b"other"
    assert len(list(tmp_path.iterdir())) == 2
