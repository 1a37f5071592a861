"""More repeats for a pick that is not sure: in the session it was made from, on the session's own devices.

Only what can still change the answer is measured again (analyze/racing.py), each repeat a block of its own in random
order, until the pick is as sure as its rule asks, the time is up, or more would not help. The runs are stored as any
other: whatever ends it, what was measured stays and counts."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import adaptive, lanes, schedule
from harness.analyze import results
from harness.analyze.pick import Decision, decide
from harness.errors import DeviceError, UsageError
from harness.experiment import Measure
from harness.own_devices import refuse_foreign
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Constraint, DeviceSpec, PlannedRun, Run, Session, SessionDevice

MINUTES = 10.0
_KEYS = ("variant", "seed", "exporter", "backend", "input", "threads", "cpus")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is asked of the pick; `devices`: names as the session has them, none for all."""

    minimize: str
    where: Sequence[Constraint]
    confidence: float
    selected_on: str = "test"
    devices: Sequence[str] = ()

    def decide(self, session: Session, runs: Sequence[Run]) -> tuple[Decision, list[Mapping[str, Any]]]:
        """The pick as it is now, and the results that it was made of; their device is the session's name for it."""
        document, raw = results.with_raw(session, runs, None, lambda spec, facts: spec.name)
        asked = [i for i, r in enumerate(document["results"]) if not self.devices or r["device"] in self.devices]
        found = [document["results"][i] for i in asked]
        decision = decide(
            found, minimize=self.minimize, where=self.where, confidence=self.confidence, raw=[raw[i] for i in asked],
            selected_on=self.selected_on,
        )  # fmt: skip
        return decision, found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of it. `before`, `after`: the pick's probability, None where nothing fits or nobody knows."""

    before: float | None
    after: float | None
    runs: int
    minutes: float
    reason: str

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def line(self) -> str:
        was, now = (("unknown" if p is None else f"{p:.0%}") for p in (self.before, self.after))
        if not self.runs:
            return f"Nothing more was measured: {self.reason}"
        return f"{self.runs} more runs in {self.minutes:.1f} minutes: sure {was} -> {now}; {self.reason}"


def measure_more(
    store: Store, session: Session, files: Files, rule: Rule, minutes: float, settings: Settings, screen: Screen
) -> Measured:
    """Raises UsageError for a quick or an imported session, DeviceError where a device is out of reach or not as it
    was, and PackageError where a file is gone."""
    if session.quick:
        raise UsageError("a --quick session never decides", "harness run without --quick")
    if session.imported_utc is not None:  # its devices' entries may name any command
        raise UsageError("the session was imported: nothing of it is measured here", "harness run measures one of here")
    before, _ = rule.decide(session, store.scored(session.id))
    if not before.racing:
        told = _told(before, rule.confidence)
        return Measured(before=sure(before), after=sure(before), runs=0, minutes=0.0, reason=told)
    for build in session.package.builds:
        if build.artifact is not None:
            files(build.artifact.sha256, build.artifact.suffix)
    wanted = [d for d in session.devices if not rule.devices or d.spec.name in rule.devices]
    refuse_foreign([device.spec for device in wanted], settings)
    reached = lanes.reach([device.spec for device in wanted], session.package, settings, screen)
    for known, lane in zip(wanted, reached, strict=True):
        refuse_another(known, lane)
    said = {k: v for k, v in session.plan.items() if k != "seed"}
    plan = Measure.model_validate(said).model_copy(update={"target_ci": said.get("target_ci") or 0.01})
    had = {run.id for run in store.runs(session.id)}
    began = time.monotonic()
    ended: list[str] = []
    limited = dataclasses.replace(settings, max_minutes=minutes)
    lanes.measure(
        store, session.id, session.package, files, reached, plan, limited, screen, more=_next(rule, ended.append)
    )
    runs = store.scored(session.id)
    after, _ = rule.decide(session, runs)
    spent = (time.monotonic() - began) / 60
    why = ended[-1] if ended else f"the {minutes:g} minutes are over"
    return Measured(
        before=sure(before), after=sure(after), runs=sum(run.counts and run.id not in had for run in runs),
        minutes=spent, reason=why,
    )  # fmt: skip


def sure(decision: Decision) -> float | None:
    """The pick's probability; None where there is no pick, and where nobody knows."""
    found = decision.pick["probability"] if decision.pick else None
    return found if isinstance(found, float) else None


def refuse_another(known: SessionDevice, lane: lanes.Lane) -> None:
    """Raises DeviceError where this is not the device that the session measured, or it has changed since: its numbers
    would not belong together."""
    if lane.facts is None:
        raise DeviceError(lane.unreached or f"{lane.spec.name} is out of reach", "--device names those to measure on")
    if known.facts is None:
        raise DeviceError(f"{lane.spec.name}: the session never reached it", "harness run measures it in a new session")
    then, now = known.facts, lane.facts
    pairs = [("device", then.device_id, now.device_id), ("OS", then.os, now.os), ("kernel", then.kernel, now.kernel)]
    runtimes = sorted({*known.runners, *lane.runners})
    pairs += [(f"{r} runner", known.runners.get(r, "")[:12], lane.runners.get(r, "")[:12]) for r in runtimes]
    changed = [f"{what} was {was or 'unknown'}, is {is_ or 'unknown'}" for what, was, is_ in pairs if was != is_]
    if changed:
        raise DeviceError(
            f"{lane.spec.name} is not as the session has it: {'; '.join(changed)}",
            "harness run measures a new session",
        )


def _next(rule: Rule, ended: Callable[[str], None]) -> lanes.NextBlock:
    """What decides on the next latency block of a device."""
    asked: dict[str, int] = {}  # device -> the last block that it was given

    def more(
        session: Session, runs: Sequence[Run], spec: DeviceSpec, device_id: str, plan: Measure,
        planned: Sequence[PlannedRun],
    ) -> adaptive.More:  # fmt: skip
        mine = [run for run in runs if run.cell.device_id == device_id]
        latency = [run for run in mine if run.purpose == "latency"]
        last = asked.get(device_id)
        decision, found = rule.decide(session, runs)
        racing = {_key(found[i]) for i in decision.racing if found[i]["device"] == spec.name}
        again = [run for run in planned if _key(dataclasses.asdict(run.cell)) in racing]
        reason = _told(decision, rule.confidence)
        if last is not None and not any(run.counts for run in latency if run.block == last):
            again, reason = [], "no run of the last block could be used"
        if not again:
            ended(reason)
            return adaptive.More(block=None, reason=reason)
        block = 1 + max((run.block for run in mine), default=0)
        repeat = 1 + max((run.repeat for run in latency), default=plan.repeats - 1)
        asked[device_id] = block
        chosen = schedule.more(block, repeat, again, int(session.plan["seed"]))
        return adaptive.More(block=chosen, reason=f"{len(again)} results are in the race")

    return more


def _key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[key] for key in _KEYS)


def _told(decision: Decision, confidence: float) -> str:
    """Why no more is measured."""
    if decision.pick is None:
        return f"more latency runs would not help: {decision.reason}"
    chance = sure(decision)
    if chance is not None and chance >= confidence:
        return f"the pick is as sure as asked for ({confidence:.0%})"
    return f"more latency runs would not help: {decision.pick['settle'] or 'nothing is open'}"
