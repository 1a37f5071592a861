"""finetune and distill beyond the usual loop: a teacher's scores and features, the user's trainer, patterns kept."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from harness import registry
from harness.compress.distillation import soft_loss
from harness.compress.patterns import VALUES, ZEROS, added, keeper
from harness.errors import HarnessError, UsageError, UserCodeError
from harness.interfaces import Compressed, Workbench
from tests.test_compress import EXAMPLE, accuracy, apply, bench, net, run


def test_the_soft_loss_is_hintons() -> None:
    """By hand: T²·Σ p log(p/q), averaged over the batch."""
    student, teacher = torch.randn(5, 4), torch.randn(5, 4)
    p, q = (teacher / 3).softmax(1), (student / 3).softmax(1)
    by_hand = 9 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(soft_loss(lambda x: teacher, 3.0, "x")(student, (teacher,)), by_hand, atol=1e-6)


def test_finetune_can_learn_from_the_baselines_scores_alone() -> None:
    """The labels are nonsense; the teacher knows the task."""
    teacher = apply("finetune", epochs=6, lr=0.01).module
    work = replace(bench(loss=lambda output, target: output.sum() * 0), teacher=teacher)
    assert accuracy(apply("finetune", work, epochs=6, lr=0.01)) < 0.6
    taught = apply("finetune", work, epochs=6, lr=0.01, distill=1.0)
    assert accuracy(taught) > accuracy(net()) + 0.2


def trained_by(trainer: Any, model: Any = None, **params: Any) -> Compressed:
    work = bench(import_factory=lambda text: trainer)
    return apply("finetune", replace(work, splits={"train": "the user's own"}), model, factory="my:train", **params)


def test_the_users_trainer_gets_model_data_params_and_seed_and_gives_the_model() -> None:
    seen: dict[str, Any] = {}

    def train(model: Any, data: Any, params: Any, seed: int) -> Any:
        seen.update(data=data, params=params, seed=seed, randomness=float(torch.rand(1)))
        with torch.no_grad():
            model.head.bias.fill_(7.0)
        return model.train()

    trained: Any = trained_by(train, epochs=3, kwargs={"mixup": 0.2})
    assert seen["data"] == {"train": "the user's own"} and seen["seed"] == 0
    assert seen["params"]["epochs"] == 3 and seen["params"]["kwargs"] == {"mixup": 0.2}
    assert float(trained.module.head.bias.detach()[0]) == 7.0 and not trained.module.training
    first = seen["randomness"]
    trained_by(train)
    assert seen["randomness"] == first  # the same seed


def test_a_trainer_that_gives_no_model_or_fails_is_told_in_one_message() -> None:
    with pytest.raises(UserCodeError, match="returned NoneType, not the model"):
        trained_by(lambda model, data, params, seed: None)
    with pytest.raises(UserCodeError, match="my:train' failed"):
        trained_by(lambda model, data, params, seed: 1 / 0)


def sparse() -> Compressed:
    model = net()
    with torch.no_grad():
        model.body.weight.mul_(model.body.weight.abs() > model.body.weight.abs().median())
        model.head.weight.copy_((model.head.weight * 20).round() / 20)
    patterns = added(added({}, ["body.weight"], ZEROS), ["head.weight"], VALUES)
    return Compressed(module=model, form="eager", example_inputs=EXAMPLE, patterns=patterns)


@pytest.mark.parametrize("own", [False, True])
def test_training_keeps_zeros_and_shared_values(own: bool) -> None:
    def train(model: Any, data: Any, params: Any, seed: int) -> Any:
        fresh = copy.deepcopy(model)  # another object, and all its weights move
        with torch.no_grad():
            for weight in fresh.parameters():
                weight.add_(torch.randn_like(weight) * 0.1)
        return fresh

    start, technique = sparse(), registry.load("technique", "finetune")
    before: Any = copy.deepcopy(start.module)
    work = bench(import_factory=lambda text: train)
    params = technique.Params(epochs=2, lr=0.01, **({"factory": "my:train"} if own else {}))
    after: Any = technique().apply(start, params, work).module
    zeros = before.body.weight == 0
    assert torch.equal(after.body.weight == 0, zeros) and 0.4 < float(zeros.float().mean()) < 0.6
    assert not torch.equal(after.body.weight, before.body.weight)
    assert len(after.head.weight.unique()) <= len(before.head.weight.unique()) < before.head.weight.numel()
    assert not torch.equal(after.head.weight, before.head.weight)


def test_a_shared_value_moves_to_the_mean_of_those_that_share_it() -> None:
    layer = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 1.0, 2.0, 0.0]]))
    keep = keeper(layer, {"weight": frozenset({ZEROS, VALUES})})
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.5, 0.7, 3.0, 0.4]]))
    keep()
    assert layer.weight.tolist()[0] == pytest.approx([1.1, 1.1, 3.0, 0.0])


def test_hints_bring_a_students_features_nearer_to_the_teachers() -> None:
    def distance(student: Any, work: Workbench) -> float:
        """How much of the teacher's features a linear map from the student's leaves unexplained."""
        with torch.no_grad():
            have, want = student.stem(EXAMPLE[0]), work.teacher.stem(EXAMPLE[0])  # type: ignore[operator]
        x, y = have.flatten(2)[0].T, want.flatten(2)[0].T
        x = torch.cat([x, torch.ones(len(x), 1)], 1)
        return float((y - x @ torch.linalg.lstsq(x, y).solution).square().mean())

    results = []
    for hints in ({}, {"stem": "stem"}):
        work = bench()
        student = apply("distill", work, slim=0.5, epochs=8, lr=0.01, alpha=0.0, hints=hints, hint_weight=10.0)
        results.append(distance(student.module, work))
        assert not any(hook for m in work.teacher.modules() for hook in m._forward_hooks.values())
    assert results[1] < results[0]


def test_a_hint_between_layers_that_do_not_match_is_refused_before_training() -> None:
    technique = registry.load("technique", "distill")
    with pytest.raises(UsageError, match="no layer matches 'stam'"):
        technique.preflight(technique.Params(hints={"stem": "stam"}), net(), bench())
    with pytest.raises(HarnessError, match="more than their channels"):
        apply("distill", hints={"head": "stem"})


def test_a_kept_student_begins_with_the_channels_that_are_left() -> None:
    student: Any = apply("distill", bench(max_steps=1), slim=0.5, epochs=1, lr=1e-9, start="kept")
    mine = {round(float(v), 5) for v in student.module.stem[0].weight.detach().flatten()}
    assert mine <= {round(float(v), 5) for v in net().stem[0].weight.detach().flatten()}


def test_batches_of_one_leave_batch_norms_statistics_and_train_the_rest() -> None:
    work = replace(bench(), batch_size=1)
    trained: Any = apply("finetune", work, epochs=1, lr=0.01)
    assert torch.equal(trained.module.stem[1].running_mean, net().stem[1].running_mean)
    assert not torch.equal(run(trained), run(net()))
    assert any("batches of one item" in note for note in trained.notes)


def test_progress_tells_how_well_it_goes() -> None:
    said: list[str] = []
    apply("finetune", bench(progress=lambda done, total, what: said.append(what)), epochs=3, lr=0.01)
    assert any("validation loss" in text and "accuracy" in text for text in said)


def test_once_max_steps_are_made_nothing_is_validated_again() -> None:
    work, seen = bench(max_steps=2), []

    def validation(size: int) -> Any:
        seen.append(size)
        return bench().validation(size)  # type: ignore[misc]

    apply("finetune", replace(work, validation=validation), epochs=5)
    assert len(seen) == 1
