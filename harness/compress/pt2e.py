"""What quantize_pt2e and quantize_aware share: the exported graph, XNNPACK's quantizer, calibration, what is kept."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.compress.folding import layers_of
from harness.compress.outputs import layer_names
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from harness.loading import first_line
from harness.quiet import quiet

if TYPE_CHECKING:
    import torch

Inputs = tuple["torch.Tensor", ...]


def check_exportable(module: Any, inputs: Inputs, step: str) -> Any:
    """torch.export's program of `module` on `inputs`. Raises HarnessError naming what cannot be exported."""
    import torch

    with quiet():  # what torch prints of the graph where it fails is not for our user
        try:
            with torch.no_grad():
                return torch.export.export(module, inputs)
        except Exception as error:  # torch.export raises whatever its tracing meets
            failed = error
    raise HarnessError(f"{step}: torch.export cannot export this model: {first_line(failed)}",
                       "the forward must not branch on tensor values: use torch.where or torch.cond") from failed


def exported(model: Compressed, free_batch: bool) -> tuple[Any, bool]:
    """The model as a graph module, and whether it takes any batch. Calibrating or training one sample at a time is
    slow, so a free batch dimension is tried first where `free_batch` asks for it; models that fix their batch are
    exported with it. The user's own dynamic shapes go before."""
    import torch

    module: Any = model.module
    inputs = model.example_inputs
    if model.dynamic_shapes is not None:
        return torch.export.export(module, inputs, dynamic_shapes=model.dynamic_shapes).module(), False
    if free_batch and all(t.dim() for t in inputs):
        rows = max(4, 2 * inputs[0].shape[0])  # 0 and 1 would be taken as constants
        larger = tuple(t.repeat(-(-rows // t.shape[0]), *[1] * (t.dim() - 1))[:rows] for t in inputs)
        batch = torch.export.Dim("batch", min=1, max=4096)
        try:
            program = torch.export.export(module, larger, dynamic_shapes=tuple({0: batch} for _ in larger))
            return program.module(), True
        except Exception:  # whatever export raises: this model's batch cannot be free
            pass
    return torch.export.export(module, inputs).module(), False


def kept_layers(module: Any, graph: Any, patterns: Sequence[str], step: str) -> list[str]:
    """The layers that `patterns` mean. Raises HarnessError for a name that means none, and for one that `graph` (the
    exported program's) has no trace of, since it could not be kept."""
    names = layer_names(module, patterns, step)
    called = {layer for node in graph.nodes for layer in layers_of(node)}
    parents = {name: name.rpartition(".")[0] for name in names if not any(_inside(layer, name) for layer in called)}
    for name, parent in parents.items():
        raise HarnessError(f"{step}: layer {name!r} cannot be kept in float: the model never calls it",
                           f"keep {parent!r}, which uses its weights" if parent in called else None)
    return names


def _inside(layer: str, name: str) -> bool:
    return layer == name or layer.startswith(f"{name}.")


def quantizer(config: Any, kept: Iterable[str]) -> Any:
    """XNNPACK's quantizer with `config` everywhere but in the layers `kept` and all inside them."""
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer

    names = frozenset(kept)
    made = XNNPACKQuantizer().set_global(config)
    return made.set_filter_function(lambda node: names.isdisjoint(layers_of(node)))


def converted(prepared: Any, step: str) -> Any:
    """The program in integers. Raises HarnessError where nothing in it is quantized."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    graph = convert_pt2e(prepared)
    if not any("quantize" in str(node.target) for node in graph.graph.nodes if node.op == "call_function"):
        raise HarnessError(f"{step}: nothing was quantized", "the model has no layer that XNNPACK quantizes, or `keep` "
                           "names them all")
    _separate_biases(graph)
    return graph


def _separate_biases(graph: Any) -> None:
    """Each call of a layer gets a bias of its own. XNNPACK holds it in integers of the input's scale times the
    weight's: shared by calls whose inputs have other scales, it is wrong in all but the first."""
    import torch

    aten = torch.ops.aten
    takes_bias = {aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv_transpose1d.default,
                  aten.conv_transpose2d.input}
    seen: set[str] = set()
    for node in list(graph.graph.nodes):
        bias = node.args[2] if node.target in takes_bias and len(node.args) > 2 else None
        if bias is None or bias.op != "get_attr":
            continue
        if bias.target in seen:
            name = f"bias_of_{node.name}"
            graph.register_buffer(name, operator.attrgetter(bias.target)(graph).detach().clone())
            with graph.graph.inserting_before(node):
                own = graph.graph.get_attr(name)
            own.meta = dict(bias.meta)
            node.update_arg(2, own)
        seen.add(bias.target)
    graph.recompile()


def calibration_batches(model: Compressed, bench: Workbench, limit: int) -> list[Inputs]:
    """Calibration batches in the dtype of the example inputs; none where the items do not fit this input case."""
    if bench.calibration is None:
        return []
    found: list[Inputs] = []
    for inputs, _ in bench.calibration(bench.batch_size):
        fits = len(inputs) == len(model.example_inputs) and all(
            t.shape[1:] == e.shape[1:] for t, e in zip(inputs, model.example_inputs, strict=True))
        if not fits:
            return []
        found.append(tuple(t.to(e.dtype) for t, e in zip(inputs, model.example_inputs, strict=True)))
        if len(found) == limit:
            break
    return found


def rows(inputs: Inputs) -> int:
    """Samples in one call."""
    return int(inputs[0].shape[0]) if inputs[0].dim() else 1


def in_calls(batches: Iterable[Inputs], size: int) -> list[Inputs]:
    """The batches cut into whole calls of `size` samples; an incomplete last one is left out."""
    return [tuple(t[i : i + size] for t in inputs) for inputs in batches
            for i in range(0, len(inputs[0]) - size + 1, size)]
