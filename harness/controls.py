"""Controls: the reference, trained for as many further epochs as a variant was. What the variant loses against its
control is the compression's doing; what it loses against the reference is the difference of that and of training on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import chains
from harness.types import Step
from harness.yaml_reader import Document


def added(
    document: Document, variants: Sequence[Mapping[str, Any]], reference: Any, trainer: Step
) -> list[dict[str, Any]]:
    """The raw variants (their steps validated), each that trains named its control, and the controls behind them.

    Variants of one training budget share a control. One that names a control of its own keeps it.
    Raises ConfigError where `trainer` trains nothing, or the reference cannot be trained on."""
    if not chains.traits(trainer).epochs:
        raise document.refuse(("control",), f"{trainer.name} has no epochs to give a control", "control: finetune")
    start = next((tuple(v.get("steps", ())) for v in variants if v.get("name") == reference), ())
    if chains.form(start) != "eager":
        raise document.refuse(("control",), f"the reference {reference} is a finished program, which cannot be trained")
    out: list[dict[str, Any]] = []
    made: dict[int, str] = {}
    for variant in variants:
        steps = tuple(variant.get("steps", ()))
        budget = chains.epochs(steps) - (chains.epochs(start) if steps[: len(start)] == start else 0)
        named = {}
        if budget > 0 and variant.get("name") != reference and "control" not in variant:
            named = {"control": made.setdefault(budget, f"control-{budget}ep")}
        out.append({**variant, **named})
    for budget, name in sorted(made.items()):
        step = Step(name=trainer.name, params={**trainer.params, "epochs": budget})
        out.append({"name": name, "steps": [*start, step]})
    return out
