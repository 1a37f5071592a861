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

from harness.compress.folding import fold_batch_norms, layer_of
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
    second come of one output channel of the first (the pixels that a flatten lays in a row)."""

    first: str
    second: str
    spread: int = 1


class Equalize:
    """Folds batch norms first. Leaves pairs with anything between them that does not pass factors on (ReLU6, GELU)."""

    Params: ClassVar[type[BaseModel]] = EqualizeParams
    accepts: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "eager"
    needs_train: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    reads_data: ClassVar[bool] = False
    makes: ClassVar[frozenset[str]] = frozenset({"folded"})
    refuses: ClassVar[dict[str, str]] = {
        "values": "each channel is scaled by its own factor, which multiplies the number of distinct values"
    }

    @staticmethod
    def preflight(params: Any, model: Any, bench: Workbench) -> None:
        _pairs_of(copy.deepcopy(model), bench.example_inputs)

    def apply(self, model: Compressed, params: Any, bench: Workbench) -> Compressed:
        """Raises HarnessError where no two layers can be equalized, or the model cannot be exported."""
        import torch

        module: Any = model.module
        pairs, norms = _pairs_of(module.eval(), model.example_inputs)
        with torch.no_grad():
            for _ in range(params.rounds):
                if max([equalized(module, pair) for pair in pairs]) < CONVERGED:
                    break
        notes = [f"{STEP}: {', '.join(f'{p.first} and {p.second}' for p in pairs)}"]
        notes += [f"{STEP}: {norms} batch norms folded before"] if norms else []
        return model.with_(module=module, notes=(*model.notes, *notes))


def _pairs_of(module: Any, inputs: tuple[Any, ...]) -> tuple[list[Pair], int]:
    """Folds the batch norms of `module` in place; the pairs, and how many norms there were."""
    program = check_exportable(module, inputs, STEP)
    norms = fold_batch_norms(module, program)
    pairs = list(pairs_in(module, check_exportable(module, inputs, STEP).graph if norms else program.graph))
    if not pairs:
        raise HarnessError(f"{STEP}: no two layers follow each other through ReLU and pooling alone",
                           "leave the step out: other activations do not pass factors on")
    return pairs, len(norms)


def equalized(module: Any, pair: Pair) -> float:
    """Equalizes the pair in place; the largest |s − 1|. Channels without a weight on one side stay."""
    import torch

    first, second = module.get_submodule(pair.first), module.get_submodule(pair.second)
    inner = second.weight.detach()
    by_input = inner.reshape(len(inner), -1) if _depthwise(second) else inner.transpose(0, 1).reshape(
        len(first.weight), -1)
    one, two = (t.abs().amax(1) for t in (first.weight.reshape(len(first.weight), -1), by_input))
    scale = torch.where((one > 0) & (two > 0), (one / two.clamp_min(1e-30)).sqrt(), torch.ones_like(one))
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
    nodes = {node: layer_of(node) for node in graph.nodes if _is_layer_call(node)}
    called = list(nodes.values())
    owners: dict[int, int] = {}
    for part in module.modules():
        for parameter in part.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1

    def usable(name: str) -> bool:
        return bool(name) and called.count(name) == 1 and _plain(module.get_submodule(name), owners)

    for node, name in nodes.items():
        if not usable(name):
            continue
        last = node
        while len(last.users) == 1 and _passes_factors(next(iter(last.users)), last):
            last = next(iter(last.users))
        if len(last.users) != 1:
            continue
        after = next(iter(last.users))
        other = nodes.get(after, "")
        if other and after.args[0] is last and usable(other):
            channels, inputs = len(module.get_submodule(name).weight), _inputs(module.get_submodule(other))
            if inputs % channels == 0 and (inputs == channels or last.meta["val"].dim() == 2):
                yield Pair(first=name, second=other, spread=inputs // channels)


def _is_layer_call(node: Any) -> bool:
    import torch

    aten = torch.ops.aten
    return node.op == "call_function" and node.target in (
        aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
        aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding)


def _plain(layer: Any, owners: dict[int, int]) -> bool:
    from torch import nn

    if type(layer) not in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d) or owners.get(id(layer.weight)) != 1:
        return False
    return getattr(layer, "groups", 1) == 1 or _depthwise(layer)


def _depthwise(layer: Any) -> bool:
    groups = getattr(layer, "groups", 1)
    return bool(1 < groups == layer.in_channels == layer.out_channels)


def _inputs(layer: Any) -> int:
    return int(getattr(layer, "in_channels", 0) or layer.in_features)


def _passes_factors(node: Any, given: Any) -> bool:
    """Whether this operation on `given` alone gives s times its result for s times its input, channel by channel."""
    import torch

    aten = torch.ops.aten
    if node.op != "call_function" or node.args[0] is not given:
        return False
    if node.target in (aten.view.default, aten.reshape.default, aten.flatten.using_ints):
        before, after = given.meta["val"].shape, node.meta["val"].shape  # channels stay first and whole
        return len(after) == 2 and len(before) > 2 and before[0] == after[0]
    if node.target is aten.mean.dim:
        return all(d % given.meta["val"].dim() > 1 for d in node.args[1])
    if node.target is aten.clamp.default:
        return tuple(node.args[1:]) in ((0,), (0.0,))
    return node.target in (
        aten.relu.default, aten.relu_.default, aten.leaky_relu.default, aten.leaky_relu_.default,
        aten.max_pool1d.default, aten.max_pool2d.default, aten.max_pool3d.default, aten.avg_pool1d.default,
        aten.avg_pool2d.default, aten.avg_pool3d.default, aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default, aten.adaptive_avg_pool3d.default, aten.dropout.default,
        aten.contiguous.default, aten.clone.default)


_: type[Technique] = Equalize
