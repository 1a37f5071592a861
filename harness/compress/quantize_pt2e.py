"""quantize_pt2e: fewer bits for the XNNPACK delegate, without training.

static: int8 weights and activations by torchao's PT2E flow, ranges from calibration data. dynamic and 8a4w: linear
layers with int8 or int4 weights, activations int8 with ranges found at each call; everything else stays fp32. fp16:
half precision inside. What comes out cannot be changed by a later step.

There are no weight-only schemes: XNNPACK takes such programs and loses the scales, and the files give outputs that
are wrong by orders of magnitude while their largest class may still be right.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from harness.compress.dynamic_linear import linear_layers, quantize_linear
from harness.compress.folding import fold_batch_norms
from harness.compress.half import halved, wrapped_shapes
from harness.compress.params import Count, Params
from harness.compress.pt2e import (
    calibration_batches,
    check_exportable,
    converted,
    exported,
    in_calls,
    kept_layers,
    quantizer,
    rows,
)
from harness.compress.sensitivity import layer_sensitivities, ranked
from harness.compress.training import fixed
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line
from harness.quiet import quiet

STEP = "quantize_pt2e"


class QuantizePt2eParams(Params):
    scheme: Annotated[
        Literal["static", "dynamic", "8a4w", "fp16"],
        Field(description="int8 with calibrated ranges; int8 or 4-bit linear layers with ranges found at each call; "
                          "half precision"),
    ] = "static"
    per_channel: Annotated[bool, Field(description="static: one weight scale per output channel")] = True
    observer: Annotated[
        Literal["histogram", "minmax", "moving_average"],
        Field(description="static: activation ranges with the least error, of all that was seen, or of its mean"),
    ] = "histogram"
    calibration_batches: Annotated[Count, Field(description="at most so many batches of train.batch_size")] = 16
    group_size: Annotated[
        int, Field(ge=32, le=4096, multiple_of=32, description="8a4w: inputs that share a weight scale")
    ] = 32
    keep: Annotated[list[str], Field(default_factory=list, description="layers that stay in float")]
    keep_sensitive: Annotated[
        int, Field(ge=0, description="so many layers more stay in float: those that int8 hurts most")
    ] = 0
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1

    @model_validator(mode="after")
    def _applicable(self) -> QuantizePt2eParams:
        """What a scheme has no use for is refused, not passed over."""
        unused = {"per_channel": self.scheme != "static", "observer": self.scheme != "static",
                  "group_size": self.scheme != "8a4w", "keep": self.scheme == "fp16",
                  "keep_sensitive": self.scheme == "fp16"}
        defaults = type(self).model_construct()
        for name, is_unused in unused.items():
            if is_unused and getattr(self, name) != getattr(defaults, name):
                raise ValueError(f"scheme {self.scheme} has no {name}")
        return self


class QuantizePt2e:
    Params: ClassVar[type[BaseModel]] = QuantizePt2eParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "exported:xnnpack"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        return {"gives": "half" if params.scheme == "fp16" else "exported:xnnpack",
                "reads_data": params.scheme == "static" or params.keep_sensitive > 0}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        program = check_exportable(model, bench.example_inputs, STEP)
        kept = kept_layers(model, program.graph, params.keep, STEP)
        if params.scheme in ("dynamic", "8a4w"):
            linear_layers(model, program.graph, kept, _group_size(params), STEP)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where the model cannot be exported, or nothing in it can be quantized."""
        import torch

        scheme = {"static": _static, "dynamic": _dynamic, "8a4w": _dynamic, "fp16": _half}[params.scheme]
        with fixed(0, params.threads), torch.no_grad(), quiet():
            try:
                return scheme(model, params, bench)
            except HarnessError:
                raise
            except Exception as error:  # torchao fails in many ways on what it does not know
                raise HarnessError(f"{STEP}: this model cannot be quantized so: {first_line(error)}",
                                   "name the layers that it fails on in `keep`, or use another scheme") from error


def _static(model: Compressed, params: Any, bench: Workbench) -> Compressed:
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    batches = calibration_batches(model, bench, params.calibration_batches)
    graph, free_batch = exported(model, free_batch=bool(batches))
    calls = batches if free_batch else in_calls(batches, rows(model.example_inputs))
    if not all(bool(t.isfinite().all()) for inputs in calls for t in inputs):
        raise HarnessError(f"{STEP}: calibration: not finite (nan or inf)", "leave such samples out of calibration")
    kept = _kept(model, graph, params, bench, calls)
    prepared = prepare_pt2e(graph, quantizer(_config(params), kept))
    for inputs in calls or [model.example_inputs]:
        prepared(*inputs)
    notes = [_calibrated(model, bench, sum(map(rows, calls))), *_kept_note(kept)]
    return model.with_(module=converted(prepared, STEP), form="exported:xnnpack", precision="static_int8",
                       calibrated=bool(calls), notes=(*model.notes, *notes))


def _config(params: Any) -> Any:
    """XNNPACK's symmetric configuration with the observer of the parameters for activations."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import get_symmetric_quantization_config
    from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver

    observers: dict[str, Any] = {"minmax": MinMaxObserver, "moving_average": MovingAverageMinMaxObserver,
                                 "histogram": HistogramObserver}
    config = get_symmetric_quantization_config(is_per_channel=params.per_channel)
    observer = observers[params.observer].with_args(eps=2**-12)  # the smallest scale, as in XNNPACK's own
    spec = dataclasses.replace(config.input_activation, observer_or_fake_quant_ctr=observer)
    return dataclasses.replace(config, input_activation=spec, output_activation=spec)


def _calibrated(model: Compressed, bench: Workbench, seen: int) -> str:
    if seen:
        return f"calibrated on {seen} samples"
    unfit = bench.calibration is not None and any(True for _ in bench.calibration(bench.batch_size))
    return f"calibrated on {rows(model.example_inputs)} example inputs" + (
        ": the calibration data has other shapes" if unfit else "")


def _dynamic(model: Compressed, params: Any, bench: Workbench) -> Compressed:
    module: Any = model.module
    program = check_exportable(module, model.example_inputs, STEP)
    batches = calibration_batches(model, bench, params.calibration_batches) if params.keep_sensitive else []
    kept = _kept(model, program, params, bench, batches)
    four, eight = linear_layers(module, program.graph, kept, _group_size(params), STEP)
    quantize_linear(module, four, eight, params.group_size)
    notes = [f"{STEP}: {params.scheme}, linear layers only", *_kept_note(kept)]
    if four and eight:
        notes.append(f"{STEP}: int8 weights, inputs no multiple of {params.group_size}: {', '.join(eight)}")
    graph, _ = exported(model, free_batch=True)  # `module` was changed in place
    return model.with_(module=graph, form="exported:xnnpack", precision="int4" if four else "dynamic",
                       notes=(*model.notes, *notes))


def _group_size(params: Any) -> int | None:
    return int(params.group_size) if params.scheme == "8a4w" else None


def _half(model: Compressed, params: Any, bench: Workbench) -> Compressed:
    module: Any = model.module
    folded = fold_batch_norms(module, check_exportable(module, model.example_inputs, STEP))
    wrapped = halved(module, model.example_inputs)
    notes = [f"{STEP}: fp16, {len(folded)} batch norms folded before" if folded else f"{STEP}: fp16"]
    return model.with_(module=wrapped, form="half", precision="fp16", notes=(*model.notes, *notes),
                       dynamic_shapes=wrapped_shapes(module, model.dynamic_shapes))


def _kept(model: Compressed, program: Any, params: Any, bench: Workbench, calls: list[Any]) -> list[str]:
    """The layers of `keep`, and the `keep_sensitive` most sensitive of the others, worst first."""
    module: Any = model.module
    kept = kept_layers(module, program.graph, params.keep, STEP)
    if params.keep_sensitive:
        found = layer_sensitivities(module, model.example_inputs, calls, treatments=("int8",), progress=bench.progress)
        others = [one.name for one in ranked(found, "int8") if one.name not in kept]
        kept += others[: params.keep_sensitive]
    return kept


def _kept_note(kept: list[str]) -> list[str]:
    return [f"{STEP}: kept in float: {', '.join(kept)}"] if kept else []


_: type[Technique] = QuantizePt2e
