"""A package of made-up models, for measuring simulated devices without building anything: no torch, no compiler."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from harness.experiment import Measure
from harness.sim.model import SimModel
from harness.types import (
    Artifact,
    Build,
    CheckSet,
    DeviceSpec,
    Package,
    RunnerSpec,
    TensorFile,
    TensorSpec,
)

#: of harness.package, which this package is for
SCHEMA = 1
NULL = SimModel(latency_ms=0.001, memory_bytes=4096, load_ms=0.5, power_w=None, name="(null)")
_INPUT = TensorSpec(dtype="float32", shape=(1,))


class Files(Protocol):
    """Where the files go (harness.package.Files)."""

    def put(self, content: bytes, suffix: str) -> str: ...


def sim_device(uri: str, **more: Any) -> DeviceSpec:
    """The device at `uri` with its own runner: nothing has to be built or pushed for it."""
    return DeviceSpec(name=uri, uri=uri, runner=RunnerSpec(command=("sim-runner",)), **more)


def sim_package(
    models: Mapping[str, SimModel],
    files: Files,
    *,
    sizes: Mapping[str, int] | None = None,
    objectives: Sequence[str] = ("latency_ms", "model_memory_bytes", "size_bytes"),
    pick: Mapping[str, Any] | None = None,
    **measure: Any,
) -> Package:
    """Variant name -> its truth; the first is the reference. `sizes`: what an artifact's size is said to be.

    `measure`: keys of the experiment's `measure`. Nothing is expected of the outputs, so none is checked."""
    number = TensorFile(spec=_INPUT, sha256=files.put(bytes(4), ".bin"), samples=1)
    builds = tuple(
        Build(
            variant=name,
            seed=0,
            exporter="executorch",
            backend="simulated",
            input="default",
            status="ok",
            artifact=_artifact(model, files, (sizes or {}).get(name)),
        )
        for name, model in models.items()
    )
    experiment = {
        "name": "simulated",
        "data": None,
        "reference": next(iter(models)),
        "measure": Measure(**measure).model_dump(mode="json"),
        "check": {},
        "objectives": list(objectives),
        "pick": None if pick is None else dict(pick),
        "devices": [],
    }
    return Package(
        schema=SCHEMA,
        experiment=experiment,
        yaml="",
        builds=builds,
        checks={"default": CheckSet(input="default", inputs=(number,), has_data=False)},
        nulls={"executorch": _artifact(NULL, files, None)},
        null_input=number,
    )


def _artifact(model: SimModel, files: Files, size: int | None) -> Artifact:
    content = model.content()
    size = len(content) if size is None else size
    return Artifact(
        sha256=files.put(content, ".pte"),
        suffix=".pte",
        size_bytes=size,
        compressed_bytes=size,
        runtime="executorch",
        toolchain={"simulated": hashlib.sha256(content).hexdigest()[:8]},
    )
