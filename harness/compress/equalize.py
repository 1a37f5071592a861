"""equalize: cross-layer equalization before int8 (Nagel et al., Data-Free Quantization Through Weight Equalization and
Bias Correction, ICCV 2019, arXiv:1906.04721, section 4.1).

A ReLU passes positive factors on: relu(s·x) = s·relu(x). So channel i of a layer may be divided by s_i where the next
layer's inputs are multiplied by it, and nothing that the model computes changes; with s_i = √(r1_i / r2_i), r the
largest weights of that channel on both sides, the two ranges become equal. No channel is then lost in int8 beside a
hundred times larger one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field

from harness.compress.folding import SCALES_CHANNELS, fold_batch_norms, is_layer_call, is_only_use, layer_of
from harness.compress.params import Count, Params
from harness.compress.pt2e import check_exportable
from harness.errors import HarnessError
from harness.interfaces import Compressed, Technique, Workbench

STEP = "equalize"
#: factors nearer to 1 than this change nothing
CONVERGED = 1e-3


class EqualizeParams(Params):
    rounds: Annotated[Count, Field(description="at most so many passes over all pairs, till nothing changes")] = 20


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Names of two layers, the second of which alone reads what the first gives. `spread`: how many inputs of the
    second come of one output channel of the first (the pixels that a flatten lays in a row). `limited`: there is a
    ReLU6 between them, whose limit factors would move."""

    first: str
    second: str
    spread: int = 1
    limited: bool = False

    def __str__(self) -> str:
        return f"{self.first} and {self.second}"


class Equalize:
    """Folds batch norms first. Leaves pairs with anything between them that does not pass factors on (ReLU6, GELU)."""

    Params: ClassVar[type[BaseModel]] = EqualizeParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False
    makes: ClassVar[frozenset[str]] = frozenset({"folded"})
    refuses: ClassVar[dict[str, str]] = SCALES_CHANNELS

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        _pairs_of(copy.deepcopy(model), bench.example_inputs)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where no two layers can be equalized, or the model cannot be exported."""
        import torch

        module: Any = model.module
        pairs, limited, norms = _pairs_of(module.eval(), model.example_inputs)
        with torch.no_grad():
            for _ in range(params.rounds):
                if max([equalized(module, pair) for pair in pairs]) < CONVERGED:
                    break
        notes = [f"{STEP}: {', '.join(map(str, pairs))}"]
        notes += [f"{STEP}: left, with ReLU6 between them: {', '.join(map(str, limited))}"] if limited else []
        notes += [f"{STEP}: {norms} batch norms folded before"] if norms else []
        return model.with_(module=module, notes=(*model.notes, *notes))


def _pairs_of(module: Any, inputs: tuple[Any, ...]) -> tuple[list[Pair], list[Pair], int]:
    """Folds the batch norms of `module` in place; the pairs, those left for a ReLU6, and how many norms there were."""
    program = check_exportable(module, inputs, STEP)
    norms = fold_batch_norms(module, program)
    found = list(pairs_in(module, check_exportable(module, inputs, STEP).graph if norms else program.graph))
    pairs, limited = ([pair for pair in found if pair.limited == which] for which in (False, True))
    if not pairs:
        why = f" ({', '.join(map(str, limited))}: ReLU6)" if limited else ""
        raise HarnessError(f"{STEP}: no two layers follow each other through ReLU and pooling alone{why}",
                           "leave the step out: other activations do not pass factors on")
    return pairs, limited, len(norms)


def equalized(module: Any, pair: Pair) -> float:
    """Equalizes the pair in place; the largest |s − 1|. Channels without a weight on one side stay.

    No bias grows beyond what the weights make of inputs of ±1: a channel that batch norm has all but switched off
    (γ ≈ 0) is little more than its bias, and would become the range that the activations of all must share."""
    import torch

    first, second = module.get_submodule(pair.first), module.get_submodule(pair.second)
    inner = second.weight.detach()
    by_input = inner.reshape(len(inner), -1) if _depthwise(second) else inner.transpose(0, 1).reshape(
        len(first.weight), -1)
    one, two = (t.abs().amax(1) for t in (first.weight.reshape(len(first.weight), -1), by_input))
    scale = torch.where((one > 0) & (two > 0), (one / two.clamp_min(1e-30)).sqrt(), torch.ones_like(one))
    if first.bias is not None:
        largest = (first.weight.reshape(len(first.weight), -1).abs().sum(1) / scale).max().clamp_min(1e-30)
        scale = torch.maximum(scale, (first.bias.abs() / largest).clamp(max=1))
    first.weight.div_(scale.reshape(-1, *[1] * (first.weight.dim() - 1)))
    if first.bias is not None:
        first.bias.div_(scale)
    if _depthwise(second):
        second.weight.mul_(scale.reshape(-1, *[1] * (second.weight.dim() - 1)))
    else:
        second.weight.mul_(scale.repeat_interleave(pair.spread).reshape(1, -1, *[1] * (second.weight.dim() - 2)))
    return float((scale - 1).abs().max())


def pairs_in(module: Any, graph: Any) -> Iterator[Pair]:
    """Every pair of layers, each called once and with a weight of its own, in the order of the calls."""
    usable = {node: layer_of(node) for node in graph.nodes if is_layer_call(node) and is_only_use(node)
              and _scalable(module.get_submodule(layer_of(node)))}
    for node, name in usable.items():
        last, after, limited, axis = node, _reader(node), False, _channel_axis(node, node)
        while axis is not None and after is not None and after not in usable:
            limited |= _is_relu6(after)
            axis = _axis_after(after, axis)
            last, after = after, _reader(after)
        if after in usable and axis is not None and axis == _channel_axis(after, last):
            spread = _shape(last)[axis] // len(module.get_submodule(name).weight)  # only a flatten changes it
            yield Pair(first=name, second=usable[after], spread=spread, limited=limited)


def _reader(node: Any) -> Any:
    """The operation that alone reads this one, as its first argument; None where there is no such."""
    only = next(iter(node.users)) if len(node.users) == 1 else None
    return only if only is not None and only.op == "call_function" and only.args[0] is node else None


def _scalable(layer: Any) -> bool:
    from torch import nn

    if type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        return False
    return getattr(layer, "groups", 1) == 1 or _depthwise(layer)


def _depthwise(layer: Any) -> bool:
    groups = getattr(layer, "groups", 1)
    return bool(1 < groups == layer.in_channels == layer.out_channels)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _channel_axis(call: Any, tensor: Any) -> int | None:
    """Where `tensor`, which the layer call reads or gives, has its channels; None for a convolution without a batch."""
    import torch

    if call.target == torch.ops.aten.linear.default:
        return len(_shape(tensor)) - 1
    return 1 if len(_shape(tensor)) == len(_shape(call.args[1])) else None


def _is_relu6(node: Any) -> bool:
    import torch

    aten = torch.ops.aten
    bounded = node.target in (aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default)
    return node.target is aten.relu6.default or (bounded and tuple(node.args[1:]) == (0, 6))


def _axis_after(node: Any, axis: int) -> int | None:
    """The channels' axis behind this operation; None where it mixes channels, or f(s·x) is not s·f(x)."""
    import torch

    aten = torch.ops.aten
    before, after = _shape(node.args[0]), _shape(node)
    if node.target in (aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default,
                       aten.dropout.default, aten.contiguous.default, aten.clone.default) or _is_relu6(node):
        return axis
    if node.target is aten.clamp.default:
        return axis if tuple(node.args[1:]) == (0,) else None
    pooled = {
        aten.max_pool1d.default: 1, aten.avg_pool1d.default: 1, aten.adaptive_avg_pool1d.default: 1,
        aten.max_pool2d.default: 2, aten.avg_pool2d.default: 2, aten.adaptive_avg_pool2d.default: 2,
        aten.max_pool3d.default: 3, aten.avg_pool3d.default: 3, aten.adaptive_avg_pool3d.default: 3,
    }.get(node.target)
    if pooled is not None:
        return axis if axis < len(before) - pooled else None
    if node.target is aten.mean.dim:
        gone = {d % len(before) for d in node.args[1]}
        shift = sum(d < axis for d in gone) if len(after) < len(before) else 0
        return None if axis in gone else axis - shift
    if node.target in (aten.view.default, aten.reshape.default, aten.flatten.using_ints):  # of what lies behind it
        return axis if after == before or (len(after) == axis + 1 and after[:axis] == before[:axis]) else None
    return None


_: type[Technique] = Equalize
