"""Linear layers with integer weights whose activations are quantized at each call, row by row.

torchao's quantize_, not PT2E: XNNPACK finds the ranges of each row, and so does this; PT2E finds one for the whole
tensor, and a model with several rows a call (tokens, a batch) would then be another one than the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.compress.folding import layer_of
from harness.errors import HarnessError


def linear_layers(
    module: Any, graph: Any, kept: Sequence[str], group_size: int | None, step: str
) -> tuple[list[str], list[str]]:
    """The linear layers that get int4 weights (inputs a multiple of `group_size`; none where that is None), and those
    that get int8 weights. Those inside `kept` are in neither, nor those that are not called as layers in the exported
    `graph` (attention takes the weights of its `out_proj` and computes with them itself).

    Raises HarnessError where there is nothing to do, or nothing for 4 bits."""
    import torch
    from torch import nn

    called = {layer_of(node) for node in graph.nodes if node.target == torch.ops.aten.linear.default}
    linear = [(name, layer) for name, layer in module.named_modules() if type(layer) is nn.Linear and name in called
              and not any(name == one or name.startswith(f"{one}.") for one in kept)]
    if not linear:
        raise HarnessError(f"{step}: there is no linear layer to quantize", "scheme: static takes convolutions too")
    if group_size is None:
        return [], [name for name, _ in linear]
    four = [name for name, layer in linear if layer.in_features % group_size == 0]
    if not four:
        raise HarnessError(f"{step}: no linear layer has a multiple of {group_size} inputs, so none can be 4-bit",
                           "scheme: dynamic" if group_size == 32 else "group_size: 32, or scheme: dynamic")
    return four, [name for name, _ in linear if name not in four]


def quantize_linear(module: Any, four: Sequence[str], eight: Sequence[str], group_size: int) -> None:
    """In place: the layers `four` get int4 weights with a scale for each `group_size` inputs, `eight` int8 weights
    with one for each output channel."""
    import torch
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    # XNNPACK keeps the scales of groups as bfloat16: rounded here too, so that the file is this model
    quantize_(module, Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int4,  # type: ignore[attr-defined]  # torch's stubs do not have it
        weight_granularity=PerGroup(group_size), weight_scale_dtype=torch.bfloat16,
    ), filter_fn=lambda layer, name: name in four)
    quantize_(module, Int8DynamicActivationIntxWeightConfig(
        weight_dtype=torch.int8, weight_granularity=PerAxis(0),
    ), filter_fn=lambda layer, name: name in eight)
