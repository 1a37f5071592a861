"""The schedule of one device, pure: which runs, in which blocks, in which order.

Every block holds each variant once, in a seeded random order, so that drift of the device falls on all of them
alike. Outputs are checked first (a fast wrong answer is not a result), then memory, then latency.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.devices.facts import cpu_mask
from harness.experiment import Measure
from harness.types import NULL_VARIANT, Artifact, Build, Cell, CheckSet, DeviceFacts, Package, PlannedRun, Purpose


@dataclass(frozen=True, kw_only=True)
class Block:
    """Runs in the order they are made."""

    purpose: Purpose
    repeat: int
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A cell that this device cannot run, with the reason (a `skipped` result)."""

    cell: Cell
    reason: str


def cells(package: Package, measure: Measure, facts: DeviceFacts, context: str) -> list[tuple[Cell, Build]]:
    """Every cell of this device: built artifacts × threads × cpus."""
    return [
        (
            Cell(
                variant=build.variant,
                seed=build.seed,
                exporter=build.exporter,
                backend=build.backend,
                input=build.input,
                device_id=facts.device_id,
                threads=threads,
                cpus=cpus,
                context=context,
            ),
            build,
        )
        for build in package.builds
        if build.artifact is not None
        for threads in measure.threads
        for cpus in measure.cpus
    ]


def refusals(package: Package, measure: Measure, facts: DeviceFacts, context: str = "host") -> list[Refused]:
    out = []
    for cell, _ in cells(package, measure, facts, context):
        if cell.threads is not None and cell.threads > facts.cores:
            out.append(Refused(cell=cell, reason=f"{cell.threads} threads on {facts.cores} cores"))
        elif cpu_mask(facts, cell.cpus) is None:
            out.append(Refused(cell=cell, reason="the device does not say which of its CPUs are big"))
    return out


def blocks(
    package: Package, measure: Measure, facts: DeviceFacts, seed: int, context: str = "host"
) -> list[Block]:
    """The whole schedule of one device. `seed` fixes every order."""
    refused = {item.cell for item in refusals(package, measure, facts, context)}
    every = [(cell, build) for cell, build in cells(package, measure, facts, context) if cell not in refused]
    chance = random.Random(f"{seed}-{facts.device_id}")

    def block(number: int, purpose: Purpose, repeat: int, runs: Sequence[PlannedRun]) -> Block:
        order = [replace(run, block=number, repeat=repeat) for run in runs]
        chance.shuffle(order)
        return Block(
            purpose=purpose, repeat=repeat, runs=tuple(replace(run, position=i) for i, run in enumerate(order))
        )

    def planned(purpose: Purpose) -> list[PlannedRun]:
        return [
            _planned(cell, build.artifact, package.checks[build.input], purpose, measure, facts)
            for cell, build in every
            if build.artifact is not None
        ]

    expecting = {cell for cell, build in every if build.expected}  # a foreign file may come without any
    gates = [
        replace(run, purpose="accuracy" if package.checks[run.cell.input].targets is not None else "check")
        for run in planned("check")
        if run.cell in expecting
    ]
    out = [block(0, "check", 0, gates)]
    if measure.memory:
        memory = planned("memory") + _nulls(package, every, measure, facts)
        out += [block(len(out) + repeat, "memory", repeat, memory) for repeat in range(measure.repeats)]
    start = len(out)
    latency = planned("latency")
    return out + [block(start + repeat, "latency", repeat, latency) for repeat in range(measure.repeats)]


def _planned(
    cell: Cell, artifact: Artifact, check: CheckSet, purpose: Purpose, measure: Measure, facts: DeviceFacts
) -> PlannedRun:
    return PlannedRun(
        cell=cell,
        purpose=purpose,
        repeat=0,
        block=0,
        position=0,
        artifact=artifact,
        inputs=check.inputs,
        cpu_mask=cpu_mask(facts, cell.cpus) or "any",
        min_seconds=measure.min_seconds,
        min_iterations=measure.min_iterations,
    )


def _nulls(
    package: Package, every: Sequence[tuple[Cell, Build]], measure: Measure, facts: DeviceFacts
) -> list[PlannedRun]:
    """The one-op model in every setting that a real one is measured in: the baseline of model_memory_bytes."""
    if package.null_input is None:
        return []
    settings = sorted(
        {
            (b.artifact.runtime, c.threads, c.cpus, c.context)
            for c, b in every
            if b.artifact is not None and b.artifact.runtime in package.nulls
        },
        key=str,
    )
    check = CheckSet(input="default", inputs=(package.null_input,), has_data=False)
    return [
        _planned(
            Cell(
                variant=NULL_VARIANT,
                seed=0,
                exporter=runtime,
                backend="",
                input="default",
                device_id=facts.device_id,
                threads=threads,
                cpus=cpus,
                context=context,
            ),
            package.nulls[runtime],
            check,
            "memory",
            measure,
            facts,
        )
        for runtime, threads, cpus, context in settings
    ]


def seconds(run: PlannedRun) -> float:
    """What a run is expected to take, for the time left: warm-up, steady part and a process's start."""
    return {"latency": 0.9 + run.min_seconds, "memory": 0.3}.get(run.purpose, 0.5)
