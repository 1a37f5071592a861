"""What is told of a chain without running it."""

from __future__ import annotations

from harness import chains, registry
from harness.types import Step, Variant


def step(name: str, **params: object) -> Step:
    technique = registry.load("technique", name)
    return Step(name=name, params=technique.Params(**params).model_dump(mode="json"))


def test_variants_that_begin_with_the_same_training_are_built_after_the_first_of_them() -> None:
    slim, more = [step("prune_channels"), step("finetune")], step("finetune", epochs=5)
    variants = [
        Variant(name="fp32"), Variant(name="slim", steps=tuple(slim)),
        Variant(name="slim8", steps=(*slim, step("quantize_pt2e"))), Variant(name="tuned", steps=(more,)),
        Variant(name="slim", steps=tuple(slim), seed=1),
    ]
    order = [(v.name, v.seed) for v in chains.shared_last(variants)]
    assert order == [("slim", 0), ("tuned", 0), ("slim", 1), ("fp32", 0), ("slim8", 0)]


def test_the_budget_is_the_passes_over_train_of_all_steps() -> None:
    steps = [step("distill", epochs=7), step("prune_channels"), step("finetune", epochs=3), step("quantize_pt2e")]
    assert chains.epochs(steps) == 10 and chains.trains(steps) and not chains.trains(steps[1:2])
    assert chains.form(steps) == "exported:xnnpack" and chains.form(steps[:3]) == "eager"
    assert chains.eager_steps(steps) == 3


def test_a_finished_program_can_be_changed_by_no_step() -> None:
    for name in registry.TECHNIQUES:
        found = chains.refusal([step("quantize_pt2e"), step(name)])
        assert found is not None and found.index == 1 and "cannot follow quantize_pt2e" in found.reason
