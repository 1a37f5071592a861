"""A run with a meter beside it: started before, ended behind; what it read is stored raw with the run."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import numpy as np

from harness import registry
from harness.errors import HarnessError, RunnerError
from harness.interfaces import EnergyTrace, Meter
from harness.measure.session import Attempt
from harness.types import Run

log = logging.getLogger("harness.measure.energy")
#: beginning of the reason of a run for which no meter could be used
NO_METER = "no usable meter"


def metered(bench: Any, wanted: str, attempt: Callable[[], Attempt], refuse: Callable[[str], Run]) -> Attempt:
    """The attempt with the meter's readings in the run's arrays (`energy_t_s`, `energy_values`), and what is known of
    the meter in its conditions (`energy`).

    `wanted`: `auto` or a meter's name; the device's entry comes before `auto`. Where no meter is fit, nothing is run:
    the attempt is what `refuse(reason)` says. A meter that breaks makes the run `failed`, with the reason.
    Raises TransportError when the link fails."""
    name, meter, reason = choose(bench, wanted)
    if meter is None:
        return Attempt(run=refuse(f"{NO_METER}: {reason}"))
    try:
        meter.start(bench)
    except RunnerError as error:
        return Attempt(run=refuse(f"{name}: {error.what}"))
    try:
        made = attempt()
    except BaseException:
        _give_up(meter)
        raise
    try:
        return dataclasses.replace(made, run=with_trace(made.run, name, meter.stop()))
    except RunnerError as error:
        return dataclasses.replace(made, run=_failed(made.run, f"{name}: {error.what}"))


def choose(bench: Any, wanted: str) -> tuple[str, Meter | None, str]:
    """(name, the first meter that is fit, or None with why each that was tried is not)."""
    reasons = []
    for name in candidates(bench.spec.energy, wanted):
        meter: Meter = registry.load("meter", name)()
        reason = meter.unfit(bench)
        if reason is None:
            return name, meter, ""
        reasons.append(f"{name}: {reason}")
    return "", None, "; ".join(reasons)[:1000]


def candidates(entry: Any, wanted: str) -> list[str]:
    """The meters to try, best first. `exec` only where the device's entry has its command."""
    if wanted != "auto":
        return [wanted]
    if entry.get("meter"):
        return [str(entry["meter"])]
    if entry.get("command"):
        return ["exec"]
    known = dict.fromkeys((*registry.METERS, *registry.names("meter")))  # third parties' come last
    return [name for name in known if name != "exec"]


def with_trace(run: Run, name: str, trace: EnergyTrace) -> Run:
    """The run with the trace beside it, whatever became of the run itself."""
    about: dict[str, Any] = {
        "source": name,
        "kind": trace.kind,
        "unit": "J" if trace.kind == "counter" else "W",
        "clock": trace.clock,
        "clock_s": trace.clock_s,
        "rails": list(trace.rails),
        "period_s": trace.period_s,
        "uncertainty": trace.uncertainty,
        "range_j": list(trace.range_j) or [None] * len(trace.rails),
        "counts": trace.counts,
        "uncalibrated": trace.uncalibrated,
        "notes": dict(trace.notes),
    }
    arrays = {
        "energy_t_s": np.asarray(trace.t_s, dtype="<f8"),
        "energy_values": np.asarray(trace.values, dtype="<f8"),
    }
    return dataclasses.replace(
        run, conditions=dict(run.conditions) | {"energy": about}, arrays=dict(run.arrays) | arrays
    )


def _failed(run: Run, reason: str) -> Run:
    """A run that was no good already keeps its own reason."""
    if run.status != "ok":
        return run
    return dataclasses.replace(run, status="failed", counts=False, reason=reason[:1000])


def _give_up(meter: Meter) -> None:
    """What happened matters more than the readings."""
    try:
        meter.stop()
    except HarnessError as error:
        log.info("the meter could not be ended well: %s", error.what)
