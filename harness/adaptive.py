"""The adaptive amount: after the planned repeats, which cells of a device deserve another one, and when it is enough.

What decides is `analyze/amount.py`, from what is stored, so that a run which continues decides as one that was never
interrupted. The device's own time is what the budget counts: waiting for it to cool costs nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness import schedule
from harness.analyze import amount, results
from harness.analyze.selection import selected_on
from harness.experiment import Measure
from harness.metrics import constraint
from harness.store.store import cell_key
from harness.types import DeviceSpec, PlannedRun, Run, Session


@dataclass(frozen=True, kw_only=True)
class More:
    """`block` is None where it is enough; `reason` says why either way."""

    block: schedule.Block | None
    reason: str


def more(
    session: Session,
    runs: Sequence[Run],
    spec: DeviceSpec,
    device_id: str,
    plan: Measure,
    planned: Sequence[PlannedRun],
) -> More:
    """The next latency block of this device. `planned`: one latency run of every cell that may be measured."""
    assert plan.target_ci is not None
    mine = [run for run in runs if run.cell.device_id == device_id]
    spent = minutes(mine)
    if plan.budget_minutes is not None and spent >= plan.budget_minutes:
        return More(block=None, reason=f"the budget of {plan.budget_minutes:g} minutes is spent")
    latency = [run for run in mine if run.purpose == "latency"]
    beyond = [run for run in latency if run.repeat >= plan.repeats]
    last = max((run.block for run in beyond), default=None)
    if last is not None and not any(run.counts for run in beyond if run.block == last):
        return More(block=None, reason="no run of the last block could be used")
    document, raw = results.with_raw(session, runs, None, lambda one, facts: one.name)
    here = [i for i, result in enumerate(document["results"]) if result["device"] == spec.name]
    experiment = session.package.experiment
    rule = experiment.get("pick") or {}
    tried: dict[tuple[object, ...], set[int]] = {}
    for run in latency:
        tried.setdefault(_named(run), set()).add(run.repeat)
    decision = amount.next_repeat(
        [document["results"][i] for i in here],
        [raw[i] for i in here],
        objectives=experiment.get("objectives", ()),
        minimize=rule.get("minimize", "latency_ms") if rule else None,
        where=[constraint(text) for text in rule.get("where", ())],
        confidence=rule.get("confidence", 0.9),
        target_ci=plan.target_ci,
        selected_on=selected_on(session),
        spent={k: len(tried.get(_name(document["results"][i]), ())) for k, i in enumerate(here)},
        cap=max(amount.MAX_REPEATS, plan.repeats),
    )
    chosen = {_name(document["results"][here[k]]) for k in decision.cells}
    again = [run for run in planned if _named(run) in chosen]
    if not again:
        return More(block=None, reason=decision.reason)
    block = 1 + max((run.block for run in mine), default=0)
    repeat = 1 + max((run.repeat for run in latency), default=plan.repeats - 1)
    return More(block=schedule.more(block, repeat, again, int(session.plan["seed"])), reason=decision.reason)


def minutes(runs: Sequence[Run]) -> float:
    """The device's time that these runs took, by its own clock."""
    spans = [(run.start_boottime_ns, run.end_boottime_ns) for run in runs]
    return sum(end - begin for begin, end in spans if begin is not None and end is not None) / 60e9


def one_of_each(planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """One latency run of every cell."""
    found = {cell_key(run.cell): run for run in planned if run.purpose == "latency"}
    return list(found.values())


_KEYS = ("variant", "seed", "exporter", "backend", "input", "threads", "cpus")


def _name(result: dict[str, object]) -> tuple[object, ...]:
    return tuple(result[key] for key in _KEYS)


def _named(run: PlannedRun | Run) -> tuple[object, ...]:
    return tuple(getattr(run.cell, key) for key in _KEYS)
