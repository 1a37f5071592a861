"""quantize_pt2e: int8 weights, and int8 activations, by torchao's PT2E flow for the XNNPACK delegate.

static: activation ranges come from calibration data. dynamic: they are found at each call (linear layers only:
XNNPACK has no dynamic convolution, so these stay fp32). What comes out is an exported program: no step can follow.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field

from harness.compress.params import Count, Params
from harness.compress.training import fixed
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line
from harness.quiet import quiet


class QuantizePt2eParams(Params):
    scheme: Annotated[
        Literal["static", "dynamic"], Field(description="activation ranges by calibration, or found at each call")
    ] = "static"
    per_channel: Annotated[bool, Field(description="one weight scale per output channel")] = True
    calibration_batches: Annotated[Count, Field(description="at most so many batches of train.batch_size")] = 16
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1


class QuantizePt2e:
    Params: ClassVar[type[BaseModel]] = QuantizePt2eParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "exported:xnnpack"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        import torch

        dynamic = params.scheme == "dynamic"
        with fixed(0, params.threads), torch.no_grad(), quiet():
            try:
                module, seen = _quantized(model, params, bench, dynamic)
            except HarnessError:
                raise
            except Exception as error:
                raise HarnessError(f"quantize_pt2e: {first_line(error)}",
                                   "torch.export must be able to export the model") from error
        changed = model.with_(module=module, form=self.gives, precision="dynamic" if dynamic else "static_int8")
        if dynamic:
            return changed.with_(notes=(*model.notes, "quantize_pt2e: dynamic, linear layers only"))
        if seen:
            return changed.with_(notes=(*model.notes, f"calibrated on {seen} samples"))
        rows = model.example_inputs[0].shape[0] if model.example_inputs[0].dim() else 1
        return changed.with_(calibrated=False, notes=(*model.notes, f"calibrated on {rows} example inputs"))


def _quantized(model: Compressed, params: Any, bench: Workbench, dynamic: bool) -> tuple[Any, int]:
    """The converted program and how many calibration samples it saw (0: the example inputs only)."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    batches = [] if dynamic else _calibration(model, bench, params.calibration_batches)
    graph, free_batch = _graph(model, wanted=bool(batches))
    quantizer = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=params.per_channel, is_dynamic=dynamic)
    )
    prepared = prepare_pt2e(graph, quantizer)
    size = model.example_inputs[0].shape[0] if model.example_inputs[0].dim() else 1
    seen = 0
    for inputs in batches:
        for call in [inputs] if free_batch else _in_calls(inputs, size):
            prepared(*call)
            seen += len(call[0])
    if not seen:
        prepared(*model.example_inputs)
    return convert_pt2e(prepared), seen


def _calibration(model: Compressed, bench: Workbench, limit: int) -> list[tuple[Any, ...]]:
    """Calibration batches in the dtype of the example inputs; none where the items do not fit this input case."""
    if bench.calibration is None:
        return []
    found = []
    for inputs, _ in bench.calibration(bench.batch_size):
        fits = len(inputs) == len(model.example_inputs) and all(
            t.shape[1:] == e.shape[1:] for t, e in zip(inputs, model.example_inputs, strict=True))
        if not fits:
            return []
        found.append(tuple(t.to(e.dtype) for t, e in zip(inputs, model.example_inputs, strict=True)))
        if len(found) == limit:
            break
    return found


def _graph(model: Compressed, wanted: bool) -> tuple[Any, bool]:
    """The exported graph and whether it takes any batch: calibrating one sample at a time is slow, so a free batch
    dimension is tried first; models that fix their batch are exported with it."""
    import torch

    module: Any = model.module
    inputs = model.example_inputs
    if model.dynamic_shapes is not None:
        return torch.export.export(module, inputs, dynamic_shapes=model.dynamic_shapes).module(), False
    if wanted and all(t.dim() for t in inputs):
        rows = max(4, 2 * inputs[0].shape[0])
        larger = tuple(t.repeat(-(-rows // t.shape[0]), *[1] * (t.dim() - 1))[:rows] for t in inputs)
        batch = torch.export.Dim("batch", min=1, max=4096)
        try:
            program = torch.export.export(module, larger, dynamic_shapes=tuple({0: batch} for _ in larger))
            return program.module(), True
        except Exception:  # whatever export raises: this model's batch cannot be free
            pass
    return torch.export.export(module, inputs).module(), False


def _in_calls(inputs: tuple[Any, ...], size: int) -> list[tuple[Any, ...]]:
    """Whole calls of `size` rows; an incomplete last one is left out."""
    return [tuple(t[i : i + size] for t in inputs) for i in range(0, len(inputs[0]) - size + 1, size)]


_: type[Technique] = QuantizePt2e
