"""The steps, on real torch models: what they change, what they refuse, and that they are repeatable."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from harness import registry
from harness.compress.outputs import output_layers
from harness.data import Data, Split
from harness.errors import HarnessError
from harness.interfaces import Compressed, Workbench

EXAMPLE = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1,)


class Net(nn.Module):
    """A residual net: what makes its output is not its last module."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 4)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.scale = nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        return self.scale(self.head(x.mean((2, 3))))  # type: ignore[no-any-return]


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return Net().eval()


def items(count: int) -> list[tuple[torch.Tensor, int]]:
    """Class k has a bright quarter k: learnt in a few steps."""
    torch.manual_seed(1)
    found = []
    for i in range(count):
        picture, quarter = torch.randn(3, 8, 8) * 0.3, i % 4
        picture[quarter % 3, 4 * (quarter // 2) : 4 * (quarter // 2) + 4] += 2
        found.append((picture, quarter))
    return found


def bench(seed: int = 0, calibration: bool = True, **more: Any) -> Workbench:
    data = Data(train=Split(name="train", source=items(64)), test=None, validation=Split(name="v", source=items(16)),
                calibration=Split(name="calibration", source=items(32)) if calibration else None)
    return Workbench(seed=seed, teacher=net(), example_inputs=EXAMPLE, batch_size=16, **data.bench_splits(seed), **more)


def apply(name: str, work: Workbench | None = None, model: Any = None, **params: Any) -> Compressed:
    technique = registry.load("technique", name)
    start = Compressed(module=model or net(), form="eager", example_inputs=EXAMPLE)
    return technique().apply(start, technique.Params(**params), work or bench())  # type: ignore[no-any-return]


def run(model: Compressed | Any, inputs: Any = EXAMPLE) -> torch.Tensor:
    with torch.no_grad():
        return getattr(model, "module", model)(*inputs)  # type: ignore[no-any-return]


def parameters(model: Any) -> int:
    return sum(p.numel() for p in getattr(model, "module", model).parameters())


def test_the_layers_that_make_the_output_are_found_through_batch_norm_and_not_by_their_place() -> None:
    model = net()
    assert output_layers(model, EXAMPLE) == [model.head]


def test_both_arms_of_an_addition_make_the_output() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 3), nn.Linear(5, 3, bias=False)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sum": torch.relu(self.a(x) + self.b(x))}

    two = Two()
    assert {id(m) for m in output_layers(two, (torch.ones(1, 5),))} == {id(two.a), id(two.b)}


def test_pruning_removes_channels_in_eights_and_keeps_the_output() -> None:
    pruned: Any = apply("prune_channels", ratio=0.5)
    assert pruned.module.stem[0].out_channels == pruned.module.body.out_channels == 8
    assert pruned.module.head.in_features == 8
    assert run(pruned).shape == (1, 4)
    assert any("left" in note for note in pruned.notes)


def test_ignored_layers_stay_whole_and_an_unknown_one_is_named() -> None:
    with pytest.raises(HarnessError, match="nothing to remove"):
        apply("prune_channels", ignore=["stem.0", "body"])
    with pytest.raises(HarnessError) as caught:
        apply("prune_channels", ignore=["steam.0"])
    assert "stem.0" in str(caught.value)


def accuracy(model: Any) -> float:
    inputs, targets = zip(*items(64), strict=True)
    return float((run(model, (torch.stack(inputs),)).argmax(1) == torch.tensor(targets)).float().mean())


def test_finetune_learns_and_is_the_same_on_any_number_of_threads_around_it() -> None:
    threads, seen = torch.get_num_threads(), set()

    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        seen.add(torch.get_num_threads())
        return nn.functional.cross_entropy(output, target)

    first = apply("finetune", epochs=6, lr=0.01)
    torch.set_num_threads(2)
    try:
        second = apply("finetune", bench(loss=loss), epochs=6, lr=0.01)
        assert seen == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert accuracy(first) > accuracy(net()) + 0.2
    assert torch.equal(run(first), run(second))
    assert not torch.equal(run(first), run(apply("finetune", bench(seed=1), epochs=6, lr=0.01)))


def test_max_steps_caps_training() -> None:
    assert any("3 steps" in note for note in apply("finetune", bench(max_steps=3), epochs=5).notes)


def test_patience_stops_early_and_keeps_the_best() -> None:
    notes = apply("finetune", epochs=200, lr=0.5, optimizer="sgd", schedule="constant", patience=1).notes
    assert any("stopped early" in note for note in notes)


def test_a_loss_that_is_not_finite_is_a_failure_with_a_remedy() -> None:
    work = bench(loss=lambda output, target: output.sum() * float("nan"))
    with pytest.raises(HarnessError, match="loss is nan at step 1") as caught:
        apply("finetune", work)
    assert caught.value.hint == "lower lr"


def test_distill_makes_a_smaller_student_and_leaves_the_teacher_alone() -> None:
    work = bench()
    before = copy.deepcopy(work.teacher.state_dict())
    student = apply("distill", work, slim=0.5, epochs=2)
    assert parameters(student) < parameters(work.teacher) / 2
    assert all(torch.equal(v, before[k]) for k, v in work.teacher.state_dict().items())
    assert not work.teacher.training


def test_a_students_weights_are_its_own_and_not_the_teachers() -> None:
    student: Any = apply("distill", bench(seed=5, max_steps=1), slim=0.5, epochs=1, lr=1e-9)
    teacher = {round(float(v), 6) for v in net().stem[0].weight.detach().flatten()}
    mine = {round(float(v), 6) for v in student.module.stem[0].weight.detach().flatten()}
    assert len(mine & teacher) < len(mine) / 10


def test_a_student_may_come_from_a_factory() -> None:
    def small() -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))

    work = bench(import_factory=lambda text: small)
    assert parameters(apply("distill", work, student="m:small", epochs=1)) == 16


def sqnr_db(signal: torch.Tensor, other: torch.Tensor) -> float:
    return float(10 * torch.log10(signal.square().sum() / (signal - other).square().sum().clamp_min(1e-30)))


def test_static_int8_calibrates_on_the_calibration_data() -> None:
    trained: Any = apply("finetune", epochs=6, lr=0.01).module
    quantized = apply("quantize_pt2e", model=copy.deepcopy(trained), scheme="static")
    assert (quantized.form, quantized.precision, quantized.calibrated) == ("exported:xnnpack", "static_int8", True)
    assert quantized.notes == ("calibrated on 32 samples",)
    pictures = [(p[None],) for p, _ in items(8)]
    want, have = (torch.cat([run(m, p) for p in pictures]) for m in (trained, quantized))
    assert 15 < sqnr_db(want, have) < 60  # near, and not fp32 in disguise


def test_without_calibration_data_int8_says_what_it_calibrated_on() -> None:
    quantized = apply("quantize_pt2e", bench(calibration=False))
    assert not quantized.calibrated
    assert quantized.notes == ("calibrated on 1 example inputs",)


def test_a_model_that_fixes_its_batch_is_calibrated_call_by_call() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(192, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x.view(1, 192))  # type: ignore[no-any-return]

    quantized = apply("quantize_pt2e", model=Fixed().eval())
    assert quantized.calibrated and quantized.notes == ("calibrated on 32 samples",)


def test_dynamic_int8_needs_no_calibration() -> None:
    quantized = apply("quantize_pt2e", bench(calibration=False), scheme="dynamic")
    assert quantized.precision == "dynamic" and quantized.calibrated


def test_forms_say_that_nothing_can_follow_a_quantized_program() -> None:
    gives = registry.load("technique", "quantize_pt2e").gives
    assert all(gives not in registry.load("technique", name).accepts for name in registry.TECHNIQUES)


@pytest.mark.parametrize(("name", "params"), [
    ("prune_channels", {"ratio": 1.0}), ("prune_channels", {"ratio": "half"}), ("low_rank", {"rank": 3, "energy": 0.5}),
    ("low_rank", {"ratio": 0.0}), ("finetune", {"epochs": 0}), ("finetune", {"lr": float("nan")}),
    ("distill", {"student": "a:b", "slim": 0.5}), ("quantize_pt2e", {"scheme": "weight_only"}),
    ("finetune", {"epoch": 1}),
])
def test_impossible_parameters_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        registry.load("technique", name).Params(**params)


def test_every_parameter_is_described_and_has_a_default() -> None:
    for name in registry.TECHNIQUES:
        for field, info in registry.load("technique", name).Params.model_fields.items():
            assert info.description and not info.is_required(), f"{name}.{field}"
