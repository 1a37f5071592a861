"""A session's devices, a lane each: reached, then measured block by block, each lane on an executor of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from harness import adaptive, schedule
from harness.attempt import BlockTask
from harness.devices import runners as bundles
from harness.devices.facts import target
from harness.errors import DeviceError, HarnessError, PackageError, ToolchainError, TransportError, UsageError
from harness.experiment import Measure
from harness.measure import session as measuring
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.store.store import cell_key, utc_now
from harness.types import (
    ESSENTIAL,
    NULL_VARIANT,
    DeviceFacts,
    DeviceSpec,
    Package,
    PlannedRun,
    Run,
    Session,
    SessionDevice,
)
from harness.work import Deployed, DeployTask, Measured, deploy, look, measure_block, put_back

NextBlock = Callable[[Session, Sequence[Run], DeviceSpec, str, Measure, Sequence[PlannedRun]], adaptive.More]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One device's part of a session: reached, with its blocks, or not, with the reason."""

    spec: DeviceSpec
    facts: DeviceFacts | None = None
    runners: dict[str, str] = field(default_factory=dict)
    pushed_bytes: int = 0
    unreached: str | None = None


def reach(devices: Sequence[DeviceSpec], package: Package, settings: Settings, screen: Screen) -> list[Lane]:
    """Every device at once: what it is, then its runners deployed. One that fails does not stop the others.

    Raises UsageError for a name that is there twice, and the first device's error when none could be reached."""
    if len({spec.name for spec in devices}) < len(devices):
        twice = next(spec.name for spec in devices if [s.name for s in devices].count(spec.name) > 1)
        raise UsageError(f"{twice} is named twice", "name each --device once")
    runtimes = tuple(sorted({b.artifact.runtime for b in package.builds if b.artifact is not None}))
    crew = {spec.name: settings.executors.lane(spec.name) for spec in devices}
    try:
        looks: dict[str, tuple[Callable[..., Any], Any]] = {spec.name: (look, spec) for spec in devices}
        found = _ask(crew, looks, "reaching", screen)
        _refuse_twins(devices, found)
        for spec in devices:  # what is built here is built once, for all devices, and told
            if isinstance(facts := found[spec.name], DeviceFacts):
                screen.say(f"{spec.name}: {facts.device_id} {', '.join(filter(None, (facts.model, facts.os)))}")
                found[spec.name] = _with_runners(spec, facts, runtimes, screen)
        deploys: dict[str, tuple[Callable[..., Any], Any]] = {
            spec.name: (deploy, DeployTask(device=spec, store_url=settings.store_url, runtimes=runtimes))
            for spec in devices
            if isinstance(found[spec.name], DeviceFacts)
        }
        deployed = _ask(crew, deploys, "deploying", screen)
    finally:
        for executor in crew.values():
            executor.shutdown(wait=True, cancel_futures=True)
    lanes, failures = [], []
    for spec in devices:
        facts = found[spec.name]
        got = facts if isinstance(facts, HarnessError) else deployed[spec.name]
        if isinstance(got, Deployed):
            lanes.append(Lane(spec=spec, facts=facts, runners=dict(got.runners), pushed_bytes=got.pushed_bytes))
        else:
            failures.append(got)
            screen.say(_named(spec, got))
            lanes.append(Lane(spec=spec, unreached=str(got)))
    if len(failures) == len(devices) and failures:
        raise failures[0]
    return lanes


#: what may be wrong with one device without stopping the others; UsageError: its entry names what cannot be used
OF_ONE_DEVICE = (DeviceError, ToolchainError, PackageError)
TO_BE_REACHED = (*OF_ONE_DEVICE, UsageError)


def _named(spec: DeviceSpec, error: HarnessError) -> str:
    return str(error) if error.what.startswith(spec.name) else f"{spec.name}: {error}"


def _ask(
    crew: Mapping[str, Executor], tasks: Mapping[str, tuple[Callable[..., Any], Any]], what: str, screen: Screen
) -> dict[str, Any]:
    """Each device's task on its own executor, all at once: name -> what it gave, or its error."""
    running = {crew[name].submit(work, value): name for name, (work, value) in tasks.items()}
    out: dict[str, Any] = {}
    waiting = set(running)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    out[running[future]] = future.result()
                except TO_BE_REACHED as error:
                    out[running[future]] = error
            slow = ", ".join(sorted(running[future] for future in waiting))
            screen.show("reach", what, slow, len(out), len(tasks))
    except BaseException:
        measuring.stopping.set()
        raise
    return out


def _refuse_twins(devices: Sequence[DeviceSpec], found: dict[str, Any]) -> None:
    """Two names of one unit would measure it twice under one identity: the second is refused."""
    first: dict[tuple[str, str], str] = {}
    for spec in devices:
        if isinstance(facts := found[spec.name], DeviceFacts):
            other = first.setdefault((facts.device_id, spec.context), spec.name)
            if other != spec.name:
                found[spec.name] = DeviceError(
                    f"{spec.name} is the same device as {other} ({facts.device_id})", "name it once"
                )


def _with_runners(
    spec: DeviceSpec, facts: DeviceFacts, runtimes: Sequence[str], screen: Screen
) -> DeviceFacts | HarnessError:
    if spec.runner.path or spec.runner.command:
        return facts  # the user's own; what it does not cover is found when deploying
    try:
        for runtime in runtimes:
            bundles.ensure(runtime, target(facts), screen.say)
    except TO_BE_REACHED as error:
        return error
    return facts


def measure(
    store: Store,
    identity: str,
    package: Package,
    files: Files,
    lanes: Sequence[Lane],
    plan: Measure,
    settings: Settings,
    screen: Screen,
    more: NextBlock = adaptive.more,
) -> bool:
    """Every block on every device, a lane each; True when every device was reached and nothing was cut short.

    `more`: what decides on latency blocks beyond the planned ones, where the plan has a `target_ci`."""
    seed = int(store.session(identity).plan["seed"])
    tracks = []
    for lane in lanes:
        if lane.facts is not None:
            own = plan.model_copy(update={"cpus": list(lane.spec.cpus)}) if lane.spec.cpus else plan
            blocks = schedule.blocks(package, own, lane.facts, seed, lane.spec.context, settings.quick)
            tracks.append(_Track(lane, lane.facts, own, blocks, settings.executors.lane(lane.spec.name), more))
            _store_refusals(store, identity, schedule.refusals(package, own, lane.facts, lane.spec.context))
    deadline = None if settings.max_minutes is None else time.monotonic() + settings.max_minutes * 60
    cut = len(tracks) < len(lanes)
    try:
        running: dict[Future[Measured], _Track] = {}
        for track in tracks:
            track.submit_next(running, store, identity, files, settings, screen)
        while running:
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                track = running.pop(future)
                try:
                    track.pushed_bytes += future.result().pushed_bytes
                except OF_ONE_DEVICE as error:
                    cut = True
                    track.fail(store, identity, error, screen)
                    continue
                if deadline is not None and time.monotonic() > deadline and track.unfinished:
                    cut = True
                    screen.say(
                        f"{track.lane.spec.name}: stopped after {settings.max_minutes:g} minutes; run again to go on"
                    )
                else:
                    track.submit_next(running, store, identity, files, settings, screen)
            for track in tracks:
                track.show(store.counted(identity), screen)
    except BaseException:
        measuring.stopping.set()
        raise
    finally:
        ending = [track.executor.submit(put_back, track.putting_back(store)) for track in tracks if track.prepared]
        for ended in ending:
            with suppress(measuring.Interrupted, *OF_ONE_DEVICE):  # the next harness there does it
                ended.result()
        for track in tracks:
            track.executor.shutdown(wait=True, cancel_futures=True)
        measuring.stopping.clear()
    for track in tracks:
        screen.say(f"{track.lane.spec.name}: pushed {track.pushed_bytes:,} bytes")
    return not cut


GATES = ("check", "accuracy")


class _Track:
    """A lane on its way through its blocks."""

    def __init__(
        self, lane: Lane, facts: DeviceFacts, plan: Measure, blocks: list[schedule.Block], executor: Executor,
        more: NextBlock,
    ) -> None:  # fmt: skip
        self.more = more
        self.lane, self.facts, self.plan, self.blocks, self.executor = lane, facts, plan, list(blocks), executor
        self.planned = [run for block in blocks for run in block.runs]
        self.began = time.monotonic()
        self.before: float | None = None
        self.pushed_bytes = lane.pushed_bytes
        self.prepared = False
        self.enough = False  # of the adaptive amount

    def _next(self, store: Store, identity: str, screen: Screen) -> schedule.Block | None:
        """The next planned block; behind the planned latency blocks, as many more as the plan asks for."""
        latency_left = any(block.purpose == "latency" for block in self.blocks)
        if self.plan.target_ci is not None and not self.enough and not latency_left:
            cells, runs = adaptive.one_of_each(self.planned), store.scored(identity)
            found = self.more(store.session(identity), runs, self.lane.spec, self.facts.device_id, self.plan, cells)
            if found.block is not None:
                self.planned += found.block.runs
                return found.block
            self.enough = True
            screen.say(f"{self.lane.spec.name}: enough repeats: {found.reason}")
        return self.blocks.pop(0) if self.blocks else None

    def submit_next(
        self,
        running: dict[Future[Measured], _Track],
        store: Store,
        identity: str,
        files: Files,
        settings: Settings,
        screen: Screen,
    ) -> None:
        """The next block, without the cells that broke, or whose outputs were not found right: a latency counts
        only behind its output check."""
        while (block := self._next(store, identity, screen)) is not None:
            broken = self._broken(store, identity)
            shut = {key for key, purpose in broken if purpose in ESSENTIAL}
            if block.purpose != "check":
                right = {key for key, purpose, _ in store.counted(identity) if purpose in GATES}
                shut |= {cell_key(run.cell) for run in self.planned if run.purpose in GATES} - right
            self.planned = [run for run in self.planned if _open(run, shut, broken)]
            runs = tuple(run for run in block.runs if _open(run, shut, broken))
            if runs:
                task = BlockTask(
                    device=self.lane.spec,
                    session=identity,
                    store_url=store.url,
                    files=str(files.folder),
                    folder=str(settings.folder),
                    carried=settings.carried,
                    runs=runs,
                    meter=self.plan.energy,
                    goes_on=self.prepared,
                )
                self.prepared = bool(self.lane.spec.prepare)
                running[self.executor.submit(measure_block, task)] = self
                return

    @staticmethod
    def _broken(store: Store, identity: str) -> set[tuple[str, str]]:
        """What is not tried again. One window of a meter may well be lost, where another was not; but without any idle
        window no load tells anything."""
        good = {(key, purpose) for key, purpose, _ in store.counted(identity) if purpose in ("idle", "energy")}
        broken = store.broken(identity) - good
        if any(purpose == "idle" for _, purpose in broken):
            broken |= {(key, "energy") for key, purpose, _ in store.counted(identity) if purpose == "latency"}
        return broken

    @property
    def unfinished(self) -> bool:
        return bool(self.blocks) or (self.plan.target_ci is not None and not self.enough)

    def putting_back(self, store: Store) -> DeployTask:
        return DeployTask(device=self.lane.spec, store_url=store.url, runtimes=())

    def fail(self, store: Store, identity: str, error: HarnessError, screen: Screen) -> None:
        self.blocks = []
        self.prepared = self.prepared and not isinstance(error, TransportError)  # a dead link puts nothing back
        screen.say(_named(self.lane.spec, error))
        store.put_device(
            identity,
            SessionDevice(spec=self.lane.spec, facts=self.lane.facts, runners=self.lane.runners, unreached=str(error)),
        )

    def show(self, counted: set[tuple[str, str, int]], screen: Screen) -> None:
        """Progress as the store has it, and the time left by what the runs have taken so far."""
        missing = [r for r in self.planned if (cell_key(r.cell), r.purpose, r.repeat) not in counted]
        todo = sum(schedule.seconds(run) for run in missing)
        if self.before is None:
            self.before = todo
        spent, expected = time.monotonic() - self.began, self.before - todo
        left = todo * (spent / expected if expected > 5 else 1.0)
        now = ""
        if missing:
            cell = missing[0].cell
            of = "the empty runner" if cell.variant == NULL_VARIANT else cell.variant
            now = f"{missing[0].purpose} of {of} ({cell.exporter})"
        done = len(self.planned) - len(missing)
        screen.show(self.lane.spec.name, self.lane.spec.name[:28], now, done, len(self.planned), left)


def _open(run: PlannedRun, shut: set[str], broken: set[tuple[str, str]]) -> bool:
    """The empty model's cell is also that of the enrolment and of the idle windows, which need none of its memory."""
    key = cell_key(run.cell)
    if run.purpose in GATES:
        return True
    return (run.purpose in ("sentinel", "idle") or key not in shut) and (key, run.purpose) not in broken


def _store_refusals(store: Store, identity: str, refused: Sequence[schedule.Refused]) -> None:
    for item in refused:
        name = hashlib.sha256(f"{identity} {cell_key(item.cell)}".encode()).hexdigest()[:32]
        store.append(
            Run(
                id=name,
                session=identity,
                cell=item.cell,
                purpose="latency",
                repeat=0,
                attempt=1,
                counts=False,
                status="skipped",
                reason=item.reason,
                started_utc=utc_now(),
            )
        )
