"""A session's devices, a lane each: reached, then measured block by block, each lane on an executor of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field

from harness import schedule
from harness.devices.bench import Collect, opened
from harness.errors import DeviceError, HarnessError, PackageError, ToolchainError, UsageError
from harness.experiment import Measure
from harness.measure import session as measuring
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.store.store import cell_key, utc_now
from harness.types import NULL_VARIANT, DeviceFacts, DeviceSpec, Package, Run, SessionDevice
from harness.work import BlockTask, measure_block


@dataclass(frozen=True, kw_only=True)
class Lane:
    """One device's part of a session: reached, with its blocks, or not, with the reason."""

    spec: DeviceSpec
    facts: DeviceFacts | None = None
    runners: dict[str, str] = field(default_factory=dict)
    unreached: str | None = None


def reach(devices: Sequence[DeviceSpec], package: Package, collect: Collect, screen: Screen) -> list[Lane]:
    """Opens every device once: what it is, and its runners deployed. One that fails does not stop the others.

    Raises the first device's error when none could be reached."""
    if len({spec.name for spec in devices}) < len(devices):
        raise UsageError("a device is named twice", "name each --device once")
    runtimes = sorted({b.artifact.runtime for b in package.builds if b.artifact is not None})
    lanes, failures = [], []
    for spec in devices:
        try:
            screen.show(f"reach {spec.name}", "reaching", spec.name, 0, len(runtimes))
            with opened(spec, collect) as bench:
                shas = {}
                for number, runtime in enumerate(runtimes):
                    bench.runner(runtime, screen.say)
                    shas[runtime] = bench.runner_sha256(runtime)
                    screen.show(f"reach {spec.name}", "reaching", spec.name, number + 1, len(runtimes))
                lanes.append(Lane(spec=spec, facts=bench.facts, runners=shas))
        except (DeviceError, ToolchainError, PackageError) as error:
            failures.append(error)
            screen.say(f"{spec.name}: {error}")
            lanes.append(Lane(spec=spec, unreached=str(error)))
    if len(failures) == len(devices) and failures:
        raise failures[0]
    return lanes


def measure(
    store: Store,
    identity: str,
    package: Package,
    files: Files,
    lanes: Sequence[Lane],
    plan: Measure,
    settings: Settings,
    screen: Screen,
) -> bool:
    """Every block on every device, a lane each; True when every device was reached and nothing was cut short."""
    seed = int(store.session(identity).plan["seed"])
    tracks = [
        _Track(
            lane, lane.facts, schedule.blocks(package, plan, lane.facts, seed), settings.executors.lane(lane.spec.name)
        )
        for lane in lanes
        if lane.facts is not None
    ]
    for track in tracks:
        _store_refusals(store, identity, schedule.refusals(package, plan, track.facts))
    deadline = None if settings.max_minutes is None else time.monotonic() + settings.max_minutes * 60
    cut = len(tracks) < len(lanes)
    try:
        running: dict[Future[list[str]], _Track] = {}
        for track in tracks:
            track.submit_next(running, store, identity, files, settings)
        while running:
            done, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                track = running.pop(future)
                try:
                    future.result()
                except (DeviceError, ToolchainError, PackageError) as error:
                    cut = True
                    track.fail(store, identity, error, screen)
                    continue
                if deadline is not None and time.monotonic() > deadline and track.blocks:
                    cut = True
                    screen.say(
                        f"{track.lane.spec.name}: stopped after {settings.max_minutes:g} minutes; run again to go on"
                    )
                else:
                    track.submit_next(running, store, identity, files, settings)
            for track in tracks:
                track.show(store.counted(identity), screen)
    except BaseException:
        measuring.stopping.set()
        raise
    finally:
        for track in tracks:
            track.executor.shutdown(wait=True, cancel_futures=True)
        measuring.stopping.clear()
    return not cut


GATES = ("check", "accuracy")


class _Track:
    """A lane on its way through its blocks."""

    def __init__(self, lane: Lane, facts: DeviceFacts, blocks: list[schedule.Block], executor: Executor) -> None:
        self.lane, self.facts, self.blocks, self.executor = lane, facts, list(blocks), executor
        self.planned = [run for block in blocks for run in block.runs]
        self.began = time.monotonic()
        self.before: float | None = None

    def submit_next(
        self, running: dict[Future[list[str]], _Track], store: Store, identity: str, files: Files, settings: Settings
    ) -> None:
        """The next block, without the cells that broke, or whose outputs were not found right: a latency counts
        only behind its output check."""
        while self.blocks:
            block = self.blocks.pop(0)
            shut = set(store.broken(identity))
            if block.purpose != "check":
                right = {key for key, purpose, _ in store.counted(identity) if purpose in GATES}
                shut |= {cell_key(run.cell) for run in self.planned if run.purpose in GATES} - right
            self.planned = [r for r in self.planned if r.purpose in GATES or cell_key(r.cell) not in shut]
            runs = tuple(run for run in block.runs if block.purpose == "check" or cell_key(run.cell) not in shut)
            if runs:
                task = BlockTask(
                    device=self.lane.spec,
                    session=identity,
                    store_url=store.url,
                    files=str(files.folder),
                    folder=str(settings.folder),
                    carried=settings.carried,
                    runs=runs,
                )
                running[self.executor.submit(measure_block, task)] = self
                return

    def fail(self, store: Store, identity: str, error: HarnessError, screen: Screen) -> None:
        self.blocks = []
        screen.say(f"{self.lane.spec.name}: {error}")
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
        screen.show(self.lane.spec.name, self.lane.spec.name[:12], now, done, len(self.planned), left)


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
