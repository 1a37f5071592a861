"""What is told of a model's layers, against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.build import layers
from harness.build.layers import profile


def net() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """conv 3->12, 3x3 on 8x8; conv 12->16, 1x1; linear 16->10."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 10),
    )
    return model.eval(), (torch.rand(1, 3, 8, 8),)


def test_macs_are_counted_by_kind_and_by_channel_count() -> None:
    found = profile(*net(), "fp32")
    first, second, linear = 64 * 12 * 3 * 9, 64 * 12 * 16, 160
    assert found["macs"] == first + second + linear
    assert found["linear_macs"] == linear and found["outputs"] == 64 * 12 + 64 * 16 + 10
    # 12 is no multiple of 8: both convolutions; the three inputs and the ten classes are what they are
    assert found["odd_channel_macs"] == first + second


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 160 + 64 * 12 * 16), ("static_int8", 160)])
def test_a_layer_is_memory_bound_when_it_computes_little_for_what_it_moves(
    precision: str, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 1x1 convolution makes 12,288 products of (192 + 768 + 1,024) values: 1.5 per byte in fp32, 6 in int8."""
    assert profile(*net(), precision)["memory_bound_macs"] == 0  # type: ignore[arg-type]  # all of it is in the cache
    monkeypatch.setattr(layers, "CACHE_BYTES", 100)
    assert profile(*net(), precision)["memory_bound_macs"] == bound  # type: ignore[arg-type]


def test_zeros_that_no_channel_drops_are_told_apart_from_channels_of_zeros() -> None:
    model, inputs = net()
    with torch.no_grad():
        model[2].weight[:8] = 0.0  # type: ignore[index]  # whole channels: another matter
        model[5].weight[:, :4] = 0.0  # type: ignore[index]
    total = 12 * 27 + 12 * 16 + 160
    assert profile(model, inputs, "fp32")["unstructured_zeros"] == pytest.approx(40 / total)


def test_weight_bytes_are_those_of_the_file() -> None:
    convs, linear = 12 * 27 + 12 * 16, 160
    for precision, size in (("fp32", 4 * (convs + linear)), ("static_int8", convs + linear),
                            ("dynamic", 4 * convs + linear), ("int4", 4 * convs + linear / 2)):
        assert profile(*net(), precision)["weight_bytes"] == size  # type: ignore[arg-type]


def test_a_depthwise_convolution_counts_each_channel_once() -> None:
    model = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.ReLU(), nn.Conv2d(16, 8, 1))
    found = profile(model.eval(), (torch.rand(1, 16, 4, 4),), "fp32")
    assert found["macs"] == 16 * 16 * 9 + 16 * 16 * 8
    assert found["odd_channel_macs"] == 0
