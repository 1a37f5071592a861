"""quantize_eager: int8 by torch's own quantized kernels (torch.ao, FX graph mode), the path that TorchScript-lite can
carry; PT2E programs cannot be a .ptl.

static: activation ranges come from calibration data. dynamic: found at each call, linear layers only. A file runs with
any engine; which one it is made for decides how far its ranges reach. x86 keeps a bit back (7 of 8), since processors
without VNNI add two products in 16 bits; onednn and qnnpack do not.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from harness.compress.outputs import layer_names
from harness.compress.params import Count, Params
from harness.compress.pt2e import calibration_batches, in_calls, rows
from harness.compress.training import fixed
from harness.errors import HarnessError, ToolchainError
from harness.interfaces import Compressed, Technique, Workbench
from harness.loading import first_line
from harness.quiet import quiet

STEP = "quantize_eager"


class QuantizeEagerParams(Params):
    scheme: Annotated[
        Literal["static", "dynamic"], Field(description="activation ranges by calibration, or found at each call")
    ] = "static"
    engine: Annotated[
        Literal["auto", "x86", "onednn", "qnnpack"],
        Field(description="kernels it is made for; auto: x86 where every device is this x86 computer, else qnnpack"),
    ] = "auto"
    per_channel: Annotated[bool, Field(description="static: one weight scale per output channel")] = True
    observer: Annotated[
        Literal["histogram", "minmax"], Field(description="static: ranges with the least error, or all that was seen")
    ] = "histogram"
    calibration_batches: Annotated[Count, Field(description="static: at most so many batches of train.batch_size")] = 16
    keep: Annotated[list[str], Field(default_factory=list, description="layers that stay in float, by name or glob")]
    threads: Annotated[int, Field(ge=1, le=256, description="threads of this step; part of its key")] = 1

    @model_validator(mode="after")
    def _applicable(self) -> QuantizeEagerParams:
        defaults = type(self).model_construct()
        for name in ("per_channel", "observer", "calibration_batches"):
            if self.scheme == "dynamic" and getattr(self, name) != getattr(defaults, name):
                raise ValueError(f"{name} is of use only with scheme: static")
        return self


class QuantizeEager:
    Params: ClassVar[type[BaseModel]] = QuantizeEagerParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "quantized:torch"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False

    @staticmethod
    def traits(params: Any) -> dict[str, Any]:
        return {"reads_data": params.scheme == "static", "reads_machine": params.engine == "auto"}

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        engine_of(params, bench)
        layer_names(model, params.keep, STEP)
        if params.scheme == "static":
            _traceable(model)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where the model cannot be traced or has nothing to quantize."""
        import torch

        engine = engine_of(params, bench)
        make = _static if params.scheme == "static" else _dynamic
        with fixed(0, params.threads), torch.no_grad(), quiet(), on(engine):
            try:
                module, seen = make(model, params, bench, engine)
                module(*model.example_inputs)  # some models read weights of layers that are packed now
            except HarnessError:
                raise
            except Exception as error:
                raise HarnessError(f"{STEP}: {first_line(error)}",
                                   "name the layers that it fails on in `keep`") from error
            if not any("quantized" in type(part).__module__ for part in module.modules()):
                raise HarnessError(f"{STEP}: nothing was quantized",
                                   "the model has no layer that torch quantizes so, or `keep` names them all")
        precision: Any = "static_int8" if params.scheme == "static" else "dynamic"
        notes = [f"{STEP}: {params.scheme}, for {engine}"]
        notes += [f"{STEP}: kept in float: {', '.join(params.keep)}"] if params.keep else []
        if params.scheme == "static" and (left := wrong_by(engine, model.module)):
            notes.append(f"{STEP}: left in float, torch computes them wrong by {engine}: {', '.join(left)}")
        if params.scheme == "static":
            notes.append(f"calibrated on {seen} samples" if seen else
                         f"calibrated on {rows(model.example_inputs)} example inputs")
        return model.with_(module=_engine_class()(module, engine), form=self.gives, precision=precision,
                           calibrated=model.calibrated and (seen > 0 or params.scheme == "dynamic"),
                           notes=(*model.notes, *notes))


def engine_of(params: Any, bench: Workbench) -> str:
    """The engine's name in torch. Raises ToolchainError where this torch lacks it."""
    import torch

    wanted = params.engine
    if wanted == "auto":
        wanted = "x86" if bench.machine.lower() in ("x86_64", "amd64") else "qnnpack"
    known = torch.backends.quantized.supported_engines
    if wanted not in known:
        raise ToolchainError(f"{STEP}: this torch has no engine {wanted!r}",
                             f"one of: {', '.join(name for name in known if name != 'none')}")
    return str(wanted)


@contextlib.contextmanager
def on(engine: str) -> Iterator[None]:
    """Packs weights, and runs what is not packed, by this engine; as before afterwards. Without the fast path of
    torch's transformer layers, which reads the weights of linear layers and does not call them."""
    import torch

    before = torch.backends.quantized.engine, torch.backends.mha.get_fastpath_enabled()
    torch.backends.quantized.engine = engine
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.quantized.engine = before[0]
        torch.backends.mha.set_fastpath_enabled(before[1])


def _traceable(model: Any) -> None:
    import torch

    with quiet():
        try:
            torch.fx.symbolic_trace(model)
            return
        except Exception as error:  # torch.fx raises whatever its tracing meets
            failed = error
    raise HarnessError(f"{STEP}: torch.fx cannot trace this model: {first_line(failed)}",
                       "the forward must not branch on tensor values; scheme: dynamic does without tracing") from failed


def _static(model: Compressed, params: Any, bench: Workbench, engine: str) -> tuple[Any, int]:
    """The converted module and how many calibration samples it saw (0: the example inputs only)."""
    from torch.ao.quantization import quantize_fx

    module: Any = model.module
    _traceable(module)
    kept = [*layer_names(module, params.keep, STEP), *wrong_by(engine, module)]
    _padding_in_numbers(module)
    fused = quantize_fx.fuse_fx(module.eval())  # first: a kept layer then stays in float with its batch norm and ReLU
    mapping = _mapping(params, engine)
    for name in kept:
        mapping.set_module_name(name, None)
    prepared = quantize_fx.prepare_fx(fused, mapping, model.example_inputs)
    batches = calibration_batches(model, bench, params.calibration_batches)
    try:
        seen = _seen(prepared, batches)
    except Exception:  # a model that fixes its batch
        seen = _seen(prepared, in_calls(batches, rows(model.example_inputs)))
    if not seen:
        prepared(*model.example_inputs)
    return quantize_fx.convert_fx(prepared), seen


def _seen(prepared: Any, batches: list[Any]) -> int:
    for inputs in batches:
        prepared(*inputs)
    return sum(len(inputs[0]) for inputs in batches)


def wrong_by(engine: str, module: Any) -> list[str]:
    """The layers that this engine computes wrong without a word: in torch 2.13, by oneDNN (which x86 uses too, where
    the processor has VNNI), transposed convolutions with other numbers of output than of input channels."""
    from torch import nn

    transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    return [name for name, layer in module.named_modules()
            if engine in ("x86", "onednn") and isinstance(layer, transposed)
            and layer.in_channels != layer.out_channels]


def _padding_in_numbers(module: Any) -> None:
    """In place: torch's quantized convolutions take no `padding="same"`. Where that is uneven, it stays, and torch
    says so."""
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) and isinstance(layer.padding, str):
            last_first = layer._reversed_padding_repeated_twice  # (before, after) of each axis
            if last_first[::2] == last_first[1::2]:
                layer.padding = tuple(last_first[::-2])


def _mapping(params: Any, engine: str) -> Any:
    """torch's own for the engine, with the observers that were asked for. Transposed convolutions have one weight
    scale, since torch has no kernels for more; called as functions they stay in float, since FX leaves out arguments
    that the kernels insist on."""
    from torch.ao.quantization import (
        HistogramObserver,
        MinMaxObserver,
        QConfig,
        default_per_channel_weight_observer,
        default_weight_observer,
        get_default_qconfig_mapping,
    )
    from torch.nn import functional

    observer = HistogramObserver if params.observer == "histogram" else MinMaxObserver
    weight = default_per_channel_weight_observer if params.per_channel else default_weight_observer
    activation = observer.with_args(reduce_range=engine == "x86")
    mapping = get_default_qconfig_mapping(engine)
    theirs: Any = mapping.global_qconfig
    for kind, own in list(mapping.object_type_qconfigs.items()):
        if own is not None and own.activation is theirs.activation:  # transposed convolutions and layer norms
            one_scale = default_weight_observer if own is theirs else own.weight
            mapping.set_object_type(kind, QConfig(activation=activation, weight=one_scale))  # type: ignore[no-untyped-call]  # torch.ao has no types
    for function in (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d):
        mapping.set_object_type(function, None)
    both: Any = QConfig(activation=activation, weight=weight)  # type: ignore[no-untyped-call]  # torch.ao has no types
    return mapping.set_global(both)


def _dynamic(model: Compressed, params: Any, bench: Workbench, engine: str) -> tuple[Any, int]:
    from torch import nn
    from torch.ao.quantization import default_dynamic_qconfig, quantize_dynamic

    module: Any = model.module
    kept = set(layer_names(module, params.keep, STEP))
    wanted = {name: default_dynamic_qconfig for name, part in module.named_modules()
              if type(part) is nn.Linear and not any(name == k or name.startswith(f"{k}.") for k in kept)}
    if not wanted:
        raise HarnessError(f"{STEP}: no linear layer to quantize", "scheme: static quantizes convolutions too")
    return quantize_dynamic(module, wanted), 0  # type: ignore[no-untyped-call]  # torch.ao has no types


@functools.cache
def _engine_class() -> Callable[..., Any]:
    """The class of the wrapper: made once, since torch is only imported here."""
    import torch

    class OnEngine(torch.nn.Module):
        """Runs `inner` by its engine, whatever the process's is then. The exporter writes `engine` into the file."""

        def __init__(self, inner: torch.nn.Module, engine: str) -> None:
            super().__init__()
            self.inner = inner
            self.engine = engine

        def forward(self, *inputs: torch.Tensor) -> Any:
            with on(self.engine):
                return self.inner(*inputs)

        def __deepcopy__(self, memo: dict[int, Any]) -> OnEngine:
            with on(self.engine):  # a copy packs its weights anew
                return OnEngine(copy.deepcopy(self.inner, memo), self.engine)

    return OnEngine


_: type[Technique] = QuantizeEager
