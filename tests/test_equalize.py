"""equalize: the same function from weights of equal ranges."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from harness import registry
from harness.errors import HarnessError
from harness.interfaces import Compressed
from tests.test_compress import apply, bench, run, sqnr_db
from tests.test_fold_bn import stirred


def test_two_layers_worked_out_by_hand() -> None:
    """Channel ranges 8 and 2 on one side, 2 and 8 on the other: √(8·2) = 4 on all."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2), nn.ReLU(), nn.Linear(2, 4))
    with torch.no_grad():
        model[1].weight.uniform_(-1, 1)  # type: ignore[union-attr, operator]
        model[1].weight[0, 0], model[1].weight[1, 0] = 8.0, 2.0  # type: ignore[index, union-attr]
        model[3].weight.copy_(torch.tensor([[2.0, 8.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]))  # type: ignore[union-attr, operator]
    bias = model[1].bias.detach().clone()  # type: ignore[union-attr, operator]
    equal: Any = apply("equalize", model=copy.deepcopy(model).eval())
    first, second = equal.module[1].weight.detach(), equal.module[3].weight.detach()
    for ranges in (first.abs().amax(1), second.abs().amax(0)):
        assert ranges.tolist() == pytest.approx([4, 4])
    assert equal.module[1].bias.tolist() == pytest.approx([float(bias[0]) / 2, float(bias[1]) * 2])
    assert torch.allclose(run(equal), run(model), atol=1e-4)


def uneven() -> Any:
    """Convolutions (one depthwise), pooling, a flatten; channels a thousandfold apart."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16),
        nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Conv2d(16, 8, 1), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(128, 4))
    stirred(model)
    with torch.no_grad():
        scale = torch.logspace(-1.5, 1.5, 16)
        model[3].weight.mul_(scale.reshape(-1, 1, 1, 1))  # type: ignore[operator, union-attr]
        model[6].weight.div_(scale.reshape(1, -1, 1, 1))  # type: ignore[operator, union-attr]
    return model.eval()


def test_nothing_that_the_model_computes_changes_through_pooling_flattening_and_depthwise_layers() -> None:
    model = uneven()
    equal = apply("equalize", model=copy.deepcopy(model))
    want = run(model)
    assert torch.allclose(run(equal), want, atol=1e-4 * float(want.abs().max()))
    assert "0 and 3, 3 and 6, 6 and 10" in equal.notes[0] and "1 batch norms folded" in equal.notes[1]


def per_tensor_db(weight: torch.Tensor) -> float:
    """What rounding to int8 with one scale leaves of the weakest output channel."""
    scale = weight.abs().max() / 127
    rows = weight.reshape(len(weight), -1)
    error = rows - (rows / scale).round() * scale
    return float(min(10 * torch.log10(rows.square().sum(1) / error.square().sum(1).clamp_min(1e-30))))


def test_no_channel_is_lost_beside_a_far_larger_one_any_more() -> None:
    model = uneven()
    equal: Any = apply("equalize", model=copy.deepcopy(model))
    assert per_tensor_db(model[3].weight.detach()) < 5
    assert per_tensor_db(equal.module[3].weight.detach()) > 20


def test_a_channel_that_is_little_more_than_its_bias_does_not_become_the_range_of_all() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
                          nn.Linear(256, 4)).eval()
    with torch.no_grad():
        model[0].weight[3] *= 1e-6  # type: ignore[index, operator, union-attr]
        model[0].bias[3] = 1.0  # type: ignore[index, operator, union-attr]
    work = bench()
    assert work.calibration is not None
    (picture,), _ = next(iter(work.calibration(16)))
    quantized = apply("quantize_eager", model=apply("equalize", model=copy.deepcopy(model)).module, per_channel=False)
    assert sqnr_db(run(model, (picture,)), run(quantized, (picture,))) > 25


def test_layers_of_zeros_are_left() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 4)).eval()
    for dead in (1, 3):
        with torch.no_grad():
            model[dead].weight.zero_()  # type: ignore[operator, union-attr]
            model[dead].bias[0] = 0  # type: ignore[index, operator, union-attr]
        equal = apply("equalize", model=copy.deepcopy(model))
        assert torch.allclose(run(equal), run(model), atol=1e-6)


def test_layers_with_relu6_between_them_are_left() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU6(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    before = model[1].weight.detach().clone()  # type: ignore[union-attr, operator]
    equal: Any = apply("equalize", model=model.eval())
    assert torch.equal(equal.module[1].weight, before)
    assert equal.notes == ("equalize: 3 and 5", "equalize: left, with ReLU6 between them: 1 and 3")


def test_nothing_to_equalize_is_told_before_time_is_spent() -> None:
    technique = registry.load("technique", "equalize")
    with pytest.raises(HarnessError, match="no two layers follow each other"):
        technique.preflight(technique.Params(), nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval(), bench())


def test_a_layer_that_something_else_reads_too_is_left() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(192, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = torch.relu(self.a(x.flatten(1)))
            return self.c(torch.relu(self.b(seen)) + seen)  # type: ignore[no-any-return]

    with pytest.raises(HarnessError, match="no two layers"):
        apply("equalize", model=Both().eval())


class Between(nn.Module):
    """Two layers with something between them."""

    def __init__(self, first: nn.Module, between: Callable[[torch.Tensor], torch.Tensor], second: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.second = first, between, second

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.between(torch.relu(self.first(x))))  # type: ignore[no-any-return]


def same(x: torch.Tensor) -> torch.Tensor:
    return x


def equalized(model: Any, *shapes: tuple[int, ...]) -> Compressed:
    """Asserts that the outputs are as before."""
    torch.manual_seed(0)
    inputs, technique = tuple(torch.randn(shape) for shape in shapes), registry.load("technique", "equalize")
    start = Compressed(module=copy.deepcopy(model).eval(), form="eager", example_inputs=inputs)
    made = technique().apply(start, technique.Params(), bench())
    assert torch.allclose(run(made, inputs), run(model.eval(), inputs), atol=1e-5)
    return made  # type: ignore[no-any-return]


@pytest.mark.parametrize(("first", "between", "second", "shape"), [
    (nn.Linear(6, 4), same, nn.Linear(4, 3), (2, 5, 6)),
    (nn.Conv1d(3, 8, 3), lambda x: x.mean(2), nn.Linear(8, 2), (1, 3, 9)),
    (nn.Conv2d(3, 8, 3), lambda x: x.mean((-1, -2), keepdim=True), nn.Conv2d(8, 2, 1), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 3), lambda x: nn.functional.adaptive_avg_pool2d(x, 2).flatten(1), nn.Linear(32, 2), (1, 3, 8, 8)),
    (nn.Conv3d(2, 4, 2), nn.MaxPool3d(2), nn.Conv3d(4, 4, 1, groups=4), (1, 2, 5, 5, 5)),
])
def test_it_follows_the_channels_from_one_layer_to_the_next(
    first: nn.Module, between: Any, second: nn.Module, shape: tuple[int, ...]
) -> None:
    assert equalized(Between(first, between, second), shape).notes == ("equalize: first and second",)


@pytest.mark.parametrize(("first", "between", "second", "shape"), [
    (nn.Linear(6, 4), lambda x: x.reshape(1, -1), nn.Linear(20, 3), (1, 5, 6)),  # positions lie before channels
    (nn.Linear(6, 4), lambda x: x.mean(2), nn.Linear(4, 3), (1, 4, 6)),
    (nn.Linear(6, 4), nn.MaxPool1d(3, 1, 1), nn.Linear(4, 3), (1, 4, 6)),
    (nn.Linear(6, 4), same, nn.Conv1d(4, 3, 1), (1, 4, 6)),
    (nn.Conv2d(3, 8, 1), same, nn.Linear(8, 3), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 1), lambda x: x.mean(2), nn.Linear(8, 3), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 1), lambda x: x.mean(1), nn.Conv1d(8, 3, 1), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 1), lambda x: x.reshape(2, -1), nn.Linear(256, 3), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 1), lambda x: x.flatten(1), nn.Linear(64, 3), (3, 8, 8)),  # no batch
    (nn.Conv2d(3, 8, 1), lambda x: x + 1, nn.Conv2d(8, 3, 1), (1, 3, 8, 8)),
    (nn.Conv2d(3, 8, 1), lambda x: x.clamp(-1, 1), nn.Conv2d(8, 3, 1), (1, 3, 8, 8)),
])
def test_what_mixes_channels_with_other_axes_is_left_however_well_the_sizes_fit(
    first: nn.Module, between: Any, second: nn.Module, shape: tuple[int, ...]
) -> None:
    with pytest.raises(HarnessError, match="no two layers follow each other"):
        equalized(Between(first, between, second), shape)


def test_layers_that_share_a_weight_or_are_one_are_left() -> None:
    one, tied = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
    for second in (one, tied):
        tied.weight = one.weight
        model = nn.Sequential(one, nn.ReLU(), second, nn.ReLU(), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
        assert equalized(model, (1, 4, 3, 3)).notes == ("equalize: 4 and 6",)


def test_a_model_of_two_inputs_is_equalized() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 4), nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.b(torch.relu(self.a(x))) + self.c(y)  # type: ignore[no-any-return]

    assert equalized(Two(), (1, 6), (1, 5)).notes == ("equalize: a and b",)
