"""What a model's layers are like, as far as it may explain its speed: sums over its convolutions and linear layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.compress.outputs import output_layers, watched
from harness.types import Precision

#: channels that kernels take at once; counts between cost as much as the next multiple
LANE = 8
#: a layer with fewer multiply-accumulates per byte that it reads or writes is held up by memory. A judgement: one core
#: of a phone does some 20 G fp32 multiply-accumulates a second and is given some 5 to 10 GB/s
MACS_PER_BYTE = 4
#: weights that a core's caches hold are not read from memory again at each inference. A judgement: phones' cores have
#: 0.25 to 1 MB of second level cache, and a share of some MB of the third
CACHE_BYTES = 1_000_000
#: bytes of a weight and of an activation, (linear layers, others)
_WIDTHS: dict[Precision, tuple[tuple[float, float], tuple[float, float]]] = {
    "fp32": ((4, 4), (4, 4)),
    "fp16": ((2, 2), (2, 2)),
    "static_int8": ((1, 1), (1, 1)),
    "dynamic": ((1, 4), (4, 4)),
    "int4": ((0.5, 4), (4, 4)),
}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer in one call of the model; a layer that is called twice is there twice."""

    linear: bool
    macs: int
    outputs: int
    odd: bool
    moved_bytes: float


def profile(module: Any, inputs: tuple[Any, ...], precision: Precision) -> dict[str, Any]:
    """`macs` and `outputs` (values that the layers write). Of the macs: `linear_macs`; `odd_channel_macs` (a channel
    count that is no multiple of 8; a first layer's ≤ 4 inputs and the outputs of the layers that make the output are
    what they are); `memory_bound_macs` (few for what is moved, in a model whose weights fit no cache).
    `unstructured_zeros`: share of weights that are zero though their output channel is not; `weight_bytes`.

    `module` is the last eager form, `precision` what its weights are in the file."""
    layers = _layers(module, inputs, precision)
    weights, zeros, weight_bytes = 0, 0, 0.0
    for name, weight in _weights(module):
        rows = weight.reshape(len(weight), -1)
        weights += rows.numel()
        zeros += int(((rows == 0) & (rows != 0).any(1, keepdim=True)).sum())
        weight_bytes += rows.numel() * _WIDTHS[precision][0 if name == "linear" else 1][0]
    bound = sum(layer.macs for layer in layers if layer.macs < MACS_PER_BYTE * layer.moved_bytes)
    return {
        "macs": sum(layer.macs for layer in layers),
        "outputs": sum(layer.outputs for layer in layers),
        "linear_macs": sum(layer.macs for layer in layers if layer.linear),
        "odd_channel_macs": sum(layer.macs for layer in layers if layer.odd),
        "memory_bound_macs": bound if weight_bytes > CACHE_BYTES else 0,
        "unstructured_zeros": zeros / weights if weights else 0.0,
        "weight_bytes": round(weight_bytes),
    }


def _is_layer(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)


def _weights(module: Any) -> Iterator[tuple[str, Any]]:
    seen: set[int] = set()
    for layer in module.modules():
        if _is_layer(layer) and id(layer.weight) not in seen:
            seen.add(id(layer.weight))
            yield "linear" if layer.weight.dim() == 2 else "conv", layer.weight.detach()


def _layers(module: Any, inputs: tuple[Any, ...], precision: Precision) -> list[Layer]:
    import torch

    makers = {id(layer) for layer in output_layers(module, inputs)}
    found: list[Layer] = []

    def seen(layer: Any, given: tuple[Any, ...], out: Any) -> None:
        linear = layer.weight.dim() == 2
        width = _WIDTHS[precision][0 if linear else 1]
        rows, columns = len(layer.weight), layer.weight.shape[1] * getattr(layer, "groups", 1)
        odd = (columns % LANE != 0 and columns > 4) or (rows % LANE != 0 and id(layer) not in makers)
        moved = layer.weight.numel() * width[0] + (given[0].numel() + out.numel()) * width[1]
        macs = out.numel() // rows * layer.weight.numel()
        found.append(Layer(linear=linear, macs=macs, outputs=out.numel(), odd=odd, moved_bytes=moved))

    with watched(filter(_is_layer, module.modules()), seen), torch.no_grad():
        module(*inputs)
    return found
