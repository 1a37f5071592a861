"""The schedule of one device, pure: which runs, in which blocks, in which order.

Every block holds each variant once, in a seeded random order, so that drift of the device falls on all of them
alike. Outputs are checked first (a fast wrong answer is not a result), then memory and cold loads; the device is
enrolled and warmed up, and its latency measured; then energy, each block of it between two idle windows; what heats
the device for long comes last.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.devices.facts import cpu_mask
from harness.experiment import Measure
from harness.types import NULL_VARIANT, Artifact, Build, Cell, CheckSet, DeviceFacts, Package, PlannedRun, Purpose

#: runs of the calibration kernel that enrol a device: as many as make a standard deviation worth something
ENROLMENTS = 10
_LOAD_S = 0.4  # a cold load with its process


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
    package: Package, measure: Measure, facts: DeviceFacts, seed: int, context: str = "host", quick: bool = False
) -> list[Block]:
    """The whole schedule of one device. `seed` fixes every order. `quick`: no enrolment, no burn-in, no energy."""
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

    def add(purpose: Purpose, repeats: int, runs: Sequence[PlannedRun]) -> None:
        start = len(out)
        out.extend(block(start + repeat, purpose, repeat, runs) for repeat in range(repeats if runs else 0))

    if measure.memory:
        add("memory", measure.repeats, planned("memory") + _nulls(package, every, measure, facts, "memory"))
    add("load", measure.cold_loads, planned("load"))
    if not quick:
        add("sentinel", ENROLMENTS, _enrolling(every, package, measure, facts))
        add("burn_in", 1, planned("burn_in"))
    add("latency", measure.repeats, planned("latency"))
    if quick:
        return out
    if measure.energy != "off":
        seconds = measure.energy_seconds
        idle = [replace(run, min_seconds=seconds) for run in _enrolling(every, package, measure, facts, "idle")]
        for repeat in range(measure.repeats):
            loads = block(len(out), "energy", repeat, [replace(r, min_seconds=seconds) for r in planned("energy")])
            out.append(_between_idles(loads, idle))
    if measure.sustained_minutes is not None:
        long = [replace(run, min_seconds=measure.sustained_minutes * 60) for run in planned("sustained")]
        add("sustained", 1, long)
    if measure.profile:
        add("profile", 1, planned("profile"))
    return out


def more(block: int, repeat: int, runs: Sequence[PlannedRun], seed: int) -> Block:
    """One more latency block, of these runs only (each replaces a planned one's block and repeat)."""
    order = list(runs)
    random.Random(f"{seed}-more-{block}").shuffle(order)
    placed = (replace(run, block=block, repeat=repeat, position=i) for i, run in enumerate(order))
    return Block(purpose="latency", repeat=repeat, runs=tuple(placed))


def _between_idles(loads: Block, idle: Sequence[PlannedRun]) -> Block:
    """The block's loads, with an idle window before and one behind: repeats 2 n and 2 n + 1 of the idle cell."""
    number = loads.runs[0].block if loads.runs else 0
    first = [replace(run, repeat=2 * loads.repeat) for run in idle]
    last = [replace(run, repeat=2 * loads.repeat + 1) for run in idle]
    order = (*first, *loads.runs, *last)
    return replace(loads, runs=tuple(replace(run, block=number, position=i) for i, run in enumerate(order)))


def _enrolling(
    every: Sequence[tuple[Cell, Build]],
    package: Package,
    measure: Measure,
    facts: DeviceFacts,
    purpose: Purpose = "sentinel",
) -> list[PlannedRun]:
    """Runs of no model: of the calibration kernel, one for each setting of `cpus`; of nothing at all, one."""
    found: dict[str, PlannedRun] = {}
    for cell, build in every:
        place = cell.cpus if purpose == "sentinel" else ""
        if build.artifact is not None and place not in found:
            run = _planned(cell, build.artifact, package.checks[build.input], purpose, measure, facts)
            nobody = replace(
                cell,
                variant=NULL_VARIANT,
                seed=0,
                exporter=build.artifact.runtime,
                backend="",
                input="default",
                threads=1,
            )
            found[place] = replace(run, cell=nobody, inputs=())
    return list(found.values())


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
    package: Package, every: Sequence[tuple[Cell, Build]], measure: Measure, facts: DeviceFacts, purpose: Purpose
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
            purpose,
            measure,
            facts,
        )
        for runtime, threads, cpus, context in settings
    ]


def seconds(run: PlannedRun) -> float:
    """What a run is expected to take, for the time left: warm-up, steady part and a process's start."""
    if run.purpose in ("latency", "burn_in"):
        return 1.1 + run.min_seconds
    if run.purpose in ("idle", "energy", "sustained"):
        return 1.0 + run.min_seconds
    return {"memory": 0.3, "load": _LOAD_S, "sentinel": 0.3}.get(run.purpose, 0.5)
