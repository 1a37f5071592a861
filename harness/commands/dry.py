"""`run --dry-run`: what would be built, pushed and changed on each device, and the minutes per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import registry
from harness.commands.common import emit
from harness.devices.spec import resolve
from harness.experiment import Experiment, Measure
from harness.pipeline import plan_minutes


def tell_plan(
    resolved: Mapping[str, Any], experiment: Experiment | None, devices: Sequence[str], quick: bool, json_out: bool
) -> int:
    plan = Measure.model_validate(resolved["measure"])
    if quick:
        plan = plan.model_copy(update={"repeats": 1})
    pairs = _pairs(experiment) if experiment is not None else []
    possible = sum(pair["skipped"] is None for pair in pairs) * len(plan.threads) * len(plan.cpus)
    document = {
        "schema": 1,
        "experiment": resolved["name"],
        "builds": pairs,
        "devices": [
            {
                "device": resolve(name).name,
                "pushes": "runners, artifacts and inputs that are not there yet, into the harness's own folder",
                "changes": [],
                "runs_minutes": round(plan_minutes(possible, plan), 1),
            }
            for name in devices
        ],
    }
    if json_out:
        emit(document)
        return 0
    print(f"{resolved['name']}: {len(pairs)} builds")
    for pair in pairs:
        steps = " → ".join(pair["steps"]) or "(as it is)"
        print(f"  {pair['variant']:<24} {pair['exporter'] or 'made elsewhere':<18} {pair['skipped'] or steps}")
    for device in document["devices"]:
        print(
            f"{device['device']}: pushes {device['pushes']}; changes no setting; measuring takes about "
            f"{device['runs_minutes']:g} min ({plan.repeats} repeats)"
        )
    print("nothing was built, pushed or measured")
    return 0


def _pairs(experiment: Experiment) -> list[dict[str, Any]]:
    out = []
    finished = {spec.name for spec in experiment.variants if spec.artifact is not None}
    for variant in experiment.planned_variants:
        if variant.name in finished:
            out.append({"variant": variant.name, "seed": variant.seed, "exporter": None, "steps": [], "skipped": None})
            continue
        form = registry.load("technique", variant.steps[-1].name).gives if variant.steps else "eager"
        for export in experiment.export:
            exporter = registry.load("exporter", export.exporter)
            skipped = None if form in exporter.accepts else f"skipped: {exporter().refusal(form)}"
            out.append(
                {
                    "variant": variant.name,
                    "seed": variant.seed,
                    "exporter": export.label,
                    "steps": [step.name for step in variant.steps],
                    "skipped": skipped,
                }
            )
    return out
