"""Batch norms folded into the layer before them: what the delegates do anyway, done in fp32 and before other steps.

In evaluation a batch norm is an affine map per channel, so a linear layer in front of it can take it in (Jacob et
al., Quantization and Training of Neural Networks, CVPR 2018, section 3.2). Names of layers stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: what a step that scales channels must not follow
SCALES_CHANNELS = {"values": "each channel is scaled by its own factor, which multiplies the number of distinct values"}


def layer_of(node: Any) -> str:
    """The innermost module that this node of an exported graph comes from, as the eager model calls it; "" for none.

    A second call of one module is marked `name@1` there."""
    layers = layers_of(node)
    return layers[-1] if layers else ""


def layers_of(node: Any) -> list[str]:
    """All modules that this node comes from, the outermost first."""
    stack = node.meta.get("nn_module_stack", {}).values()
    return [re.sub(r"@\d+$", "", path.removeprefix("L['self'].")) for path, _ in stack]


def is_layer_call(node: Any) -> bool:
    """Whether this node of an exported graph is a convolution (transposed ones too) or a linear layer."""
    import torch

    aten = torch.ops.aten
    return node.op == "call_function" and node.target in (
        aten.linear.default, aten.conv1d.default, aten.conv2d.default, aten.conv3d.default,
        aten.conv1d.padding, aten.conv2d.padding, aten.conv3d.padding,
        aten.conv_transpose1d.default, aten.conv_transpose2d.input, aten.conv_transpose3d.input)


def is_only_use(node: Any) -> bool:
    """Whether the parameters and buffers that this call takes are the model's own and go into this call alone: its
    layer is called once, and shares no weight with another. (An exported graph holds a shared one once.)"""
    taken = [arg for arg in node.args[1:] if hasattr(arg, "users")]
    return bool(taken) and all(arg.op == "placeholder" and len(arg.users) == 1 for arg in taken)


def fold_batch_norms(model: Any, program: Any) -> list[str]:
    """Folds in place each batch norm of `model` (eval mode) that alone follows a convolution or linear layer; returns
    their names. `program`: torch.export's of this model. Layers that are called twice or share a weight are left."""
    from torch import nn

    folded = []
    for before, norm in list(_pairs(model, program.graph)):
        layer, batch_norm = model.get_submodule(before), model.get_submodule(norm)
        _replace(model, layer, _fused(layer, batch_norm))
        _replace(model, batch_norm, nn.Identity())
        folded.append(norm)
    return folded


def _pairs(model: Any, graph: Any) -> Iterator[tuple[str, str]]:
    import torch

    for node in graph.nodes:
        if node.op != "call_function" or node.target != torch.ops.aten.batch_norm.default:
            continue
        producer = node.args[0]
        before, norm = layer_of(producer), layer_of(node)
        if is_layer_call(producer) and len(producer.users) == 1 and is_only_use(producer) and is_only_use(node) \
                and _foldable(model.get_submodule(before), model.get_submodule(norm), producer.meta["val"].dim()):
            yield before, norm


def _foldable(layer: Any, norm: Any, dimensions: int) -> bool:
    from torch import nn

    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) or norm.running_var is None:
        return False
    if type(layer) is nn.Linear:
        return bool(norm.affine) and dimensions == 2  # with more dimensions the norm is not over the layer's outputs
    if type(layer) in (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d):
        return bool(layer.groups == 1) and dimensions == layer.weight.dim()
    return type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d) and dimensions == layer.weight.dim()


def _fused(layer: Any, norm: Any) -> Any:
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    if isinstance(layer, nn.Linear):
        fused: Any = fuse_linear_bn_eval(layer, norm)
    else:
        fused = fuse_conv_bn_eval(layer, norm, bool(layer.transposed))
    trained = norm if norm.affine else layer
    fused.bias.requires_grad_(trained.bias is not None and trained.bias.requires_grad)  # torch's is that of the layer
    return fused


def _replace(model: Any, old: Any, new: Any) -> None:
    """Under each of its names."""
    for name, part in list(model.named_modules(remove_duplicate=False)):
        if part is old:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, new)
