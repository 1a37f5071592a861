"""prune_channels against torch-pruning called by hand, and where it does otherwise: rounding, shared and frozen
weights, shares of MACs and parameters."""

from __future__ import annotations

import copy
import inspect
from itertools import islice
from typing import Any

import pytest
import torch
import torch_pruning as tp
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from harness import chains, registry
from harness.compress import channels
from harness.compress.channel_target import STEPS
from harness.compress.prune_channels import PruneChannels
from harness.data import Data, Split
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench
from harness.types import Step

EXAMPLE = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)


class Residual(nn.Module):
    """Two layers that an addition ties together, a wide and a narrow one beside them, and a hidden linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.wide, self.wide_norm = nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64)
        self.back, self.back_norm = nn.Conv2d(64, 32, 1), nn.BatchNorm2d(32)
        self.hidden, self.head = nn.Linear(32, 48), nn.Linear(48, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.back_norm(self.back(torch.relu(self.wide_norm(self.wide(x))))))
        return self.head(torch.relu(self.hidden(x.mean((2, 3)))))  # type: ignore[no-any-return]


class Inverted(nn.Module):
    """An inverted residual block: pointwise, depthwise, pointwise, and the way around them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.expand, self.depthwise = nn.Conv2d(16, 64, 1), nn.Conv2d(64, 64, 3, padding=1, groups=64)
        self.project, self.head = nn.Conv2d(64, 16, 1), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return self.head(x.mean((2, 3)))  # type: ignore[no-any-return]


class Twins(nn.Module):
    """Two layers of one weight, fed by two layers or by the same one."""

    def __init__(self, together: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 32, 1)
        self.b = self.a if together else nn.Conv2d(3, 32, 1)
        self.first, self.second = nn.Conv2d(32, 16, 1), nn.Conv2d(32, 16, 1)
        self.second.weight = self.first.weight
        self.free, self.head = nn.Conv2d(32, 32, 1), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.first(torch.relu(self.a(x))), self.second(torch.relu(self.b(x)))], 1)
        return self.head(torch.relu(self.free(x)).mean((2, 3)))  # type: ignore[no-any-return]


def made(kind: Any = Residual) -> Any:
    """With scales of batch norm that differ, as after training."""
    torch.manual_seed(0)
    model = kind().eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.1, 2)
    return model


def items(count: int) -> list[tuple[torch.Tensor, int]]:
    torch.manual_seed(1)
    return [(torch.randn(3, 8, 8), i % 4) for i in range(count)]


def bench(count: int = 32, batch_size: int = 8, seed: int = 0, **more: Any) -> Workbench:
    data = Data(train=Split(name="train", source=items(count)) if count else None, test=None, validation=None,
                calibration=None)
    return Workbench(seed=seed, teacher=made(), example_inputs=EXAMPLE, batch_size=batch_size,
                     **data.bench_splits(seed), **more)


def pruned(model: Any = None, work: Workbench | None = None, **params: Any) -> Compressed:
    start = Compressed(module=model or made(), form="eager", example_inputs=EXAMPLE)
    return PruneChannels().apply(start, PruneChannels.Params(**params), work or bench())


def preflight(model: Any = None, work: Workbench | None = None, **params: Any) -> None:
    PruneChannels.preflight(PruneChannels.Params(**params), model or made(), work or bench())


def widths(model: Any) -> dict[str, int]:
    return {name: layer.weight.shape[0] for name, layer in getattr(model, "module", model).named_modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)}


def first_batches(batches: int, **more: Any) -> list[Any]:
    work = bench(**more)
    assert work.train is not None
    return list(islice(work.train(work.batch_size), batches))


def by_hand(model: Any, importance: Any, **options: Any) -> Any:
    pruner = tp.pruner.BasePruner(model, EXAMPLE, importance=importance, ignored_layers=[model.head],
                                  in_channel_groups={}, out_channel_groups={}, num_heads={}, **options)
    pruner.step()
    return model


def same(have: Compressed, want: Any) -> None:
    mine, theirs = have.module.state_dict(), want.state_dict()  # type: ignore[attr-defined]
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in theirs.items()}
    assert all(torch.equal(v, theirs[k]) for k, v in mine.items())
    assert len(mine) == len(made().state_dict())


@pytest.mark.parametrize("scope", ["uniform", "global"])
@pytest.mark.parametrize("round_to", [1, 8])
@pytest.mark.parametrize("importance", ["magnitude", "bn_scale", "taylor", "hessian"])
def test_the_channels_that_stay_are_those_of_torch_pruning_by_hand(importance: str, round_to: int, scope: str) -> None:
    model, (batch, *_) = made(), first_batches(1)
    kinds = {"magnitude": tp.importance.GroupMagnitudeImportance(p=2), "bn_scale": tp.importance.BNScaleImportance(),
             "taylor": tp.importance.GroupTaylorImportance(), "hessian": tp.importance.GroupHessianImportance()}
    (inputs,), target = batch
    if importance == "taylor":
        cross_entropy(model(inputs), target).backward()  # type: ignore[no-untyped-call]
    if importance == "hessian":
        squares = []
        for loss in cross_entropy(model(inputs), target, reduction="none"):
            squares.append([g.square() for g in torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)])
        for parameter, *found in zip(model.parameters(), *squares, strict=True):
            parameter.grad = torch.stack(found).mean(0)
    want = by_hand(model, kinds[importance], pruning_ratio=0.45, round_to=round_to, global_pruning=scope == "global")
    more = {"batches": 1} if importance in ("taylor", "hessian") else {}
    have = pruned(ratio=0.45, round_to=round_to, scope=scope, importance=importance, **more)
    same(have, want)
    assert widths(want) != widths(made())


def test_on_one_sample_hessian_is_that_of_torch_prunings_own_accumulation() -> None:
    model, scorer = made(), tp.importance.GroupHessianImportance()
    (((inputs,), target),) = first_batches(1, count=1)
    cross_entropy(model(inputs), target).backward()  # type: ignore[no-untyped-call]
    scorer.accumulate_grad(model)
    want = by_hand(model, scorer, pruning_ratio=0.5, round_to=1)
    same(pruned(work=bench(count=1), round_to=1, importance="hessian", batches=1), want)


def test_taylor_is_the_gradient_of_the_mean_loss_over_batches_of_different_length() -> None:
    model = made()
    inputs, targets = zip(*(((x,), y) for x, y in items(20)), strict=True)
    stacked, classes = torch.stack([x for (x,) in inputs]), torch.tensor(targets)
    cross_entropy(model(stacked), classes).backward()  # type: ignore[no-untyped-call]
    want = by_hand(model, tp.importance.GroupTaylorImportance(), pruning_ratio=0.5, round_to=1)
    same(pruned(work=bench(count=20, batch_size=8), round_to=1, importance="taylor"), want)  # 8, 8 and 4


@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_ratios_of_single_layers_are_torch_prunings_pruning_ratio_dict(scope: str) -> None:
    model = made()
    want = by_hand(model, tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=0.5, round_to=4,
                   pruning_ratio_dict={model.wide: 0.25}, global_pruning=scope == "global")
    have = pruned(ratio=0.5, round_to=4, scope=scope, ratios={"wid?": 0.25})
    same(have, want)
    assert widths(have)["wide"] == 48


def test_global_ranking_takes_more_from_the_layer_that_matters_less_and_never_all_of_it() -> None:
    model = made()
    with torch.no_grad():
        for name in ("stem", "hidden"):  # channels of equal norm, beside many in `wide` of hardly any
            getattr(model, name).weight.fill_(1)
        model.wide.weight[:60] *= 1e-3
        model.back.weight[:, :60] *= 1e-3
        model.wide_norm.weight[:60] *= 1e-3
    found = widths(pruned(model, scope="global", ratio=0.4))
    assert found["wide"] == 8 and found["stem"] == 32


def test_channels_left_are_rounded_down_to_a_multiple_but_never_below_it() -> None:
    def net(width: int) -> Any:
        return nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 4, 1)).eval()

    assert widths(pruned(net(32), ratio=0.3))["0"] == 16  # 22 are left
    assert widths(pruned(net(12), ratio=0.5))["0"] == 8
    with pytest.raises(HarnessError, match=r"nothing to remove at ratio 0\.5 in multiples of 8"):
        pruned(net(8), ratio=0.5)


@pytest.mark.parametrize(("ratio", "left"), [(0.25, 48), (0.5, 32), (0.9, 8)])
def test_grouped_convolutions_lose_as_many_channels_in_each_group(ratio: float, left: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3, groups=4), nn.ReLU(), nn.Conv2d(64, 4, 1)).eval()
    found: Any = pruned(model, ratio=ratio).module
    assert found[1].out_channels == found[1].in_channels == left and found[1].groups == 4
    assert found[1].weight.shape == (left, left // 4, 3, 3)
    odd = nn.Sequential(nn.Conv2d(3, 48, 1), nn.Conv2d(48, 48, 3, groups=6), nn.Conv2d(48, 4, 1)).eval()
    assert widths(pruned(odd, ratio=ratio))["1"] == 24  # the multiples of 8 that 6 divides, 48 and 24
    defaults = inspect.signature(tp.pruner.BasePruner.__init__).parameters
    assert defaults["out_channel_groups"].default == {}  # one dict for all pruners: nothing of this model is left in it


def test_depthwise_convolutions_and_residuals_stay_consistent() -> None:
    found: Any = pruned(made(Inverted)).module
    assert (found.expand.out_channels, found.depthwise.groups, found.project.in_channels) == (32, 32, 32)
    assert found.stem.out_channels == found.project.out_channels == 8 and found(*EXAMPLE).shape == (1, 4)


def test_linear_layers_are_pruned_without_any_convolution() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 4)).eval()
    assert widths(pruned(model)) == {"1": 16, "3": 4}


@pytest.mark.parametrize("target", ["macs", "parameters"])
@pytest.mark.parametrize("scope", ["uniform", "global"])
def test_a_share_of_macs_or_parameters_is_reached_by_the_least_ratio(target: str, scope: str) -> None:
    def size(model: Any) -> int:
        return channels.macs(model, EXAMPLE, "x") if target == "macs" else channels.count(model)

    found = pruned(target=target, ratio=0.6, scope=scope, round_to=2)
    note = next(note for note in found.notes if "60.0% asked" in note)
    ratio = float(note.split("ratio ")[1].split()[0])
    removed = 1 - size(found.module) / size(made())
    assert removed >= 0.6 and f"removed {removed:.1%} of the {target}" in note
    less = pruned(ratio=round(ratio * STEPS - 1) / STEPS, scope=scope, round_to=2)
    assert 1 - size(less.module) / size(made()) < 0.6


def test_a_share_that_cannot_go_is_refused_with_what_can_before_any_time_is_spent() -> None:
    for attempt in (preflight, pruned):
        with pytest.raises(HarnessError, match=r"prune_channels: at most 9\d\.\d% of the parameters can go") as caught:
            attempt(target="parameters", ratio=0.99, ignore=["hidden"])
        assert "ignore less" in str(caught.value)


def test_a_share_is_reached_by_data_too() -> None:
    found = pruned(target="macs", ratio=0.5, importance="taylor", batches=2, round_to=1)
    assert channels.macs(found.module, EXAMPLE, "x") <= 0.5 * channels.macs(made(), EXAMPLE, "x")
    assert all(p.grad is None for p in found.module.parameters())  # type: ignore[attr-defined]


def test_the_same_seed_gives_the_same_weights_and_another_one_need_not() -> None:
    def state(seed: int) -> torch.Tensor:
        found: Any = pruned(work=bench(count=64, seed=seed), importance="taylor", batches=1, round_to=1).module
        return torch.cat([p.detach().flatten() for p in found.parameters()])

    assert torch.equal(state(0), state(0)) and not torch.equal(state(0), state(1))
    assert chains.traits(Step(name="prune_channels", params={"importance": "taylor"})).seeded
    assert not chains.traits(Step(name="prune_channels", params={})).seeded


@pytest.mark.parametrize("params", [{}, {"ignore": ["a"]}])
def test_frozen_and_shared_weights_are_so_afterwards(params: dict[str, Any]) -> None:
    model = made(lambda: Twins(together=True))
    model.free.weight.requires_grad_(False)
    found: Any = pruned(model, **params).module
    assert found.free.out_channels == 16 and not found.free.weight.requires_grad and found.free.bias.requires_grad
    assert found.second.weight is found.first.weight and found.head.weight.requires_grad
    assert found.first.out_channels == 16 and found.first.in_channels == (32 if params else 16)


def test_layers_of_one_weight_that_would_lose_different_inputs_are_named() -> None:
    with pytest.raises(HarnessError, match="first and second share a weight, and would lose") as caught:
        preflight(made(Twins))
    assert "`ignore`" in str(caught.value) and "\n" not in caught.value.what


def test_zeros_of_an_earlier_step_stay_known_under_their_names() -> None:
    sparse = registry.load("technique", "prune_magnitude")
    start = Compressed(module=made(), form="eager", example_inputs=EXAMPLE)
    start = sparse().apply(start, sparse.Params(ratio=0.5), bench())
    found = PruneChannels().apply(start, PruneChannels.Params(), bench())
    named = dict(found.module.named_parameters())  # type: ignore[attr-defined]
    assert found.patterns == start.patterns and set(found.patterns) <= set(named)
    assert all((named[name] == 0).any() for name in found.patterns)


def test_a_layer_of_zeros_only_has_no_importance_and_goes_first() -> None:
    model = made()
    with torch.no_grad():
        for parameter in (*model.wide.parameters(), *model.wide_norm.parameters(), *model.back.parameters()):
            parameter.zero_()
    assert widths(pruned(model, scope="global", ratio=0.3))["wide"] == 8


def test_what_the_model_or_the_data_do_not_allow_is_told_before_any_time_is_spent() -> None:
    bare = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 4, 1)).eval()
    cases: list[tuple[Any, dict[str, Any], Workbench, str]] = [
        (None, {"ignore": ["widr"]}, bench(), "no layer matches 'widr'\n  try: .*'?wide"),
        (None, {"ratios": {"bak": 0.5}}, bench(), "no layer matches 'bak'\n  try: .*'?back"),
        (None, {"ratios": {"head": 0.5}}, bench(), "'head' has no channels that may go"),
        (None, {"ratios": {"stem": 0.5, "back": 0.25}}, bench(), "'stem' and 'back' mean layers that lose"),
        (None, {"ignore": ["*"]}, bench(), "nothing to remove: no layer has channels that may go"),
        (bare, {"importance": "bn_scale"}, bench(), "bn_scale ranks by the scales of batch norm, and the model has"),
        (None, {"importance": "taylor"}, bench(count=0), "needs data with targets"),
        (None, {"importance": "hessian"}, bench(count=0), "needs data with targets"),
    ]
    for model, params, work, message in cases:
        before = copy.deepcopy(model or made()).state_dict()
        subject = model or made()
        with pytest.raises(HarnessError) as caught:
            preflight(subject, work, **params)
        assert caught.match(f"prune_channels: .*{message}"), caught.value
        assert all(torch.equal(v, before[k]) for k, v in subject.state_dict().items())


def test_preflight_leaves_the_baseline_as_it_is_and_lets_it_pass() -> None:
    model = made()
    model.stem.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    for params in ({}, {"importance": "taylor"}, {"importance": "bn_scale"}, {"target": "macs", "scope": "global"}):
        preflight(model, **params)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model.stem.weight.requires_grad and all(p.grad is None for p in model.parameters())


def test_behind_folding_there_are_no_scales_to_rank_by() -> None:
    steps = [Step(name="quantize_aware", params={}), Step(name="prune_channels", params={"importance": "bn_scale"})]
    assert "folded" in chains.traits(steps[1]).refuses
    assert not chains.traits(Step(name="prune_channels", params={})).refuses


@pytest.mark.parametrize("params", [
    {"ratio": 0}, {"ratio": 1}, {"ratio": -0.1}, {"ratio": "50%"}, {"ratios": {"a": 0}}, {"ratios": {"a": 1.5}},
    {"importance": "l1"}, {"scope": "layer"}, {"target": "flops"}, {"batches": 4}, {"round_to": 0},
    {"importance": "taylor", "batches": 0},
])
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PruneChannels.Params(**params)
