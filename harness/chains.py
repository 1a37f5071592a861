"""What a chain of steps is, as far as it can be told without running it: forms, orders that cannot work, training.

Reading imports no torch: techniques are asked for class attributes and for `traits(params)` only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields

from harness import registry
from harness.types import Step, Variant


@dataclass(frozen=True, kw_only=True)
class Traits:
    """One step with its parameters. `makes`: what it leaves in the model that a later step may lose (`zeros`, `values`,
    `folded`); `refuses`: what must not be there before it, with the reason.

    `seeded`: the seed changes its result. `reads_data`: data and training options do. `reads_machine`: the processor
    of the devices does. `renames`: behind it, layers are no longer called as in the baseline. `epochs`: passes over
    `train` that it makes."""

    accepts: frozenset[str] = frozenset({"eager"})
    gives: str = "eager"
    needs_train: bool = False
    seeded: bool = True
    reads_data: bool = True
    reads_machine: bool = False
    makes: frozenset[str] = frozenset()
    refuses: Mapping[str, str] = field(default_factory=dict)
    renames: bool = False
    epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """The step at `index` cannot follow those before it."""

    index: int
    reason: str
    hint: str


def traits(step: Step) -> Traits:
    """What the technique says of itself, and of these parameters."""
    technique = registry.load("technique", step.name)
    said = {f.name: getattr(technique, f.name) for f in fields(Traits) if hasattr(technique, f.name)}
    params = technique.Params.model_validate(dict(step.params))
    if hasattr(technique, "traits"):
        said |= technique.traits(params)
    found = Traits(**said)
    trained = int(getattr(params, "epochs", 0) or 0) if found.needs_train and "epochs" not in said else found.epochs
    return Traits(**(said | {"epochs": trained}))


def form(steps: Sequence[Step]) -> str:
    """The form that the last step leaves."""
    return traits(steps[-1]).gives if steps else "eager"


def eager_steps(steps: Sequence[Step]) -> int:
    """How many steps come before the first that leaves another form than `eager`."""
    return next((i for i, step in enumerate(steps) if traits(step).gives != "eager"), len(steps))


def trains(steps: Sequence[Step]) -> bool:
    return any(traits(step).needs_train for step in steps)


def shared_last(variants: Sequence[Variant]) -> list[Variant]:
    """The variants in an order for building side by side: those whose training another one begins with come last, so
    that nobody waits for a neighbour that trains the very same model."""
    first: list[Variant] = []
    later: list[Variant] = []
    seen: set[str] = set()
    for variant in variants:
        trained = next((i for i, step in enumerate(variant.steps, 1) if traits(step).needs_train), 0)
        key = repr((variant.seed, variant.steps[:trained]))
        (later if key in seen or not trained else first).append(variant)
        seen.add(key)
    return first + later


def epochs(steps: Sequence[Step]) -> int:
    """The training budget: passes over `train` in all."""
    return sum(traits(step).epochs for step in steps)


def refusal(steps: Sequence[Step]) -> Refusal | None:
    """The first step that cannot work where it stands."""
    form = "eager"
    made: dict[str, str] = {}
    for index, step in enumerate(steps):
        own, before = traits(step), steps[index - 1].name if index else "the model"
        if form not in own.accepts:
            return Refusal(
                index=index,
                reason=f"{step.name} cannot follow {before}: it gives a finished program ({form}) that no step can "
                "change any more",
                hint=f"put {step.name} before {before}",
            )
        for what, why in own.refuses.items():
            if what in made:
                reason = f"{step.name} cannot follow {made[what]}: {why}"
                return Refusal(index=index, reason=reason, hint=f"put {step.name} before {made[what]}")
        form = own.gives
        made |= dict.fromkeys(own.makes, step.name)
    return None


def named_as_in_baseline(steps: Sequence[Step]) -> Iterator[tuple[int, Step]]:
    """The steps whose layers still have the baseline's names."""
    for index, step in enumerate(steps):
        yield index, step
        if traits(step).renames:
            return
