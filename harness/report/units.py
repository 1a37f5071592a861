"""Numbers for people: a unit that suits them and as many digits as the number deserves. Nothing is computed here.

Bytes are decimal (1 KB = 1,000 bytes). Fractions are shown in percent, a loss of accuracy in points of percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.metrics import LOSSES

ABSENT = "–"
_TINY = 1e-5  # below it, numbers are written with an exponent

#: unit in the document -> (factor, unit shown), smallest first
_STEPS: dict[str, tuple[tuple[float, str], ...]] = {
    "ms": ((1e6, "ns"), (1e3, "µs"), (1.0, "ms"), (1e-3, "s")),
    "bytes": ((1.0, "B"), (1e-3, "KB"), (1e-6, "MB"), (1e-9, "GB")),
    "J": ((1e6, "µJ"), (1e3, "mJ"), (1.0, "J")),
    "W": ((1e3, "mW"), (1.0, "W")),
    "kHz": ((1.0, "kHz"), (1e-3, "MHz"), (1e-6, "GHz")),
    "1": ((1.0, ""), (1e-3, "K"), (1e-6, "M"), (1e-9, "G")),
    "inferences/s": ((1.0, "inf/s"), (1e-3, "K inf/s"), (1e-6, "M inf/s")),
    "fraction": ((100.0, "%"),),
}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Multiply a value of the document by `factor` and it is in `unit`."""

    factor: float
    unit: str

    def value(self, x: float) -> str:
        return f"{digits(x * self.factor)}{self.suffix}"

    @property
    def suffix(self) -> str:
        return f" {self.unit}" if self.unit else ""


def scale(unit: str, values: Iterable[float], metric: str = "") -> Scale:
    """The one scale for all of `values`, so that a column compares by eye: the smallest is at least 1 in it,
    unless the largest would then need more than six digits (then the geometric mean decides, and the largest has at
    most nine where there is a unit for that)."""
    if metric.partition(".")[0] in LOSSES and unit == "fraction":
        return Scale(factor=100.0, unit="pt")
    steps = _STEPS.get(unit, ((1.0, unit),))
    sizes = [abs(v) for v in values if v and math.isfinite(v)]
    if not sizes:
        return Scale(factor=1.0, unit=unit if unit != "1" else "") if len(steps) > 1 else _as_scale(steps[0])
    chosen = _largest_step(steps, min(sizes))
    if max(sizes) * chosen[0] >= 1e6:
        chosen = _largest_step(steps, math.exp(sum(map(math.log, sizes)) / len(sizes)))
        readable = [step for step in steps if max(sizes) * step[0] < 1e9] or [steps[-1]]
        chosen = min(chosen, readable[0])
    return _as_scale(chosen)


def human(unit: str, value: float, metric: str = "") -> str:
    """One value with the unit that suits it: 0.0213 ms is `21.3 µs`, a drop of 0.004 is `0.40 pt`."""
    chosen = scale(unit, [value], metric)
    if chosen.unit == "pt":
        return f"{_fixed(value * chosen.factor, 2)} pt"
    return chosen.value(value)


def ratio(x: float) -> str:
    """`0.35×`: two digits are what a comparison by eye can use."""
    return f"{_fixed(x, max(0, 1 - math.floor(math.log10(x))))}×"


def digits(x: float) -> str:
    """Three significant digits, thousands separated, never an exponent where people would not write one."""
    if x == 0:
        return "0"
    return _fixed(x, _decimals(x))


def spread(value: float, ci: tuple[float, float] | None) -> tuple[str, str]:
    """`(value, ± half width)`; no half width for exact values. Three significant digits of the value, but at least
    one of the half width, and no more than two of it: what lies below the spread is not shown."""
    if ci is None or ci[0] == ci[1]:
        return digits(value), ""
    half = (ci[1] - ci[0]) / 2
    least, most = max(0, -math.floor(math.log10(half))), max(0, 1 - math.floor(math.log10(half)))
    decimals = min(max(_decimals(value), least), most, _decimals(value) + 2 if value else most)
    if abs(value) >= _TINY and half < 0.5 * 10.0**-decimals:
        return _fixed(value, decimals), f"±<{_fixed(10.0**-decimals, decimals)}"
    return _fixed(value, decimals), f"±{_fixed(half, decimals)}"


def mean_sd(mean: float, sd: float) -> str:
    """`98.1 sd 0.3`, never with ±: that sign is an interval's."""
    number, half = spread(mean, (mean - sd, mean + sd))
    return f"{number} sd {half.removeprefix('±') or '0'}"


def seconds(value: float) -> str:
    """`0.83 s`, `38 s`, `4.2 min`, `3.1 h`."""
    for limit, divisor, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if value < limit:
            return f"{_two(value / divisor)} {unit}"
    return f"{_two(value / 3600)} h"


def _two(x: float) -> str:
    return _fixed(x, max(0, 1 - math.floor(math.log10(x)))) if x >= 0.005 else "0.00"


def _largest_step(steps: tuple[tuple[float, str], ...], size: float) -> tuple[float, str]:
    fitting = [step for step in steps if size * step[0] >= 0.9995]
    return fitting[-1] if fitting else steps[0]


def _as_scale(step: tuple[float, str]) -> Scale:
    return Scale(factor=step[0], unit=step[1])


def _decimals(x: float) -> int:
    return max(0, 2 - math.floor(math.log10(abs(x)))) if x else 0


def _fixed(x: float, decimals: int) -> str:
    if 0 < abs(x) < _TINY or abs(x) >= 1e12:
        return f"{x:.3g}"
    text = f"{x:,.{decimals}f}"
    return text.lstrip("-") if not text.strip("-0.,") else text.replace("-", "−")
