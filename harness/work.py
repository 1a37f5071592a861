"""The work handed to a device's executor: one device × one block of the schedule. Values in, run ids out."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.attempt import ATTEMPTS, JUDGED, BlockTask, enrolment, surrounded, until_settled, waiter
from harness.devices import quarantine
from harness.devices.bench import facts_of, opened, probe
from harness.devices.depot import Depot
from harness.errors import DeviceError, StoreError, TransportError
from harness.judging import summarised
from harness.measure import session as measuring
from harness.store import Store
from harness.store.store import cell_key
from harness.types import DeviceFacts, DeviceSpec

log = logging.getLogger("harness.work")


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
    store = Store.open(task.store_url, stop=measuring.stopping)
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
                    made, rebooted = until_settled(task, store, package, bench, planned)
                    done += made
                    if rebooted:  # before the next one: what was set is gone
                        return done, bench.depot.pushed_bytes, True
            return done, bench.depot.pushed_bytes, False
    finally:
        store.close()


def put_back(task: DeployTask) -> None:
    """Ends what the last block left prepared. Raises DeviceError: then the next harness there does it."""
    with opened(task.device, collector(task.store_url), waiter(task.device.name)):
        pass


def collector(store_url: str) -> Callable[[Depot, str], None]:
    """What becomes of a run that had ended when its host died: timed or weighed, it is as good as any, and is stored
    if it is this store's, whole, and (timed) not disturbed, as far as the runner itself saw. Outputs are not judged
    here (that takes its own experiment's code and files)."""

    def collect(depot: Depot, run: str) -> None:
        notes = _notes(depot, run)
        if notes is None or notes.get("purpose") not in ("latency", "memory"):
            return
        store = Store.open(store_url, create=True, stop=measuring.stopping)
        try:
            store.session(notes["session"])  # UsageError for another store's
            attempt = measuring.collect(depot, run, depot.poll(run), notes)
            if attempt.run.status != "ok":
                return
            found = summarised(attempt.run)
            if found.purpose in JUDGED:
                found = surrounded(found, enrolment(store, found.session, found.cell))
            if found.status == "ok":
                store.append(found)
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
