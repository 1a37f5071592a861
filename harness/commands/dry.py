"""`run --dry-run`: what would be built, pushed and changed on each device, and the minutes per stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness import chains, registry
from harness.commands.common import emit
from harness.experiment import Experiment, Measure
from harness.pipeline import plan_minutes
from harness.types import Build, DeviceSpec


def tell_plan(
    resolved: Mapping[str, Any],
    experiment: Experiment | None,
    devices: Sequence[DeviceSpec],
    quick: bool,
    json_out: bool,
    builds: Sequence[Build] | None = None,
) -> int:
    """`builds`: a package's, which are there already; else the experiment's are planned."""
    plan = Measure.model_validate(resolved["measure"])
    if quick:
        plan = plan.model_copy(update={"repeats": 1})
    pairs = [_done(build) for build in builds or ()] if experiment is None else _pairs(experiment)
    building = {"absent": "unknown until built once"} if experiment is not None else 0.0
    possible = sum(pair["skipped"] is None for pair in pairs) * len(plan.threads) * len(plan.cpus)
    document = {
        "schema": 1,
        "experiment": resolved["name"],
        "builds": pairs,
        "build_minutes": building,
        "devices": [
            {
                "device": spec.name,
                "pushes": "runners, artifacts and inputs that are not there yet, into the harness's own folder",
                "changes": sorted(spec.prepare),
                "runs_minutes": round(plan_minutes(possible, plan), 1),
            }
            for spec in devices
        ],
    }
    if json_out:
        emit(document)
        return 0
    took = "in the package" if experiment is None else "minutes unknown until built once; what is cached takes none"
    print(f"{resolved['name']}: {len(pairs)} builds, {took}")
    for pair in pairs:
        steps = " → ".join(pair["steps"]) or ("(built)" if experiment is None else "(as it is)")
        case = "" if pair["input"] == "default" else f"{pair['input']:<12} "
        print(f"  {pair['variant']:<24} {pair['exporter'] or 'made elsewhere':<18} {case}{pair['skipped'] or steps}")
    for device in document["devices"]:
        changed = ", ".join(device["changes"])
        told = f"sets {changed}, as far as it can, and puts back what it changed" if changed else "changes no setting"
        print(
            f"{device['device']}: pushes {device['pushes']}; {told}; measuring takes about "
            f"{device['runs_minutes']:g} min ({plan.repeats} repeats)"
        )
    print("nothing was built, pushed or measured")
    return 0


def _done(build: Build) -> dict[str, Any]:
    skipped = None if build.artifact is not None else f"{build.status}: {build.reason}"
    return _row(build.variant, build.seed, build.exporter, build.input, [], skipped)


def _pairs(experiment: Experiment) -> list[dict[str, Any]]:
    """Every build that is planned: variant x exporter x input case."""
    out = []
    finished = {spec.name for spec in experiment.variants if spec.artifact is not None}
    for variant in experiment.planned_variants:
        for case in experiment.model.cases:
            if variant.name in finished:
                out.append(_row(variant.name, variant.seed, None, case, [], None))
                continue
            form = chains.form(variant.steps)
            for export in experiment.export:
                exporter = registry.load("exporter", export.exporter)
                skipped = None if form in exporter.accepts else f"skipped: {exporter().refusal(form)}"
                steps = [step.name for step in variant.steps]
                out.append(_row(variant.name, variant.seed, export.label, case, steps, skipped))
    return out


def _row(
    variant: str, seed: int, exporter: str | None, case: str, steps: list[str], skipped: str | None
) -> dict[str, Any]:
    return {
        "variant": variant, "seed": seed, "exporter": exporter, "input": case, "steps": steps, "skipped": skipped,
    }  # fmt: skip
