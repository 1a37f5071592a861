"""low_rank: each chain against the layer it stands for, and its factors against torch.linalg and tensorly by hand."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import tensorly
import torch
from pydantic import ValidationError
from tensorly.decomposition import parafac, partial_tucker
from torch import nn

from harness import chains
from harness.compress.factorize import built, factorization, pays
from harness.compress.low_rank import LowRank
from harness.compress.ranks import rank_for, within_budget
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from harness.types import Step

EXAMPLE = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1,)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.body, self.point = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 24, 1)
        self.head = nn.Linear(24, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(torch.relu(self.point(torch.relu(self.body(x)))).mean((2, 3)))  # type: ignore[no-any-return]


def net() -> Any:
    torch.manual_seed(0)
    return Net().eval()


def bench(seed: int = 0, **more: Any) -> Workbench:
    return Workbench(seed=seed, teacher=net(), example_inputs=EXAMPLE, **more)


def split(model: Any = None, work: Workbench | None = None, **params: Any) -> Compressed:
    start = Compressed(module=model or net(), form="eager", example_inputs=EXAMPLE)
    return LowRank().apply(start, LowRank.Params(**params), work or bench())


def run(model: Any, inputs: Any = EXAMPLE) -> torch.Tensor:
    with torch.no_grad():
        return getattr(model, "module", model)(*inputs)  # type: ignore[no-any-return]


def size(model: Any) -> int:
    return sum(p.numel() for p in getattr(model, "module", model).parameters())


CONVOLUTIONS: dict[str, Any] = {
    "plain": lambda: nn.Conv2d(6, 8, 3),
    "stride 2": lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1),
    "dilation 2": lambda: nn.Conv2d(6, 8, 3, padding=2, dilation=2),
    "same": lambda: nn.Conv2d(6, 8, 3, padding="same"),
    "same, even kernel": lambda: nn.Conv2d(6, 8, (2, 4), padding="same", dilation=(1, 2)),
    "all different": lambda: nn.Conv2d(6, 8, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)),
    "no bias": lambda: nn.Conv2d(6, 8, 3, bias=False),
    "reflected": lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"),
    "circular": lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1, padding_mode="circular"),
    "one axis": lambda: nn.Conv2d(6, 8, (1, 3), padding=(0, 1), stride=(2, 1)),
    "pointwise": lambda: nn.Conv2d(6, 8, 1, stride=2),
    "1d": lambda: nn.Conv1d(6, 8, 3, stride=2, padding=1),
    "3d": lambda: nn.Conv3d(6, 8, 3, padding=1, stride=(1, 2, 1)),
}


def convolution(kind: str) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    layer = CONVOLUTIONS[kind]()
    return layer, torch.randn(2, 6, *[9, 10, 7][: layer.weight.dim() - 2])


@pytest.mark.parametrize("method", ["svd", "tucker"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_at_full_rank_the_chain_gives_what_the_convolution_gives(kind: str, method: Any) -> None:
    layer, x = convolution(kind)
    found = factorization(layer, tuple(x.shape), method, 0)
    ranks = found.ranks(SimpleNamespace(energy=1.0, rank=None, ratio=None))
    assert ranks is not None
    with torch.no_grad():
        chain = built(found, ranks)
    assert len(chain) == (3 if method == "tucker" and kind != "pointwise" else 2)
    assert torch.allclose(run(chain, (x,)), run(layer, (x,)), atol=1e-4)


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_cp_of_a_weight_of_that_rank_gives_what_the_convolution_gives(kind: str) -> None:
    layer, x = convolution(kind)
    with torch.no_grad(), tensorly.backend_context("pytorch"):
        factors = [torch.randn(length, 3) for length in layer.weight.shape]
        layer.weight.copy_(tensorly.cp_to_tensor((torch.ones(3), factors)))
        found = factorization(layer, tuple(x.shape), "cp", 0)
        chain = built(found, (3,))
    if kind != "pointwise":
        assert [part.groups for part in chain] == [1, *[3] * (layer.weight.dim() - 2), 1]
    assert torch.allclose(run(chain, (x,)), run(layer, (x,)), atol=1e-3)


def test_at_full_rank_two_linear_layers_give_what_one_gives() -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(12, 7), torch.randn(2, 5, 12)
    for method in ("svd", "tucker", "cp"):
        found = factorization(layer, tuple(x.shape), method, 0)  # type: ignore[arg-type]
        with torch.no_grad():
            assert torch.allclose(run(built(found, (7,)), (x,)), run(layer, (x,)), atol=1e-5)


def test_svd_has_the_factors_of_torch_linalg() -> None:
    model = net()
    u, s, v = torch.linalg.svd(model.body.weight.detach().reshape(16, -1), full_matrices=False)
    first, second = split(copy.deepcopy(model), rank=5).module.body  # type: ignore[attr-defined]
    assert torch.equal(first.weight.reshape(5, -1), s[:5].sqrt()[:, None] * v[:5])
    assert torch.equal(second.weight.reshape(16, 5), u[:, :5] * s[:5].sqrt())
    assert torch.equal(second.bias, model.body.bias) and first.bias is None


def test_tucker_has_the_factors_of_tensorly_and_the_ranks_of_both_unfoldings() -> None:
    model, weight = net(), net().body.weight.detach()
    first, core, last = split(copy.deepcopy(model), method="tucker", energy=0.7).module.body  # type: ignore[attr-defined]
    ranks = []
    for unfolded in (weight.reshape(16, -1), weight.transpose(0, 1).reshape(16, -1)):
        share = torch.linalg.svdvals(unfolded).square()
        ranks.append(int((share.cumsum(0) / share.sum() < 0.7).sum()) + 1)
    assert [*core.weight.shape[:2]] == ranks
    with tensorly.backend_context("pytorch"):
        (want, (outer, inner)), _ = partial_tucker(weight, rank=ranks, modes=[0, 1], init="svd", random_state=0)
    assert torch.equal(core.weight, want)
    assert torch.equal(first.weight.flatten(1), inner.T) and torch.equal(last.weight.flatten(1), outer)


def test_neither_rank_of_tucker_is_above_what_the_other_ones_channels_can_feed() -> None:
    layer = nn.Conv2d(2, 16, (1, 2))  # full ranks 4 and 2
    assert factorization(layer, (1, 2, 8, 8), "tucker", 0).ranks(LowRank.Params(ratio=0.9)) == (2, 1)


def test_cp_has_the_tensor_of_tensorly_and_its_four_factors_are_of_one_scale() -> None:
    model = net()
    first, down, across, last = split(model, bench(seed=7), method="cp", rank=6).module.body  # type: ignore[attr-defined]
    with tensorly.backend_context("pytorch"):
        found = parafac(net().body.weight.detach().double(), rank=6, init="svd", random_state=7)
        want = tensorly.cp_to_tensor(found)
    factors = [last.weight.flatten(1).T, first.weight.flatten(1), down.weight.flatten(1), across.weight.flatten(1)]
    have = torch.einsum("ro,ri,rh,rw->oihw", *factors)
    assert torch.allclose(have.double(), want, atol=1e-5)
    norms = torch.stack([factor.norm(dim=1) for factor in factors])
    assert torch.allclose(norms, norms[:1].expand_as(norms), rtol=1e-4)
    assert down.kernel_size == (3, 1) and down.padding == (1, 0) and across.kernel_size == (1, 3)


def test_the_rank_of_cp_is_the_smallest_that_explains_the_energy_of_32_up_to_the_largest_that_pays() -> None:
    def energy(rank: int) -> float:
        weight = net().body.weight.detach().double()
        with tensorly.backend_context("pytorch"):
            found = parafac(weight, rank=rank, init="svd", random_state=0)
            return 1 - float((weight - tensorly.cp_to_tensor(found)).square().sum() / weight.square().sum())

    largest = (16 * 16 * 9 - 1) // (16 + 3 + 3 + 16)
    tried = sorted({math.ceil(largest * i / 32) for i in range(1, 33)})
    rank = split(method="cp", energy=0.5).module.body[0].out_channels  # type: ignore[attr-defined]
    assert energy(rank) >= 0.5 > energy(tried[tried.index(rank) - 1])
    with pytest.raises(HarnessError, match="no layer gets smaller"):
        split(method="cp", energy=energy(largest) + 1e-6, ignore=["stem", "point", "head"])


@pytest.mark.parametrize(("params", "rank"), [({"energy": 0.5}, 1), ({"energy": 0.9}, 2), ({"energy": 1.0}, 3), ({}, 2),
                                              ({"rank": 2}, 2), ({"rank": 9}, 3), ({"ratio": 0.7}, 2)])
def test_rank_is_the_smallest_with_the_energy(params: dict[str, Any], rank: int) -> None:
    asked = LowRank.Params(**params)
    assert rank_for(torch.tensor([3.0, 2.0, 1.0]), asked) == rank  # energies 9, 4, 1 of 14


@pytest.mark.parametrize("method", ["svd", "tucker", "cp"])
def test_full_rank_would_be_larger_and_is_left_whole(method: str) -> None:
    with pytest.raises(HarnessError, match="no layer gets smaller"):
        split(method=method, energy=1.0, ignore=["stem"])


def test_low_rank_of_a_low_rank_layer_changes_nothing_but_its_size() -> None:
    model = net()
    with torch.no_grad():
        model.body.weight.copy_((torch.randn(16, 2) @ torch.randn(2, 144)).reshape(16, 16, 3, 3))
    before = run(model)
    after: Any = split(copy.deepcopy(model), energy=0.999999, ignore=["stem", "point", "head"])
    assert after.module.body[0].weight.shape == (2, 16, 3, 3) and after.module.body[1].bias is not None
    assert torch.allclose(run(after), before, atol=1e-5)
    assert size(after) < size(model)


def test_what_was_split_and_what_was_left_whole_is_told() -> None:
    notes = split(rank=6).notes
    assert f"low_rank: svd, {size(net())} parameters, {size(split(rank=6))} left" in notes
    assert any("body rank 6" in note for note in notes)
    assert any("larger" in note and "head" in note and "body" not in note for note in notes)


def test_fewer_parameters_do_not_pay_where_more_multiplications_come_with_them() -> None:
    strided, dense = nn.Conv2d(64, 64, 3, stride=4, padding=1), nn.Conv2d(64, 64, 3, padding=1)
    for layer, wanted in ((strided, False), (dense, True)):
        found = factorization(layer, (1, 64, 16, 16), "tucker", 0)
        assert sum(p.numel() for part in found.parts((16, 48)) for p in part.parameters()) < size(layer)
        assert pays(found, (16, 48)) == wanted  # the first one's 48 channels are of the whole input


def test_layers_keep_their_dtype_their_frozen_weights_and_their_mode() -> None:
    model = net().double()
    model.body.requires_grad_(False)
    start = Compressed(module=model, form="eager", example_inputs=(EXAMPLE[0].double(),))
    for method in ("svd", "tucker", "cp"):
        found: Any = LowRank().apply(start.with_(module=copy.deepcopy(model)), LowRank.Params(method=method, rank=2),
                                     bench()).module
        assert {p.dtype for p in found.parameters()} == {torch.float64} and not found.training
        assert not any(p.requires_grad for p in found.body.parameters())
        assert all(p.requires_grad for p in found.stem.parameters())


def test_weights_that_two_layers_share_are_not_split_apart() -> None:
    model = net()
    model.copy = nn.Conv2d(16, 16, 3, padding=1)
    model.copy.weight = model.body.weight
    found: Any = split(model, rank=1)
    assert found.module.copy.weight is found.module.body.weight
    assert any("stem" in note for note in found.notes) and not any("body" in note for note in found.notes)


def test_grouped_convolutions_and_weights_that_are_read_without_a_call_stay() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.depthwise, self.unused = nn.Conv2d(3, 3, 3, groups=3), nn.Linear(8, 8)
            self.read, self.head = nn.Linear(36, 36), nn.Linear(36, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.depthwise(x)[:, 0].flatten(1) @ self.read.weight)  # type: ignore[no-any-return]

    found: Any = split(Mixed().eval(), rank=1).module
    assert {name for name, layer in found.named_children() if isinstance(layer, nn.Sequential)} == {"head"}


def test_ignored_names_globs_and_all_inside_a_named_part_stay_whole() -> None:
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3)), nn.Conv2d(16, 16, 3),
                          nn.Conv2d(16, 16, 1)).eval()
    found: Any = split(model, rank=1, ignore=["0", "[2-9]"]).module
    assert [type(layer).__name__ for layer in (*found[0], found[2])] == ["Conv2d"] * 3
    assert isinstance(found[1], nn.Sequential)


def scale_error(model: Any) -> float:
    """More is better, as a task metric: how near the outputs are to the baseline's."""
    inputs = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    return -float((run(model, (inputs,)) - run(net(), (inputs,))).abs().mean())


@pytest.mark.parametrize("method", ["svd", "tucker", "cp"])
def test_the_budget_takes_the_least_energy_that_validation_allows_and_says_which(method: str) -> None:
    budget = 0.9 * (scale_error(net()) - scale_error(split(method=method, energy=0.6).module))
    found = split(work=bench(evaluate=scale_error), method=method, budget=budget)
    note = next(note for note in found.notes if "chosen on validation" in note)
    energy = float(note.split("energy ")[1].split()[0])
    assert f"the budget is {budget:g}" in note and 0 < energy < 1
    loss = scale_error(net()) - scale_error(found.module)
    assert 0 < loss <= budget and f"loses {loss:.3g}" in note
    less = split(method=method, energy=round(energy - 0.01, 2))
    assert scale_error(net()) - scale_error(less.module) > budget
    assert torch.equal(run(found), run(split(method=method, energy=energy)))


def test_a_budget_that_no_energy_keeps_is_a_message() -> None:
    with pytest.raises(HarnessError, match=r"energy 0\.99 validation loses 1, more than the budget of 0") as caught:
        within_budget(nn.ReLU(), lambda work, energy: work.register_buffer("split", torch.ones(1)),
                      lambda module: -float(hasattr(module, "split")), 0.0, lambda *told: None, "low_rank")
    assert "raise budget" in str(caught.value)


def test_a_metric_that_is_not_a_number_is_within_no_budget() -> None:
    with pytest.raises(HarnessError, match="loses nan"):
        split(work=bench(evaluate=lambda module: float("nan")), budget=0.5)


def test_tensorlys_backend_is_as_before() -> None:
    assert tensorly.get_backend() == "numpy"
    for method in ("tucker", "cp"):
        split(method=method, rank=2)
        assert tensorly.get_backend() == "numpy"
    assert isinstance(tensorly.tensor([1.0]), __import__("numpy").ndarray)


def test_the_same_seed_gives_the_same_factors_whatever_random_state_there_was() -> None:
    for method in ("svd", "tucker", "cp"):
        first, before = split(method=method, rank=4), torch.random.get_rng_state()
        torch.manual_seed(99)
        second = split(method=method, rank=4)
        torch.random.set_rng_state(before)
        assert torch.equal(run(first), run(second)), method
    assert not torch.equal(run(split(method="cp", rank=4)), run(split(work=bench(seed=1), method="cp", rank=4)))
    seeded = {m: chains.traits(Step(name="low_rank", params={"method": m})).seeded for m in ("svd", "tucker", "cp")}
    assert seeded == {"svd": False, "tucker": False, "cp": True}


def test_zeros_and_shared_values_would_be_lost_and_later_layers_are_called_otherwise() -> None:
    traits = chains.traits(Step(name="low_rank", params={}))
    assert set(traits.refuses) == {"zeros", "values"} and traits.renames and not traits.reads_data
    assert chains.traits(Step(name="low_rank", params={"budget": 0.01})).reads_data
    refused = chains.refusal([Step(name="prune_magnitude", params={}), Step(name="low_rank", params={})])
    assert refused is not None and "factors are dense" in refused.reason


def test_what_the_model_or_the_data_do_not_allow_is_told_before_any_time_is_spent() -> None:
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()).eval()
    dense = nn.Sequential(nn.Flatten(), nn.Linear(192, 32)).eval()
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (net(), {"ignore": ["boddy"]}, "no layer matches 'boddy'\n  try: .*'?body"),
        (net(), {"ignore": ["*"]}, "no layer is left"),
        (net(), {"budget": 0.01}, "budget needs a validation split and a metric"),
        (grouped, {}, "no layer that can be split"),
        (grouped, {"method": "tucker"}, "no layer that can be split"),
        (nn.Sequential(nn.Flatten()), {"method": "cp"}, "no layer that can be split"),
    ]
    for model, params, message in cases:
        with pytest.raises(HarnessError, match=f"low_rank: .*{message}") as caught:
            LowRank.preflight(LowRank.Params(**params), model, bench())
        assert "\n" not in caught.value.what
    for method in ("tucker", "cp"):
        LowRank.preflight(LowRank.Params(method=method), dense, bench())
        assert size(split(copy.deepcopy(dense), method=method, rank=2)) == 2 * (192 + 32) + 32


def test_a_weight_that_cannot_be_decomposed_names_its_layer() -> None:
    for method in ("svd", "tucker", "cp"):
        model = net()
        with torch.no_grad():
            model.body.weight[0, 0, 0, 0] = float("nan")
        with pytest.raises(HarnessError, match="low_rank: body cannot be decomposed"):
            split(model, method=method, rank=2)


@pytest.mark.parametrize("params", [
    {"rank": 3, "energy": 0.5}, {"ratio": 0.5, "budget": 0.1}, {"ratio": 0.0}, {"ratio": 1}, {"ratio": -0.1},
    {"ratio": "50%"}, {"energy": 0}, {"energy": 1.1}, {"rank": 0}, {"budget": -0.1}, {"method": "qr"},
])
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LowRank.Params(**params)
