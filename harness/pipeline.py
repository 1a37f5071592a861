"""The whole experiment, in reading order: build, reach, measure, conclude, tell."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness import chains
from harness import package as packages
from harness.analyze import results
from harness.errors import UsageError, UserCodeError
from harness.executors import abandon
from harness.experiment import Experiment, Measure
from harness.lanes import Lane, measure, reach
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.shared_files import share
from harness.store import Store
from harness.types import Build, DeviceFacts, DeviceSpec, Kind, Package, Run, Session, SessionDevice, Variant


def run(
    experiment: Experiment, text: str, devices: Sequence[DeviceSpec], settings: Settings, screen: Screen
) -> Session:
    """The experiment, from YAML to stored runs. `tell` makes of the session what a person reads."""
    refuse_impossible_threads(experiment.measure, devices)
    refuse_mixed(devices)
    Store.open(settings.store_url, create=True).close()  # a store that cannot be used is said before the building
    package, files = build(experiment, text, settings, screen)
    return run_package(package, files, devices, settings, screen)


def build(experiment: Experiment, text: str, settings: Settings, screen: Screen) -> tuple[Package, Files]:
    """compress + export: every variant, each seed, every exporter. What was built before is taken from the cache."""
    from harness import build as building

    files = Files(settings.files)
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{files.folder}: {error.strerror}", "name a writable place with HARNESS_ARTIFACTS") from error
    variants = experiment.planned_variants
    pool = settings.executors.builds(len(variants) + 1)
    impossible: dict[str, str] = {}
    try:
        impossible = _result(pool.submit(building.preflight, experiment), screen)
        for name, reason in impossible.items():
            screen.say(f"{name} cannot be built: {reason}")
        preparing = pool.submit(building.prepare, experiment, files.folder)
        tasks = {
            pool.submit(
                building.build_variant, building.BuildTask(experiment=experiment, variant=v, folder=files.folder)
            ): v
            for v in chains.shared_last(variants)
            if v.name not in impossible
        }
        built = _await_builds(tasks, preparing, files.folder, screen)
        prepared = preparing.result()
    except BrokenExecutor:  # a process died, and its pool with it: one by one tells whose it was
        prepared = _alone(settings, building.prepare, experiment, files.folder)
        if isinstance(prepared, str):
            raise UserCodeError(
                f"the process that loads {experiment.model.factory} died", "does it exit, or crash, or is memory short?"
            ) from None
        built = {}
        for variant in variants:
            if variant.name in impossible:
                continue
            task = building.BuildTask(experiment=experiment, variant=variant, folder=files.folder)
            rows = _alone(settings, building.build_variant, task)
            built[variant.name, variant.seed] = _failed(experiment, variant, rows) if isinstance(rows, str) else rows
    except BaseException:
        abandon(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)  # waits: leaving while it closes makes Python complain
    for variant in variants:
        if variant.name in impossible:
            built[variant.name, variant.seed] = _failed(experiment, variant, impossible[variant.name])
    return Package(
        schema=packages.SCHEMA,
        experiment=experiment.model_dump(mode="json"),
        yaml=text,
        builds=tuple(row for variant in variants for row in built[variant.name, variant.seed]),
        checks=prepared.checks,
        nulls=prepared.nulls,
        null_input=prepared.null_input,
        toolchain=prepared.toolchain,
    ), files


def sensitivity(
    experiment: Experiment, variant: Variant, settings: Settings, screen: Screen
) -> list[dict[str, Any]]:
    """Each layer of the variant's model (of its last form that is no finished program) with what treating it costs."""
    from harness import build as building

    task = building.BuildTask(experiment=experiment, variant=variant, folder=settings.files)
    pool = settings.executors.builds(1)
    try:
        future = pool.submit(building.sensitivity, task)
        while not wait([future], timeout=0.5).done:
            doing = _building(settings.files, {future: variant}, {future})
            screen.show("layers", "layers", doing or "loading model and data", 0, 1)
        return list(future.result())
    except BrokenExecutor as error:
        raise UserCodeError(
            f"the process that loads {experiment.model.factory} died", "does it exit, or crash, or is memory short?"
        ) from error
    except BaseException:
        abandon(pool)
        raise
    finally:
        pool.shutdown(cancel_futures=True)  # waits: leaving while it closes makes Python complain


def _alone(settings: Settings, work: Callable[..., Any], *values: Any) -> Any:
    """What `work` gives in a process of its own, or how that process ended."""
    pool = settings.executors.builds(1)
    try:
        return pool.submit(work, *values).result()
    except BrokenExecutor:
        return "its build process died: did its code exit or crash, or was memory short?"
    finally:
        pool.shutdown(cancel_futures=True)  # waits: leaving while it closes makes Python complain


def _failed(experiment: Experiment, variant: Variant, reason: str) -> tuple[Build, ...]:
    return tuple(
        Build(
            variant=variant.name,
            seed=variant.seed,
            exporter=export.label,
            backend="",
            input=case,
            status="failed",
            reason=reason,
        )
        for case in experiment.model.cases
        for export in experiment.export
    )


def _result(future: Future[Any], screen: Screen) -> Any:
    """What the first task gives; loading the model may itself take a while (a demo trains its baseline there)."""
    while not wait([future], timeout=0.5).done:
        screen.show("build", "building", "loading model and data", 0, 1)
    return future.result()


def _await_builds(
    tasks: dict[Future[tuple[Build, ...]], Variant], preparing: Future[Any], folder: Path, screen: Screen
) -> dict[tuple[str, int], tuple[Build, ...]]:
    built: dict[tuple[str, int], tuple[Build, ...]] = {}
    waiting: set[Future[Any]] = {preparing, *tasks}
    began = time.monotonic()
    while waiting:
        done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in done:
            rows = future.result()  # a model or data that cannot be used at all ends everything here
            if future in tasks:
                built[tasks[future].name, tasks[future].seed] = rows
        left = None
        if built and len(built) < len(tasks):
            left = (time.monotonic() - began) / len(built) * (len(tasks) - len(built))
        screen.show("build", "building", _building(folder, tasks, waiting), len(built), len(tasks), left)
    new = sum(row.built for rows in built.values() for row in rows)
    rows = [row for some in built.values() for row in some]
    screen.say(f"built {new} artifacts, took {sum(r.artifact is not None for r in rows) - new} from the cache")
    return built


def _building(folder: Path, tasks: Mapping[Future[Any], Variant], waiting: set[Future[Any]]) -> str:
    said = []
    for future, variant in tasks.items():
        note = folder / "progress" / f"{variant.name}-{variant.seed}.txt"
        if future in waiting and future.running() and note.is_file():
            said.append(f"{variant.name}: {note.read_text(errors='replace').strip()[:90]}")
    return "; ".join(said[:2])


def run_package(
    package: Package, files: Files, devices: Sequence[DeviceSpec], settings: Settings, screen: Screen
) -> Session:
    """Measures a package: needs neither torch nor the user's code."""
    measure_plan = Measure.model_validate(package.experiment["measure"])
    if settings.quick:
        once = {"repeats": 1, "cold_loads": min(1, measure_plan.cold_loads)}
        measure_plan = measure_plan.model_copy(update=once | {"target_ci": None, "budget_minutes": None})
    refuse_impossible_threads(measure_plan, devices)
    refuse_mixed(devices)
    store = Store.open(settings.store_url, create=True)
    try:
        lanes = reach(devices, package, settings, screen)
        tell_long_energy(package, measure_plan, settings, screen)
        identity = open_session(store, package, lanes, measure_plan, settings, screen)
        named = [f"{sha256}{suffix}" for sha256, suffix in packages.named(package)]
        share(files.folder, named, screen.say)
        complete = measure(store, identity, package, files, lanes, measure_plan, settings, screen)
        if complete:
            store.finish(identity)
        return store.session(identity)
    finally:
        store.close()


def refuse_impossible_threads(plan: Measure, devices: Sequence[DeviceSpec]) -> None:
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if any(spec.uri == "local" for spec in devices) and max(plan.threads) > cores:
        raise UsageError(
            f"measure.threads: {max(plan.threads)} threads, and local has {cores} cores", f"at most {cores}"
        )


def tell_long_energy(package: Package, plan: Measure, settings: Settings, screen: Screen) -> None:
    """Nobody should find out by waiting."""
    cells = sum(build.artifact is not None for build in package.builds) * len(plan.threads) * len(plan.cpus)
    minutes = 0.0 if settings.quick else energy_minutes(cells, plan)
    if minutes > 30:
        screen.say(
            f"energy: about {minutes:.0f} minutes on each device ({plan.repeats} repeats of {cells} windows of "
            f"{plan.energy_seconds:g} s, and two idle ones); fewer variants, repeats or energy_seconds take less"
        )


def refuse_mixed(devices: Sequence[DeviceSpec]) -> None:
    """Simulated numbers never stand beside measured ones."""
    simulated = [spec.name for spec in devices if spec.scheme == "sim"]
    measured = [spec.name for spec in devices if spec.scheme != "sim"]
    if simulated and measured:
        raise UsageError(
            f"{simulated[0]} is simulated and {measured[0]} is not: their numbers must not stand side by side",
            "run the simulated devices by themselves",
        )


def open_session(
    store: Store, package: Package, lanes: Sequence[Lane], plan: Measure, settings: Settings, screen: Screen
) -> str:
    """Continues the unfinished session of this very plan on these very devices, or begins a new one."""
    key = plan_key(package, lanes, plan, settings.quick, settings.kind)
    identity = None if settings.fresh else store.unfinished(key, settings.label)
    if identity is not None and not _same_devices(store.session(identity), lanes):
        identity = None
    if identity is not None:
        screen.say(f"continuing session {identity[:8]}: {len(store.counted(identity))} runs are there")
    else:
        identity = store.begin(
            package=package,
            plan=plan.model_dump(mode="json") | {"seed": int(key[:8], 16)},
            plan_key=key,
            label=settings.label,
            quick=settings.quick,
            devices=[lane.spec for lane in lanes],
            kind=settings.kind,
        )
    known = {device.spec.name: device for device in store.session(identity).devices}
    for lane in lanes:
        now = SessionDevice(spec=lane.spec, facts=lane.facts, runners=lane.runners, unreached=lane.unreached)
        if lane.facts is None:  # what is known of it stays
            now = dataclasses.replace(known[lane.spec.name], unreached=lane.unreached)
        store.put_device(identity, now)
    return identity


def _same_devices(session: Session, lanes: Sequence[Lane]) -> bool:
    """Whether each device is the unit, with the system and the runner, that the session found when it reached it."""
    before = {device.spec.name: device for device in session.devices}
    for lane in lanes:
        known = before[lane.spec.name]
        if known.facts is None or lane.facts is None:
            continue  # not reached then, or not now
        then, now = known.facts, lane.facts
        if (then.device_id, then.os, then.kernel) != (now.device_id, now.os, now.kernel):
            return False
        if dict(known.runners) != lane.runners:
            return False
    return True


def plan_key(
    package: Package, lanes: Sequence[Lane], plan: Measure, quick: bool, kind: Kind = "experiment"
) -> str:
    """Hash of what makes a session: experiment, resolved plan, all that the package holds, and the devices' entries.

    `kind`: where base and head share every file, the package of a comparison is that of the plain run."""
    content = TypeAdapter(Package).dump_python(package, mode="json")
    told = ("built", "notes", "facts")  # how a file came about: the minutes differ from build to build
    builds = [{k: v for k, v in build.items() if k not in told} for build in content["builds"]]
    held = [content["experiment"], builds, content["checks"], content["nulls"]]
    specs = [TypeAdapter(DeviceSpec).dump_python(lane.spec, mode="json") for lane in lanes]
    compared = [kind] if kind in ("paired", "confirm") else []
    said = json.dumps([held, plan.model_dump(mode="json"), specs, quick, *compared], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()


def conclude(session: Session, runs: Sequence[Run], files: Path, report: str | None, identify: bool) -> dict[str, Any]:
    """The document of `run --json`: every planned cell, the fronts, the picks. Recomputed from raw runs.

    An artifact's path is relative to the working folder; where its folder lies elsewhere, the bare file name."""
    document = results.document(session, runs, report, lambda spec, facts: device_label(spec, facts, identify))
    here = Path.cwd()
    for result in document["results"]:
        if "path" in result["artifact"]:
            path = files / Path(result["artifact"]["path"]).name
            inside = path.relative_to(here) if path.is_relative_to(here) else None
            result["artifact"]["path"] = str(path if identify else inside or path.name)
    return document


def device_label(spec: DeviceSpec, facts: DeviceFacts | None, identify: bool) -> str:
    """What the user wrote; the part of a URI after its scheme replaced by the device id, which tells nothing."""
    scheme, separator, _ = spec.name.partition("://")
    if identify or not separator or scheme == "sim":
        return spec.name
    return f"{scheme}://{facts.device_id if facts is not None else hashlib.sha256(spec.name.encode()).hexdigest()[:8]}"


def narrowed(experiment: Experiment, devices: Sequence[str], variants: Sequence[str]) -> Experiment:
    """The experiment as the command line narrows it: `--device` replaces the list, `--variant` filters."""
    changes: dict[str, Any] = {}
    if devices:
        changes["devices"] = list(devices)
    if variants:
        known = [v.name for v in experiment.variants]
        for name in variants:
            if name not in known:
                from harness.metrics import nearest

                raise UsageError(f"the experiment has no variant {name!r}", nearest(name, known))
        changes["variants"] = [v for v in experiment.variants if v.name in variants]
    return experiment.model_copy(update=changes)


def plan_minutes(cells: int, plan: Measure) -> float:
    """What measuring so many cells on one device is expected to take, in minutes, where nothing has to cool down."""
    memory = 0.3 * plan.repeats if plan.memory else 0.0
    latency = (plan.repeats + 1) * (1.1 + plan.min_seconds)  # one more for the burn-in
    sustained = 60 * (plan.sustained_minutes or 0.0)
    each = 0.5 + memory + 0.4 * plan.cold_loads + latency + sustained + (0.5 if plan.profile else 0.0)
    return (cells * each + 3.0) / 60 + energy_minutes(cells, plan)


def energy_minutes(cells: int, plan: Measure) -> float:
    """The part of it that the energy takes: in each repeat a window of every cell, between two idle ones."""
    return 0.0 if plan.energy == "off" else plan.repeats * (cells + 2) * (plan.energy_seconds + 1.0) / 60
