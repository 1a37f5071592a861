"""executorch: a `.pte` for the ExecuTorch runtime, through the XNNPACK delegate or the portable kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.errors import HarnessError
from harness.export.refused import Refused
from harness.interfaces import Compressed, Exported, Exporter
from harness.loading import first_line
from harness.metrics import nearest
from harness.quiet import quiet
from harness.types import DeviceFacts


class ExecuTorchParams(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    backend: Annotated[
        Literal["xnnpack", "portable"],
        Field(description="xnnpack: fast CPU kernels, portable ones for what it does not know; portable: only those"),
    ] = "xnnpack"
    keep_out: Annotated[
        list[Annotated[str, Field(pattern=r"^[A-Za-z_]\w{0,63}$")]],
        Field(description="operators that XNNPACK is not given, such as convolution: to find the one that is wrong "
                          "or slow there"),
    ] = []

    @model_validator(mode="after")
    def _of_a_delegate(self) -> ExecuTorchParams:
        if self.keep_out and self.backend != "xnnpack":
            raise ValueError("keep_out is for the xnnpack backend; portable kernels do everything themselves")
        return self


class ExecuTorch:
    Params: ClassVar[type[BaseModel]] = ExecuTorchParams
    runtime: ClassVar[str] = "executorch"
    suffix: ClassVar[str] = ".pte"
    accepts: ClassVar[frozenset[str]] = frozenset({"eager", "half", "exported:xnnpack"})

    def refusal(self, form: str) -> str:
        return f"a .pte is made from an eager or fp16 model or a PT2E program for XNNPACK, not from {form}"

    def backend(self, params: Any) -> str:
        return str(params.backend)

    def target(self, facts: DeviceFacts | None) -> str:
        return "any"

    def export(self, model: Compressed, params: Any, out: Path) -> Exported:
        """Raises Refused for a quantized program with portable kernels, HarnessError where lowering fails and for an
        operator to keep out that XNNPACK never takes."""
        taken = _taken_without(params.keep_out) if params.backend == "xnnpack" else None
        if params.backend == "portable" and model.form == "exported:xnnpack":
            raise Refused("portable kernels have no quantized arithmetic: they would run a PT2E program as fp32 "
                          "between conversions, slower than fp32 itself")
        with _failures_told():
            buffer, facts = _lowered(model, params.backend, taken)
        out.write_bytes(buffer)
        return Exported(facts=facts)

    @staticmethod
    def preflight(model: Compressed, params: Any) -> None:
        """Raises HarnessError where torch.export cannot take the model."""
        with _failures_told():
            _program(model)


@contextlib.contextmanager
def _failures_told() -> Iterator[None]:
    """Whatever torch.export and ExecuTorch raise inside becomes a HarnessError; what they print is swallowed."""
    failed: Exception | None = None
    with quiet():
        try:
            yield
        except Exception as error:
            failed = error
    if failed is not None:
        raise HarnessError(f"executorch cannot export this model: {first_line(failed)}",
                           "torch.export and ExecuTorch must know every operation of it") from failed


def _program(model: Compressed) -> Any:
    import torch

    module: Any = model.module
    with torch.no_grad():
        return torch.export.export(module, model.example_inputs, dynamic_shapes=model.dynamic_shapes)


def _taken_without(keep_out: Sequence[str]) -> list[Any] | None:
    """What XNNPACK may take (a configuration for each operator), or None for all that it knows.

    Operators are named as ATen names them, without the overload: `convolution`, `linear`, `relu`."""
    if not keep_out:
        return None
    with quiet():
        from executorch.backends.xnnpack.partition.config import ALL_PARTITIONER_CONFIGS

    named = {config: str(config.target_name).partition(".")[0] for config in ALL_PARTITIONER_CONFIGS}
    for name in keep_out:
        if name not in named.values():
            raise HarnessError(f"keep_out: XNNPACK takes no operator {name!r}", nearest(name, set(named.values())))
    return [config for config, name in named.items() if name not in keep_out]


def _lowered(model: Compressed, backend: str, taken: list[Any] | None) -> tuple[bytes, dict[str, Any]]:
    import torch
    from executorch.exir import to_edge_transform_and_lower

    partitioner = None
    if backend == "xnnpack":
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        partitioner = [XnnpackPartitioner(configs=taken)]
    with torch.no_grad():
        edge = to_edge_transform_and_lower(_program(model), partitioner=partitioner)
        facts = delegation(edge.exported_program().graph_module)
        return bytes(edge.to_executorch().buffer), facts


def delegation(graph: Any) -> dict[str, Any]:
    """`delegated_fraction` and `delegation`: node counts, partitions, and what was left outside, by operator.

    The nodes that only unpack a delegate's outputs (getitem) count on neither side. Fractions of fp32 and int8 are
    not comparable: conversions count as nodes."""
    from executorch.devtools.backend_debug import get_delegation_info

    info = get_delegation_info(graph)
    outside = {
        name.removeprefix("aten_").removesuffix("_default"): row.non_delegated
        for name, row in info.delegation_by_operator.items() if row.non_delegated and name != "getitem"
    }
    left = sum(outside.values())
    inside = info.num_delegated_nodes
    return {
        "delegated_fraction": inside / (inside + left) if inside + left else 0.0,
        "delegation": {"delegated": inside, "undelegated": left, "partitions": info.num_delegated_subgraphs,
                       "left_outside": dict(sorted(outside.items()))},
    }


_: type[Exporter] = ExecuTorch
