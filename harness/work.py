"""The work handed to a device's executor: one device × one block of the schedule. Values in, run ids out."""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import __version__
from harness.analyze import conditions as surroundings
from harness.analyze import energy, operators, stats, sustained
from harness.analyze.check import output_check
from harness.devices import quarantine, telemetry
from harness.devices.bench import Bench, facts_of, opened, probe
from harness.devices.depot import Depot
from harness.errors import DeviceError, HarnessError, RunnerError, StoreError, TransportError, UserCodeError
from harness.experiment import Experiment
from harness.measure import energy as metering
from harness.measure import gate as gating
from harness.measure import session as measuring
from harness.package import Files
from harness.store import Store
from harness.store.store import cell_key
from harness.task_metric import TaskMetric, task_metric
from harness.types import (
    Build,
    CheckSet,
    DeviceFacts,
    DeviceSpec,
    Enrolment,
    Measurement,
    Package,
    PlannedRun,
    Purpose,
    Run,
    Snapshot,
)

log = logging.getLogger("harness.work")
ATTEMPTS = 3  # of a run that a disturbance spoiled; what fails by itself is never tried again


def look(spec: DeviceSpec) -> DeviceFacts:
    """What the device is, without waiting for it to be free. Raises DeviceError: it is out of reach, or it failed so
    often that it must prove itself first."""
    quarantine.admit(spec, lambda: probe(spec))
    with _counted_failures(spec):
        return facts_of(spec)


@dataclass(frozen=True, kw_only=True)
class DeployTask:
    """The runners of these runtimes, to be brought to a device."""

    device: DeviceSpec
    store_url: str
    runtimes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """`runners`: runtime -> the hash that stands for its runner. `pushed_bytes`: what had to go over for them."""

    runners: Mapping[str, str]
    pushed_bytes: int


def deploy(task: DeployTask) -> Deployed:
    """Raises DeviceError, ToolchainError."""
    with (
        _counted_failures(task.device),
        opened(task.device, collector(task.store_url), waiter(task.device.name), known=True) as bench,
    ):
        for runtime in task.runtimes:
            bench.runner(runtime)
        shas = {runtime: bench.runner_sha256(runtime) for runtime in task.runtimes}
        return Deployed(runners=shas, pushed_bytes=bench.depot.pushed_bytes)


@contextmanager
def _counted_failures(spec: DeviceSpec) -> Iterator[None]:
    """A failed link counts towards the device's quarantine, a success ends the count."""
    try:
        yield
    except TransportError:
        quarantine.failed(spec)
        raise
    quarantine.succeeded(spec)


@dataclass(frozen=True, kw_only=True)
class BlockTask:
    """Everything a worker needs, as values. An executor may run it twice: the store keeps that harmless.

    `folder`: where the user's code is looked for; `carried`: the package came from elsewhere."""

    device: DeviceSpec
    session: str
    store_url: str
    files: str
    folder: str
    carried: bool
    runs: tuple[PlannedRun, ...]
    meter: str = "off"  # measure.energy
    goes_on: bool = False  # an earlier block of this lane prepared the device, and it stays so


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The ids of the runs that were made, and what had to go over to the device for them."""

    runs: tuple[str, ...]
    pushed_bytes: int


def measure_block(task: BlockTask) -> Measured:
    """Makes the block's runs that no counted run stands for yet, each stored as it ends.

    A device that rebooted is opened anew: it lost what was set for measuring.
    Raises DeviceError when the device cannot be used; what is stored by then stays."""
    done: list[str] = []
    pushed = 0
    for _ in range(ATTEMPTS):
        made, bytes_, rebooted = _measure_block(task)
        done, pushed = done + made, pushed + bytes_
        if not rebooted:
            break
        task = dataclasses.replace(task, goes_on=False)
    return Measured(runs=tuple(done), pushed_bytes=pushed)


def _measure_block(task: BlockTask) -> tuple[list[str], int, bool]:
    """The ids of what was made, the bytes that went over, and whether the device rebooted meanwhile."""
    store = Store.open(task.store_url)
    try:
        package = store.session(task.session).package
        collect, waiting = collector(task.store_url), waiter(task.device.name)
        with (
            _counted_failures(task.device),
            opened(task.device, collect, waiting, known=True, prepare=True, goes_on=task.goes_on) as bench,
        ):
            if any(run.cell.device_id != bench.facts.device_id for run in task.runs):
                raise DeviceError(
                    f"{task.device.name}: another device answers there now ({bench.facts.device_id})",
                    "name it by something that does not change: a serial, a host name, an entry in devices.yaml",
                )
            counted = store.counted(task.session)  # after the wait for the device: another task may have been quicker
            done: list[str] = []
            for planned in task.runs:
                if (cell_key(planned.cell), planned.purpose, planned.repeat) not in counted:
                    made, rebooted = _until_settled(task, store, package, bench, planned)
                    done += made
                    if rebooted:  # before the next one: what was set is gone
                        return done, bench.depot.pushed_bytes, True
            return done, bench.depot.pushed_bytes, False
    finally:
        store.close()


def _rebooted(bench: Bench) -> bool:
    root = bench.spec.sysroot.rstrip("/")  # as the facts were read
    done = bench.depot.transport.run(["cat", f"{root}/proc/sys/kernel/random/boot_id"])
    now = done.stdout.decode("ascii", "replace").strip()
    return bool(now and bench.facts.boot_id and now != bench.facts.boot_id)


def put_back(task: DeployTask) -> None:
    """Ends what the last block left prepared. Raises DeviceError: then the next harness there does it."""
    with opened(task.device, collector(task.store_url), waiter(task.device.name)):
        pass


_told: set[tuple[str, str]] = set()


def waiter(device: str) -> Callable[[str], None]:
    """Tells each reason once, and gives up when the user interrupts."""

    def wait(reason: str) -> None:
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        if (device, reason) not in _told:
            print(f"{device}: {reason}; waiting", file=sys.stderr)
        _told.add((device, reason))

    return wait


def _until_settled(
    task: BlockTask, store: Store, package: Package, bench: Bench, planned: PlannedRun
) -> tuple[list[str], bool]:
    """The ids of the attempts, and whether the device rebooted under the last one."""
    made: list[str] = []
    rebooted = False
    for _ in range(ATTEMPTS):
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        run = _attempt(task, store, package, bench, planned)
        rebooted = _rebooted(bench)
        if rebooted:
            lost = {"set": {}, "not_set": {"*": "the device rebooted since"}}
            run = dataclasses.replace(run, conditions=dict(run.conditions) | {"prepared": lost})
        store.append(run)
        bench.depot.remove(bench.depot.run_dir(run.id))  # not before it is stored
        made.append(run.id)
        once = planned.purpose in TRIED_ONCE or (run.reason or "").startswith(gating.TIMEOUT)
        if run.status != "invalid" or rebooted or once:
            break
    return made, rebooted


#: purposes whose numbers a hot device would falsify, and those whose surroundings are judged
GATED = ("sentinel", "latency", "energy", "sustained")
JUDGED = ("latency", "sustained")
#: for the heat, or no number at all: nothing is gained by doing them again
TRIED_ONCE = ("burn_in", "profile")


def _attempt(task: BlockTask, store: Store, package: Package, bench: Bench, planned: PlannedRun) -> Run:
    """One attempt: gated, made, judged by what it answered and by what surrounded it."""
    conditions: dict[str, Any] = {"prepared": dict(bench.prepared), "cpu_mask": planned.cpu_mask}
    provenance = {
        "harness": __version__,
        "runner_sha256": bench.runner_sha256(planned.artifact.runtime),
        "os": bench.facts.os,
        "kernel": bench.facts.kernel,
    }
    number = store.next_attempt(task.session, planned.cell, planned.purpose, planned.repeat)
    enrolled = None
    if planned.purpose in GATED:
        if planned.purpose != "sentinel":
            enrolled = _enrolment(store, task.session, planned)
        gate = _gate(bench, planned, enrolled)
        conditions |= {
            "before": dataclasses.asdict(gate.snapshot),
            "gate": {"state": gate.state, "waited_s": gate.waited_s},
            "enrolled": None if enrolled is None else dataclasses.asdict(enrolled),
        }
        if gate.state == "timeout":
            return measuring.refused(
                planned, session=task.session, attempt=number, status="invalid",
                reason=f"{gating.TIMEOUT}: {gate.reason}", conditions=conditions, provenance=provenance,
            )  # fmt: skip

    def make() -> measuring.Attempt:
        return measuring.measure(
            planned,
            depot=bench.depot,
            prefix=bench.runner(planned.artifact.runtime),
            lock=bench.lock_file,
            session=task.session,
            attempt=number,
            files=Files(Path(task.files)),
            conditions=conditions,
            provenance=provenance,
            sysroot=bench.spec.sysroot,
        )

    def unmetered(reason: str) -> Run:
        return measuring.refused(
            planned, session=task.session, attempt=number, status="failed", reason=reason, conditions=conditions,
            provenance=provenance,
        )  # fmt: skip

    metered = planned.purpose in ("idle", "energy")
    attempt = metering.metered(bench, task.meter, make, unmetered) if metered else make()
    run = judged(attempt, package, task)
    if planned.purpose in GATED:
        after = dataclasses.asdict(telemetry.snapshot(bench.depot, bench.spec))
        run = dataclasses.replace(run, conditions=dict(run.conditions) | {"after": after})
    return _surrounded(run, enrolled) if planned.purpose in JUDGED else run


def _gate(bench: Bench, planned: PlannedRun, enrolled: Enrolment | None) -> gating.Gate:
    """A device that timed out gets no more patience, until a look finds it cool again."""

    def look() -> Snapshot:
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        bench.depot.renew(0.0)
        return telemetry.snapshot(bench.depot, bench.spec)

    limits, clock = gating.Limits.of(bench.spec.thermal), bench.depot.clock
    wait = waiter(bench.spec.name)
    if planned.purpose == "sentinel" and planned.repeat == 0:
        return gating.settled(look, limits, clock, wait)
    hot = bench.facts.device_id in _never_cooled
    gate = gating.cooled(look, enrolled, limits, clock, wait, patience_s=0.0 if hot else None)
    (_never_cooled.add if gate.state == "timeout" else _never_cooled.discard)(bench.facts.device_id)
    return gate


_never_cooled: set[str] = set()


def _enrolment(store: Store, session: str, planned: PlannedRun) -> Enrolment | None:
    place = planned.cell.device_id, planned.cell.cpus

    def mine(purpose: Purpose) -> list[Run]:
        return [r for r in store.runs(session, purpose=purpose) if (r.cell.device_id, r.cell.cpus) == place]

    return surroundings.enrolment(mine("sentinel"), since=[*mine("burn_in"), *mine("latency")])


def _surrounded(run: Run, enrolled: Enrolment | None) -> Run:
    """What the surroundings spoil is invalid; a run that was no good already keeps its own reason."""
    if run.status != "ok":
        return run
    status, reason, caveats = surroundings.judged(run.conditions, enrolled, heats=run.purpose == "sustained")
    return dataclasses.replace(
        run, status=status, counts=status == "ok", reason=reason, caveats=(*run.caveats, *caveats)
    )


def judged(attempt: measuring.Attempt, package: Package, task: BlockTask) -> Run:
    """The run with what follows from its raw values: the summary, the output check, the score."""
    run = attempt.run
    if run.status != "ok":
        return run
    try:
        if run.purpose in SUMMARIES:
            return summarised(run)
        if run.purpose in ("check", "accuracy"):
            return _checked(run, attempt, package, task)
    except RunnerError as error:
        return dataclasses.replace(run, status="failed", counts=False, reason=error.what[:500])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"the runner's values are not understood: {type(error).__name__}: {error}"[:500]
        return dataclasses.replace(run, status="failed", counts=False, reason=reason)
    return run


#: purpose -> what follows from the run's raw values alone: `Run.summary`
SUMMARIES: Mapping[str, Callable[[Run], Mapping[str, Any]]] = {
    "latency": lambda run: stats.summary(run.arrays["latency_ns"]),
    "burn_in": lambda run: stats.summary(run.arrays["latency_ns"]),
    "idle": energy.window,
    "energy": energy.window,
    "sustained": sustained.summary,
    "profile": operators.summary,
}


def summarised(run: Run) -> Run:
    return dataclasses.replace(run, summary=SUMMARIES[run.purpose](run)) if run.purpose in SUMMARIES else run


def _checked(run: Run, attempt: measuring.Attempt, package: Package, task: BlockTask) -> Run:
    files = Path(task.files)
    build = _build_of(run, package)
    check = package.checks[build.input]
    if len(attempt.outputs) != len(build.expected):
        reason = f"wrong output: {len(attempt.outputs)} outputs, expected {len(build.expected)}"
        return dataclasses.replace(run, status="failed", counts=False, reason=reason)
    expected = [
        measuring.read_tensors(files / f"{file.sha256}.bin", file.spec.dtype, list(file.spec.shape))
        for file in build.expected
    ]
    metric = _metric(package, task) if check.targets is not None else None
    verdict = output_check(
        [_rows(leaf) for leaf in expected],
        [_rows(leaf) for leaf in attempt.outputs],
        precision=build.precision,
        has_data=check.has_data and build.calibrated,
        min_sqnr_db=package.experiment.get("check", {}).get("min_sqnr_db"),
        top1=isinstance(metric, TaskMetric) and metric.whole is None,
    )
    found = list(run.measurements)
    for name, value in (("output_sqnr_db", verdict.sqnr_db), ("output_max_abs", verdict.max_abs)):
        if value is not None:
            found.append(Measurement(metric=name, values=(float(value),), phase="check"))
    run = dataclasses.replace(run, measurements=tuple(found), caveats=(*run.caveats, *verdict.caveats))
    if not verdict.ok:
        return dataclasses.replace(run, status="failed", counts=False, reason=f"wrong output: {verdict.reason}")
    return run if metric is None else _scored(run, metric, attempt.outputs, check, files)


def _rows(leaf: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(calls, batch, …) -> (rows, …); rows beyond the targets are the last call's padding."""
    return leaf.reshape(-1, *leaf.shape[2:]) if leaf.ndim > 1 else leaf


def _metric(package: Package, task: BlockTask) -> TaskMetric | str | None:
    """The task metric, or why it cannot be had on this host (the user's code did not travel)."""
    if package.experiment.get("data") is None:
        return None
    experiment = Experiment.model_validate_json(json.dumps(package.experiment))
    assert experiment.data is not None
    spec, folder = experiment.data.metric, Path(task.folder)
    if task.carried and spec.name != "accuracy":
        # a manifest may name any callable of any library: of what it names, only the user's own code here is run
        for named in (spec.factory or experiment.data.factory, spec.per_sample):
            module = folder / (named or "").partition(":")[0].replace(".", "/")
            if named and not module.with_suffix(".py").is_file() and not (module / "__init__.py").is_file():
                return f"the metric's code {named.partition(':')[0]} is not in the working folder"
    try:
        return task_metric(experiment.model_copy(update={"folder": str(folder)}))
    except HarnessError as error:
        return error.what


def _scored(run: Run, metric: TaskMetric | str, outputs: Any, check: CheckSet, files: Path) -> Run:
    assert check.targets is not None
    spec = check.targets.spec
    targets = np.fromfile(files / f"{check.targets.sha256}.bin", spec.numpy).reshape(-1, *spec.shape[1:])
    try:
        if isinstance(metric, str):
            raise UserCodeError(metric)
        call = check.inputs[0].spec.shape
        score = metric.score([_rows(leaf) for leaf in outputs], check.structure, targets, call[0] if call else 1)
    except UserCodeError as error:
        return dataclasses.replace(run, conditions=dict(run.conditions) | {"accuracy_absent": error.what})
    measured = Measurement(metric="accuracy", values=(score.value,), phase="accuracy", source="device")
    arrays = dict(run.arrays) | ({} if score.per_sample is None else {"score": score.per_sample.astype("<f8")})
    return dataclasses.replace(run, measurements=(*run.measurements, measured), arrays=arrays)


def _build_of(run: Run, package: Package) -> Build:
    key = (run.cell.variant, run.cell.seed, run.cell.exporter, run.cell.backend, run.cell.input)
    return next(b for b in package.builds if (b.variant, b.seed, b.exporter, b.backend, b.input) == key)


def collector(store_url: str) -> Callable[[Depot, str], None]:
    """What becomes of a run that had ended when its host died: timed or weighed, it is as good as any, and is stored
    if it is this store's and whole. Outputs are not judged here (that takes its own experiment's code and files)."""

    def collect(depot: Depot, run: str) -> None:
        notes = _notes(depot, run)
        if notes is None or notes.get("purpose") not in ("latency", "memory"):
            return
        store = Store.open(store_url, create=True)
        try:
            store.session(notes["session"])  # UsageError for another store's
            attempt = measuring.collect(depot, run, depot.poll(run), notes)
            if attempt.run.status == "ok":
                store.append(summarised(attempt.run))
        except (StoreError, TransportError, measuring.Interrupted):
            raise
        except Exception as error:  # whatever a leftover holds must not keep the device from being used
            log.info("leftover %s is dropped: %s", run, error)  # it is made again, nothing is lost
        finally:
            store.close()

    return collect


def _notes(depot: Depot, run: str) -> Mapping[str, Any] | None:
    done = depot.transport.run(["cat", f"{depot.run_dir(run)}/notes.json"])
    try:
        notes = json.loads(done.stdout)
    except ValueError:
        return None
    return notes if isinstance(notes, dict) and notes.get("run") == run else None
