"""What unit and sign a battery's gauge really has, from an idle and a loaded device.

Some tell mA for µA, some a positive current while discharging. Both show by themselves: a device takes 0.05 to 25 W,
idle or loaded, and more of it loaded; no two of the four readings can fulfil that at once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_W, MOST_W = 0.05, 25.0
UNITS = {1.0: "µA", 1000.0: "mA"}


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """`factor`: what a power under the ABI's unit and sign must be multiplied by."""

    factor: float
    unit: str
    sign: str


def calibrated(idle_w: Sequence[float], load_w: Sequence[float]) -> Calibration | str:
    """From the mean powers of idle and of loaded windows, under the ABI; or why they show nothing."""
    if not idle_w or not load_w:
        return "unit and sign of the battery's gauge need both idle and loaded windows"
    idle, load = statistics.median(idle_w), statistics.median(load_w)
    for scale, unit in UNITS.items():
        for sign, name in ((1.0, "negative while discharging"), (-1.0, "positive while discharging")):
            one, two = sign * scale * idle, sign * scale * load
            if LEAST_W <= one < two <= MOST_W:
                return Calibration(factor=sign * scale, unit=unit, sign=name)
    return (
        f"the battery's gauge cannot be understood: by its word {idle:.3g} W idle and {load:.3g} W loaded, which in no "
        "unit and sign is a device that discharges more under load"
    )
