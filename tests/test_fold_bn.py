"""fold_bn: the same outputs from fewer operations, as torch's own fusion gives it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from harness import chains, registry
from harness.errors import HarnessError
from harness.types import Step
from tests.test_compress import EXAMPLE, apply, bench, net, run


def stirred(model: Any) -> Any:
    """Batch norms that do something."""
    torch.manual_seed(3)
    for part in model.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()  # type: ignore[union-attr]
            part.running_var.uniform_(0.3, 3)  # type: ignore[union-attr]
            with torch.no_grad():
                part.weight.uniform_(0.5, 2)
                part.bias.normal_()
    return model.eval()


def test_folding_changes_no_output_and_leaves_no_batch_norm_in_the_way() -> None:
    model = stirred(net())
    folded: Any = apply("fold_bn", model=copy.deepcopy(model))
    assert torch.allclose(run(folded), run(model), atol=1e-5)
    assert isinstance(folded.module.stem[1], nn.Identity) and isinstance(folded.module.scale, nn.Identity)
    assert "2 batch norms folded" in folded.notes[0]


def test_the_weights_are_those_of_torchs_fusion() -> None:
    model = stirred(net())
    folded: Any = apply("fold_bn", model=copy.deepcopy(model))
    by_hand: Any = fuse_conv_bn_eval(model.stem[0], model.stem[1])
    assert torch.equal(folded.module.stem[0].weight, by_hand.weight)
    assert torch.equal(folded.module.stem[0].bias, by_hand.bias)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.tail = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1)
        self.after = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.tail(self.conv(torch.relu(self.norm(self.conv(x)))))).mean((2, 3))  # type: ignore[no-any-return]


def test_a_layer_that_is_called_twice_keeps_its_batch_norm() -> None:
    model = stirred(Twice())
    folded: Any = apply("fold_bn", model=copy.deepcopy(model))
    assert torch.allclose(run(folded), run(model), atol=1e-5)
    assert isinstance(folded.module.norm, nn.BatchNorm2d) and isinstance(folded.module.after, nn.Identity)
    assert any("left" in note and "norm" in note for note in folded.notes)


def test_a_layer_under_two_names_is_folded_once_and_one_that_shares_its_weight_is_left() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.alias = self.conv = nn.Conv2d(3, 3, 1)
            self.norm, self.a, self.b = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
            self.b.weight = self.a.weight
            self.a_norm, self.b_norm = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.norm(self.alias(x))
            return (self.a_norm(self.a(x)) - self.b_norm(self.b(x))).mean((2, 3))  # type: ignore[no-any-return]

    model = stirred(Shared())
    folded: Any = apply("fold_bn", model=copy.deepcopy(model))
    assert torch.allclose(run(folded), run(model), atol=1e-5)
    assert folded.module.alias is folded.module.conv and isinstance(folded.module.norm, nn.Identity)
    assert folded.module.b.weight is folded.module.a.weight
    assert folded.notes[1].endswith("left, what they follow is not theirs alone: a_norm, b_norm")


def test_without_a_batch_norm_it_says_so_before_time_is_spent() -> None:
    technique = registry.load("technique", "fold_bn")
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    with pytest.raises(HarnessError, match="no batch norm can be folded"):
        technique.preflight(technique.Params(), plain, bench())
    model = stirred(net())
    technique.preflight(technique.Params(), model, bench())
    assert isinstance(model.scale, nn.BatchNorm1d)  # only asked


@pytest.mark.parametrize("name", ["fold_bn", "equalize"])
def test_it_cannot_follow_clusters_which_it_would_multiply(name: str) -> None:
    steps = [Step(name="cluster", params={}), Step(name=name, params={})]
    found = chains.refusal(steps)
    assert found is not None and "distinct values" in found.reason and found.hint == f"put {name} before cluster"
    assert chains.refusal(steps[::-1]) is None


def test_zeros_stay_where_they_are() -> None:
    model = stirred(net())
    with torch.no_grad():
        model.stem[0].weight[model.stem[0].weight < 0] = 0
    before = model.stem[0].weight == 0
    folded: Any = apply("fold_bn", model=model)
    assert torch.equal(folded.module.stem[0].weight == 0, before) and before.any()
    assert run(folded).shape == (1, 4) and EXAMPLE[0].shape[0] == 1
