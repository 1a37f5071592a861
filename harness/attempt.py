"""One run of the schedule on an opened device: gated, made, judged, and made again where something disturbed it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import __version__
from harness.analyze import conditions as surroundings
from harness.devices import telemetry
from harness.devices.bench import Bench
from harness.judging import judged
from harness.measure import energy as metering
from harness.measure import gate as gating
from harness.measure import session as measuring
from harness.package import Files
from harness.screen import note
from harness.store import Store
from harness.types import Cell, DeviceSpec, Enrolment, Package, PlannedRun, Purpose, Run, Snapshot

COOL_S = 10.0  # before a run that began on a slow device is made again, beside what the gate waits
ATTEMPTS = 3  # of a run that a disturbance spoiled; what fails by itself is never tried again


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


def until_settled(
    task: BlockTask, store: Store, package: Package, bench: Bench, planned: PlannedRun
) -> tuple[list[str], bool]:
    """The ids of the attempts, and whether the device rebooted under the last one."""
    made: list[str] = []
    rebooted = False
    for tried in range(1, ATTEMPTS + 1):
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        run = _attempt(task, store, package, bench, planned)
        rebooted = _rebooted(bench)
        if rebooted:
            lost = {"set": {}, "not_set": {"*": "the device rebooted since"}}
            run = dataclasses.replace(run, conditions=dict(run.conditions) | {"prepared": lost})
            if run.status == "ok" and run.boot_id not in (None, bench.facts.boot_id):
                why = "the device rebooted before the run, and lost what was set for it"
                run = dataclasses.replace(run, status="invalid", counts=False, reason=why)
        store.append(run)
        bench.depot.remove(bench.depot.run_dir(run.id))  # not before it is stored
        made.append(run.id)
        once = planned.purpose in TRIED_ONCE or (run.reason or "").startswith(gating.TIMEOUT)
        if run.status != "invalid" or rebooted or once:
            break
        # whatever it is, heat or others' work: it needs time
        if tried < ATTEMPTS and (run.reason or "").startswith(surroundings.SLOW):
            bench.depot.clock.sleep(COOL_S)
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
            enrolled = enrolment(store, task.session, planned.cell)
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
    return surrounded(run, enrolled) if planned.purpose in JUDGED else run


def _gate(bench: Bench, planned: PlannedRun, enrolled: Enrolment | None) -> gating.Gate:
    """A device that timed out twice in a row gets no more patience, until a look finds it cool again."""

    def look() -> Snapshot:
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        bench.depot.renew(0.0)
        return telemetry.snapshot(bench.depot, bench.spec)

    limits, clock = gating.Limits.of(bench.spec.thermal), bench.depot.clock
    wait = waiter(bench.spec.name)
    if planned.purpose == "sentinel" and planned.repeat == 0:
        return gating.settled(look, limits, clock, wait)
    unit = bench.facts.device_id
    hot = _timeouts[unit] >= PATIENT_TIMEOUTS
    gate = gating.cooled(look, enrolled, limits, clock, wait, patience_s=0.0 if hot else None)
    _timeouts[unit] = _timeouts[unit] + 1 if gate.state == "timeout" else 0
    return gate


#: gates in a row that timed out, by device; after so many nobody waits the whole time again
_timeouts: Counter[str] = Counter()
PATIENT_TIMEOUTS = 2


def enrolment(store: Store, session: str, cell: Cell) -> Enrolment | None:
    """What this session knows of the device at rest, for runs of this cell."""
    place = cell.device_id, cell.cpus

    def mine(purpose: Purpose) -> list[Run]:
        return [r for r in store.runs(session, purpose=purpose) if (r.cell.device_id, r.cell.cpus) == place]

    return surroundings.enrolment(mine("sentinel"), since=[*mine("burn_in"), *mine("latency")])


def surrounded(run: Run, enrolled: Enrolment | None) -> Run:
    """What the surroundings spoil is invalid; a run that was no good already keeps its own reason."""
    if run.status != "ok":
        return run
    status, reason, caveats = surroundings.judged(run.conditions, enrolled, heats=run.purpose == "sustained")
    return dataclasses.replace(
        run, status=status, counts=status == "ok", reason=reason, caveats=(*run.caveats, *caveats)
    )


def _rebooted(bench: Bench) -> bool:
    root = bench.spec.sysroot.rstrip("/")  # as the facts were read
    done = bench.depot.transport.run(["cat", f"{root}/proc/sys/kernel/random/boot_id"])
    now = done.stdout.decode("ascii", "replace").strip()
    return bool(now and bench.facts.boot_id and now != bench.facts.boot_id)


_told: set[tuple[str, str]] = set()


def waiter(device: str) -> Callable[[str], None]:
    """Tells each reason once, and gives up when the user interrupts."""

    def wait(reason: str) -> None:
        if measuring.stopping.is_set():
            raise measuring.Interrupted
        if (device, reason) not in _told:
            note(f"{device}: {reason}; waiting")
        _told.add((device, reason))

    return wait
