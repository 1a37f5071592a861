"""prune_magnitude: which weights become zero, when, and that they stay so."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.utils import prune

from harness import chains, registry
from harness.compress import sparsity
from harness.compress.patterns import ZEROS
from harness.compress.pruning_params import PruneMagnitudeParams
from harness.compress.pruning_schedule import due, in_rounds
from harness.errors import HarnessError, UsageError, UserCodeError
from harness.interfaces import Compressed, Workbench
from harness.types import Step
from tests.test_compress import apply, bench, items, net, run

LAYERS = ("head", "stem.0", "body")


def pruned(work: Workbench | None = None, model: Any = None, **params: Any) -> Any:
    return apply("prune_magnitude", work, model, **params).module


def weights(model: Any) -> list[torch.Tensor]:
    return [model.get_submodule(name).weight.detach() for name in LAYERS]


def share(model: Any) -> float:
    return sum(int((w == 0).sum()) for w in weights(model)) / sum(w.numel() for w in weights(model))


def preflight(model: Any, work: Workbench | None = None, **params: Any) -> None:
    technique = registry.load("technique", "prune_magnitude")
    technique.preflight(technique.Params(**params), model, work or bench())


@pytest.mark.parametrize("ratio", [0.1, 0.37, 0.8])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_the_same_weights_go_as_by_torchs_own_pruning(scope: str, ratio: float) -> None:
    mine, theirs = pruned(ratio=ratio, scope=scope), net()
    where = [(layer, "weight") for layer in theirs.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    if scope == "global":
        prune.global_unstructured(where, pruning_method=prune.L1Unstructured, amount=ratio)
    else:
        for layer, name in where:
            prune.l1_unstructured(layer, name, amount=ratio)
    for layer, name in where:
        prune.remove(layer, name)
    assert all(torch.equal(a, b) for a, b in zip(weights(mine), weights(theirs), strict=True))
    assert share(mine) == pytest.approx(ratio, abs=0.002)


def test_what_is_left_is_a_plain_module_and_biases_and_norms_are_untouched() -> None:
    before, after = net(), pruned(ratio=0.9)
    assert list(after.state_dict()) == list(before.state_dict())
    assert [name for name, _ in after.named_parameters()] == [name for name, _ in before.named_parameters()]
    assert not any(layer._forward_pre_hooks or hasattr(layer, "parametrizations") for layer in after.modules())
    for name, value in before.state_dict().items():
        if name.removesuffix(".weight") not in LAYERS:
            assert torch.equal(value, after.state_dict()[name]), name
    assert not after.training


def test_zeros_have_no_sign() -> None:
    """Half of them -0.0 would cost a bit each in the zipped file, also behind training."""
    for model in (pruned(ratio=0.8), pruned(ratio=0.8, epochs=1, lr=0.01)):
        assert not any(torch.signbit(w[w == 0]).any() for w in weights(model))


def test_a_threshold_takes_what_is_smaller_and_nothing_else() -> None:
    before = net()
    with torch.no_grad():
        before.head.weight[0, :2] = torch.tensor([0.0625, -0.0625])
    after = pruned(model=copy.deepcopy(before), threshold=0.0625)
    for old, new in zip(weights(before), weights(after), strict=True):
        assert torch.equal(new, torch.where(old.abs() < 0.0625, 0.0, old))
    assert after.head.weight[0, :2].all() and 0.1 < share(after) < 0.9


def test_a_layer_of_which_a_threshold_leaves_nothing_is_noted_and_an_empty_model_refused() -> None:
    model = net()
    with torch.no_grad():
        model.body.weight.mul_(0.01)
    assert "prune_magnitude: not one weight is left in body" in apply(
        "prune_magnitude", model=model, threshold=0.01).notes
    with pytest.raises(HarnessError, match="threshold 9 removes every weight"):
        pruned(threshold=9.0)


@pytest.mark.parametrize("params", [{"threshold": 1e-30}, {"ratio": 1e-6}])
def test_a_pruning_that_removes_nothing_is_refused(params: dict[str, float]) -> None:
    with pytest.raises(HarnessError, match="removes nothing"):
        pruned(**params)


def test_what_is_zero_already_counts() -> None:
    once = apply("prune_magnitude", ratio=0.6).module
    assert share(pruned(model=copy.deepcopy(once), ratio=0.7)) == pytest.approx(0.7, abs=0.001)
    with pytest.raises(HarnessError, match=r"60\.0% of the weights are zero"):
        pruned(model=once, ratio=0.5)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 3)])
def test_n_of_m_is_kept_along_what_an_output_takes_as_numpy_does_it(n: int, m: int) -> None:
    before, after = net(), pruned(pattern=f"{n}:{m}")
    for old, new in zip(weights(before), weights(after), strict=True):
        rows = old.reshape(len(old), -1).numpy()
        if rows.shape[1] % m:
            assert torch.equal(old, new)
            continue
        groups = rows.reshape(-1, m).copy()
        for group in groups:
            group[numpy.argsort(abs(group))[: m - n]] = 0
        assert numpy.array_equal(new.reshape(-1, m).numpy(), groups)


def test_a_layer_whose_rows_m_does_not_divide_stays_whole_and_is_named() -> None:
    notes = apply("prune_magnitude", pattern="2:4").notes
    assert "prune_magnitude: whole, their rows are no multiple of 4: stem.0" in notes  # 27 weights per output
    with pytest.raises(HarnessError, match="pattern 3:5 fits no layer"):
        preflight(net(), pattern="3:5")


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d(8, 6, 3, groups=2), nn.ConvTranspose1d(4, 3, 2),
                                   nn.Conv2d(8, 6, 2, groups=2), nn.Linear(8, 3)])
def test_a_row_is_what_belongs_to_one_output_whatever_the_layer(layer: Any) -> None:
    """Each weight is marked with the outputs that change with it."""
    ones = torch.ones(1, getattr(layer, "in_channels", 8), *[3] * (layer.weight.dim() - 2))
    marks = torch.zeros_like(layer.weight)
    with torch.no_grad():
        layer.bias.zero_()
        for index in range(marks.numel()):
            layer.weight.zero_().view(-1)[index] = 1.0
            marks.view(-1)[index] = int(layer(ones).reshape(len(layer.bias), -1).sum(1).nonzero())
    rows = sparsity.by_output(marks, layer).reshape(-1, sparsity.row_length(layer.weight, layer))
    assert (rows == rows[:, :1]).all() and len(rows) == len(rows[:, 0].unique())
    scores = torch.rand_like(marks)
    mask = sparsity.n_of_m(scores, layer, 1, 4)
    kept = sparsity.by_output(mask, layer).reshape(-1, 4)
    best = sparsity.by_output(scores, layer).reshape(-1, 4).argmax(1)
    assert (kept.sum(1) == 1).all() and torch.equal(kept.int().argmax(1), best)


def test_gradient_importance_is_weight_times_slope_as_numpy_computes_it() -> None:
    """A linear model under squared error, where the slope is 2·(Wx + b - y)·x by hand."""
    torch.manual_seed(3)
    model: Any = nn.Sequential(nn.Linear(6, 2))
    data = [(torch.randn(6), torch.randn(2)) for _ in range(20)]
    batches = [((torch.stack([x for x, _ in part]),), torch.stack([y for _, y in part]))
               for part in (data[:16], data[16:])]  # not of one size
    work = Workbench(seed=0, teacher=model, example_inputs=(torch.ones(1, 6),), calibration=lambda size: batches,
                     loss=lambda output, target: (output - target).square().sum(1).mean())
    w, b = model[0].weight.detach().numpy().copy(), model[0].bias.detach().numpy()
    x, y = (numpy.stack([one[i].numpy() for one in data]) for i in (0, 1))
    slope = 2 * (x @ w.T + b - y).T @ x / len(data)
    gone = numpy.argsort(abs(w * slope).reshape(-1))[:5]
    after = pruned(work, model, ratio=5 / 12, importance="gradient")
    assert numpy.array_equal(numpy.flatnonzero(after[0].weight.detach().numpy() == 0), numpy.sort(gone))
    by_magnitude = numpy.argsort(abs(w).reshape(-1))[:5]
    assert set(gone) != set(by_magnitude)


def test_a_weight_without_a_slope_goes_behind_those_that_are_zero_already() -> None:
    """Else the two would tie, and more than the ratio would be zero in the end."""
    scores = sparsity.scores(torch.tensor([3.0, 2.0, 0.0, 1.0]), torch.tensor([0.0, 0.0, 5.0, 1.0]))
    (mask,) = sparsity.least([scores], 0.25, "layer")
    assert mask.tolist() == [True, True, False, True]


def test_gradient_importance_leaves_the_model_as_it_was() -> None:
    model = net()
    model.body.weight.requires_grad_(False)
    model.stem[1].train()
    before = copy.deepcopy(model.state_dict())
    train = bench().train
    assert train is not None
    loss = nn.functional.cross_entropy
    found = sparsity.gradients(model, [model.body.weight, model.head.weight], list(train(16)),
                               lambda output, inputs, target: loss(output, target), "x")
    assert all(bool(one.any()) for one in found)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.body.weight.requires_grad and all(p.grad is None for p in model.parameters())
    assert model.stem[1].training and not model.stem[0].training


def test_gradient_importance_reads_train_else_calibration_else_is_refused_early() -> None:
    work = bench()
    with pytest.raises(UsageError, match="neither train nor calibration"):
        preflight(net(), replace(work, train=None, calibration=None), importance="gradient")
    by_train = pruned(work, importance="gradient", batches=1)
    by_calibration = pruned(replace(work, train=None), importance="gradient", batches=1)
    assert share(by_train) == share(by_calibration) == pytest.approx(0.5, abs=0.001)
    assert not torch.equal(by_train.body.weight, by_calibration.body.weight)


def test_a_loss_that_fails_or_is_not_finite_is_told_with_the_step() -> None:
    with pytest.raises(HarnessError, match="prune_magnitude: the loss is nan"):
        pruned(bench(loss=lambda output, target: output.sum() * float("nan")), importance="gradient")
    with pytest.raises(UserCodeError, match="prune_magnitude: model or loss failed"):
        pruned(bench(loss=lambda output, target: 1 / 0), importance="gradient")


class Tied(nn.Module):
    """One weight in three places, one of them no linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.inner, self.outer, self.again = nn.Linear(8, 8), nn.Linear(8, 12), nn.Linear(8, 12)
        self.outer.weight = self.again.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.inner(self.table(x))
        return self.outer(hidden) + self.again(hidden)  # type: ignore[no-any-return]


def test_a_shared_weight_is_pruned_once_counts_once_and_stays_shared() -> None:
    found = apply("prune_magnitude", model=Tied(), ratio=0.5)
    model: Any = found.module
    assert model.outer.weight is model.again.weight is model.table.weight
    zeros = int((model.outer.weight == 0).sum() + (model.inner.weight == 0).sum())
    assert zeros == (96 + 64) // 2
    assert found.patterns.keys() == {"table.weight", "inner.weight"}  # as the model's parameters are called
    ignored: Any = apply("prune_magnitude", model=Tied(), ignore=["again"]).module
    assert bool(ignored.outer.weight.all()) and not bool(ignored.inner.weight.all())


def test_ignored_layers_stay_whole_also_all_those_inside_of_one() -> None:
    after = pruned(ratio=0.5, ignore=["stem", "he*"])
    assert bool(after.stem[0].weight.all()) and bool(after.head.weight.all()) and not bool(after.body.weight.all())


def test_what_the_model_does_not_allow_is_told_before_any_work() -> None:
    with pytest.raises(UsageError, match="no layer matches 'bodi'") as caught:
        preflight(net(), ignore=["bodi"])
    assert "body" in str(caught.value)
    with pytest.raises(HarnessError, match="no layer is left"):
        preflight(net(), ignore=["*"])
    with pytest.raises(HarnessError, match="no linear layer and no convolution"):
        preflight(nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()))


@pytest.mark.parametrize("params", [
    {"ratio": 0}, {"ratio": 1}, {"ratio": -0.1}, {"ratio": "50%"}, {"ratio": 0.5, "threshold": 0.1},
    {"ratio": 0.5, "pattern": "2:4"}, {"threshold": 0.1, "pattern": "2:4"}, {"threshold": 0}, {"pattern": "4:4"},
    {"pattern": "0:4"}, {"pattern": "2-4"}, {"pattern": "2:4", "scope": "layer"}, {"pattern": "2:4", "how": "iterative",
     "epochs": 1}, {"threshold": 0.1, "importance": "gradient"}, {"how": "gradual"}, {"how": "iterative"},
    {"rounds": 4}, {"ramp": 0.9}, {"how": "gradual", "epochs": 1, "begin": 0.6, "ramp": 0.5},
    {"how": "gradual", "epochs": 1, "curve": "constant", "ramp": 0.2}, {"batches": 3},
    {"how": "gradual", "epochs": 1, "patience": 2}, {"epochs": -1}, {"importance": "random"},
])
def test_impossible_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PruneMagnitudeParams(**params)


@pytest.mark.parametrize(("params", "reads", "epochs"), [
    ({}, False, 0), ({"importance": "gradient"}, True, 0), ({"epochs": 2}, True, 2),
    ({"how": "iterative", "epochs": 2}, True, 6), ({"how": "gradual", "epochs": 5}, True, 5),
])
def test_a_step_needs_data_and_depends_on_the_seed_only_as_its_parameters_say(
    params: dict[str, Any], reads: bool, epochs: int
) -> None:
    found = chains.traits(Step(name="prune_magnitude", params=params))
    assert (found.needs_train, found.reads_data, found.seeded, found.epochs) == (epochs > 0, reads, reads, epochs)
    assert found.makes == {"zeros"}


def test_the_gradual_ratio_is_zhus_and_guptas() -> None:
    """By hand, for 100 steps of which the first 10 do nothing and the next 40 prune every 8th."""
    params = PruneMagnitudeParams(ratio=0.8, how="gradual", epochs=1, begin=0.1, ramp=0.4, every=8)
    found = {step: ratio for step in range(100) if (ratio := due(step, 100, 0.2, params)) is not None}
    assert found == pytest.approx({
        18: 0.8 - 0.6 * 0.8**3, 26: 0.8 - 0.6 * 0.6**3, 34: 0.8 - 0.6 * 0.4**3, 42: 0.8 - 0.6 * 0.2**3, 50: 0.8})


@pytest.mark.parametrize("total", [1, 2, 7, 50])
@pytest.mark.parametrize("ramp", [0.01, 0.5, 1.0])
def test_the_full_ratio_is_reached_before_the_last_step_however_few_there_are(total: int, ramp: float) -> None:
    params = PruneMagnitudeParams(ratio=0.8, how="gradual", epochs=1, ramp=ramp)
    ratios = [ratio for step in range(total) if (ratio := due(step, total, 0.0, params)) is not None]
    assert ratios[-1] == 0.8 and ratios == sorted(ratios)


def test_rounds_remove_equal_shares_of_what_is_left() -> None:
    assert in_rounds(0.0, 0.875, 3) == pytest.approx([0.5, 0.75, 0.875])
    assert in_rounds(0.5, 0.875, 2) == pytest.approx([0.75, 0.875])
    assert in_rounds(0.9, 0.5, 2) == [0.5, 0.5]  # where layers are at different shares


class Watch:
    """Sees the share of zeros at each call of the loss, and which weights were zero in the end."""

    def __init__(self, model: Any) -> None:
        self.model, self.shares = model, []  # type: ignore[var-annotated]

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.model.training:
            self.shares.append(share(self.model))
        return nn.functional.cross_entropy(output, target)


def watched(**params: Any) -> tuple[Compressed, list[float]]:
    model = net()
    watch = Watch(model)
    return apply("prune_magnitude", bench(loss=watch), model, **params), watch.shares


def test_gradual_pruning_raises_the_ratio_while_it_trains_and_then_keeps_the_mask() -> None:
    after, seen = watched(ratio=0.8, how="gradual", epochs=6, every=3, lr=0.01)  # 24 steps, 12 of them rising
    assert len(seen) == 24 and seen == sorted(seen)
    assert seen[:3] == [0, 0, 0]
    expected = [0.8 * (1 - (1 - step / 12) ** 3) for step in (3, 6, 9, 12)]
    assert [seen[3], seen[6], seen[9], seen[12]] == pytest.approx(expected, abs=0.001)
    assert seen[3] == seen[5] and seen[12] == seen[23] == share(after.module)  # between prunings nothing grows back


def test_a_constant_curve_from_the_first_step_on_is_one_shot_and_training() -> None:
    constant = pruned(ratio=0.7, how="gradual", curve="constant", epochs=2, lr=0.01)
    assert torch.equal(run(constant), run(pruned(ratio=0.7, epochs=2, lr=0.01)))
    later, seen = watched(ratio=0.7, how="gradual", curve="constant", begin=0.5, epochs=2, lr=0.01)
    assert seen == pytest.approx([0.0] * 4 + [0.7] * 4, abs=0.001)
    assert share(later.module) == pytest.approx(0.7, abs=0.001)


def test_iterative_pruning_trains_after_each_round() -> None:
    after, seen = watched(ratio=0.875, how="iterative", rounds=3, epochs=1, lr=0.01)
    assert seen == pytest.approx([0.5] * 4 + [0.75] * 4 + [0.875] * 4, abs=0.001)
    assert share(after.module) == seen[-1]


@pytest.mark.parametrize("how", ["iterative", "gradual"])
def test_max_steps_holds_for_the_step_as_a_whole_and_the_ratio_is_reached(how: str) -> None:
    for limit in (1, 5):
        model = net()
        watch = Watch(model)
        after = pruned(bench(loss=watch, max_steps=limit), model, ratio=0.8, how=how, epochs=9)
        assert len(watch.shares) == limit and share(after) == pytest.approx(0.8, abs=0.001)


@pytest.mark.parametrize("params", [
    {"how": "gradual", "epochs": 2, "importance": "gradient", "batches": 2, "every": 2}, {"epochs": 2},
    {"how": "iterative", "rounds": 2, "epochs": 1, "scope": "layer"}, {"importance": "gradient", "pattern": "2:4"},
])
def test_the_same_seed_gives_the_same_weights(params: dict[str, Any]) -> None:
    first, second = (apply("prune_magnitude", **params) for _ in range(2))
    assert torch.equal(run(first), run(second)) and first.notes == second.notes
    assert not torch.equal(run(first), run(net()))


def test_later_training_keeps_the_zeros() -> None:
    after = apply("prune_magnitude", ratio=0.8)
    assert after.patterns == {f"{name}.weight": frozenset({ZEROS}) for name in LAYERS}
    before = [w == 0 for w in weights(after.module)]
    finetune = registry.load("technique", "finetune")
    trained: Any = finetune().apply(after, finetune.Params(epochs=2, lr=0.01), bench()).module
    assert all(torch.equal(w == 0, zero) for w, zero in zip(weights(trained), before, strict=True))


def test_a_trained_sparse_model_still_learns() -> None:
    inputs, targets = zip(*items(64), strict=True)
    after = pruned(ratio=0.6, how="gradual", epochs=10, lr=0.01, every=2)
    right = run(after, (torch.stack(inputs),)).argmax(1) == torch.tensor(targets)
    assert float(right.float().mean()) > 0.8


def test_a_layer_whose_weight_is_computed_is_left() -> None:
    model = net()
    torch.nn.utils.parametrizations.weight_norm(model.body)
    assert apply("prune_magnitude", model=model, ratio=0.5).patterns.keys() == {"head.weight", "stem.0.weight"}


def test_channels_last_weights_are_pruned_like_any_other() -> None:
    other = pruned(model=net().to(memory_format=torch.channels_last), ratio=0.5)
    assert all(torch.equal(a, b) for a, b in zip(weights(pruned(ratio=0.5)), weights(other), strict=True))
