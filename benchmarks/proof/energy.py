"""Point 4: each meter finds the true energy within the uncertainty that it states, or says why it gives no number.

A sound gauge may be off by its own error of scale, which differs from device to device: each trial is another device.
Under each fault no number may be wrong: farther from the truth than twice the stated half width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from benchmarks.proof.claims import Row, beside, share
from benchmarks.proof.simulated import each, measured
from harness.analyze.metered import energy
from harness.analyze.rows import Planned
from harness.analyze.rows import rows as planned_rows
from harness.sim.model import SimModel

WINDOW_S = 40.0
TOO_SHORT_S = 3.0
#: meter -> a device that has it, and what the model adds to its idle power there (cool enough not to throttle)
METERS: Mapping[str, tuple[str, float]] = {
    "odpm": ("phone-passive-cooling", 1.0),
    "battery": ("phone-passive-cooling", 1.0),
    "pmic": ("pi5-fan", 3.0),
    "hwmon": ("big-little", 3.0),
    "rapl": ("noisy-host", 15.0),
}
FAULTS: Mapping[str, tuple[str, ...]] = {
    "wrong_sign": ("battery", "hwmon"),
    "wrong_unit": ("battery", "hwmon"),
    "charging": ("battery",),
    "wraps": ("rapl",),
    "missing_rail": ("odpm", "pmic", "rapl"),
    "gaps": tuple(METERS),
    "restless": tuple(METERS),
    "too_short": tuple(METERS),
}
Answer = Literal["within", "outside", "wrong", "refused"]


@dataclass(frozen=True, kw_only=True)
class Asked:
    meter: str
    fault: str
    seed: int


def session(asked: Asked) -> Answer:
    """The worse answer of `power_w` and `energy_j`."""
    device, power_w = METERS[asked.meter]
    fault = "none" if asked.fault == "too_short" else asked.fault
    made, runs = measured(
        f"sim://{device}?seed={asked.seed}&fault={fault}&run_sd=0.005&within_sd=0.02&burst_every_s=0",
        {"model": SimModel(latency_ms=20.0, power_w=power_w)}, repeats=3, memory=False, energy=asked.meter,
        energy_seconds=TOO_SHORT_S if asked.fault == "too_short" else WINDOW_S,
    )  # fmt: skip
    found = energy(planned_rows(made, runs)[0], Planned.of(made))
    if "absent" in found["energy_j"]:
        return "refused"
    loads = [run.summary for run in runs if run.purpose == "energy" and run.counts]
    each_s = float(np.mean([load["seconds"] / load["inferences"] for load in loads]))  # the runner's own clock
    answers = [_judged(found["power_w"], power_w), _judged(found["energy_j"], power_w * each_s)]
    order: tuple[Answer, ...] = ("wrong", "outside", "within")
    return next(answer for answer in order if answer in answers)


def _judged(metric: Mapping[str, Any], truth: float) -> Answer:
    value, (low, high) = metric["value"], metric["ci95"]
    if low <= truth <= high:
        return "within"
    half = value - low if truth < value else high - value
    return "wrong" if abs(value - truth) > 2 * half else "outside"


def rows(seed: int, short: bool = False) -> list[Row]:
    sound, faulty = (1, 1) if short else (60, 5)
    seeds = np.random.default_rng((seed, 8)).integers(0, 2**31 - 1, max(sound, faulty)).tolist()
    tasks = [Asked(meter=meter, fault="none", seed=s) for meter in METERS for s in seeds[:sound]]
    faults = {fault: meters[:1] if short else meters for fault, meters in FAULTS.items()}
    tasks += [Asked(meter=m, fault=f, seed=s) for f, meters in faults.items() for m in meters for s in seeds[:faulty]]
    found = list(zip(tasks, each(session, tasks, alone=short), strict=True))
    out = []
    for meter in METERS:
        mine = [answer for task, answer in found if (task.meter, task.fault) == (meter, "none")]
        fine = sum(answer in ("within", "refused") for answer in mine)
        out.append(share(4, f"{meter}: within its uncertainty, or refused", fine, len(mine), least=0.93, short=short))
        out.append(beside(4, "  refused", mine.count("refused"), len(mine)))
    for fault, meters in faults.items():
        mine = [answer for task, answer in found if task.fault == fault]
        right = len(mine) - mine.count("wrong")  # not one number may be wrong: there is no chance in it to allow for
        out.append(share(4, f"{fault} ({', '.join(meters)}): no wrong number", right, len(mine), least=1.0))
        out.append(beside(4, "  refused", mine.count("refused"), len(mine)))
    return out
