"""`energy_j` and `power_w` of a cell: each loaded window between the idle ones of its block, net of idle.

    E_net of an inference = (P_load - P_idle) T / n,   P_idle = mean of the idle windows A before and B behind
    u(E_net)² = (T u(P_load))² + (T u(P_idle))² + (E_load u_cal)²

A block whose two idle windows differ by more than 5 % of the net power tells nothing. The interval is over the blocks,
or what follows from the meter's own uncertainty, whichever is wider."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analyze.gauge import Calibration, calibrated
from harness.analyze.intervals import Z95, covering, over_runs
from harness.analyze.measured import MetricObject, absent, metric_object, why_none
from harness.analyze.readings import Source
from harness.analyze.rows import Planned, Row
from harness.analyze.stats import between_run_cv
from harness.analyze.status import commonest, figures, number
from harness.errors import RunnerError
from harness.types import Run

NAMES = ("energy_j", "power_w")
IDLE_CHANGE = 0.05  # of the net power, between the idle windows of a block
AGREEMENT = 0.03  # of the latency measured with and without a meter, or what runs differ by themselves:
ERRORS = 3.0  # so many standard errors of that ratio
FEWEST = 0.5  # of the blocks that were measured: a smaller selection of them would be a choice


@dataclass(frozen=True, kw_only=True)
class Block:
    """One loaded window between its idle ones. Energies are an inference's; `u_j`: without the calibration's part."""

    number: int
    source: Source
    net_j: float
    gross_j: float
    net_w: float
    gross_w: float
    idle_w: float
    u_j: float
    u_w: float
    seconds: float
    period_s: float


def energy(row: Row, planned: Planned) -> dict[str, MetricObject]:
    """`energy_j` and `power_w`, net of idle, or absent with the reason."""
    found = usable(row, planned)
    if isinstance(found, str):
        return dict.fromkeys(NAMES, absent(found))
    blocks, calibration, refused = found
    return {
        "energy_j": _metric("energy_j", blocks, calibration, refused),
        "power_w": _metric("power_w", blocks, calibration, refused),
    }


def by_block(row: Row, planned: Planned) -> dict[str, dict[int, float]]:
    """Metric -> block of the schedule -> value, for what fronts and picks compare; empty where it is absent."""
    found = usable(row, planned)
    if isinstance(found, str):
        return {}
    return {
        "energy_j": {block.number: block.net_j for block in found[0]},
        "power_w": {block.number: block.net_w for block in found[0]},
    }


def usable(row: Row, planned: Planned) -> tuple[list[Block], Calibration | None, Counter[str]] | str:
    """The blocks that tell the energy, what the gauge turned out to be, and why other blocks do not; or why none
    does."""
    loads = row.counted("energy")
    if not loads:
        return _why_no_loads(row, planned)
    idles = {run.repeat: run for run in row.idles if run.counts and run.status == "ok"}
    if not idles:
        return commonest(row.idles) or "the idle power was not measured"
    if reason := observer_effect(row, loads):
        return reason
    calibration, factor = None, 1.0
    if any(run.conditions.get("energy", {}).get("uncalibrated") is True for run in loads):
        shown = calibrated(figures(list(idles.values()), "power_w"), figures(loads, "power_w"))
        if isinstance(shown, str):
            return shown
        calibration, factor = shown, shown.factor
    blocks, refused = [], Counter[str]()
    for load in loads:
        one = _block(load, idles.get(2 * load.repeat), idles.get(2 * load.repeat + 1), factor)
        if isinstance(one, Block):
            blocks.append(one)
        else:
            refused[one] += 1
    blocks, others = _of_one_meter(blocks)
    refused.update(others)
    tried = len({run.repeat for run in row.runs if run.purpose == "energy"})
    if len(blocks) < max(1, FEWEST * tried):
        reason, _ = refused.most_common(1)[0]
        return f"{sum(refused.values())} of {len(loads)} blocks are of no use: {reason}" if len(loads) > 1 else reason
    return blocks, calibration, refused


def _why_no_loads(row: Row, planned: Planned) -> str:
    if row.troubles("energy"):
        return why_none(row, "energy")
    if planned.energy == "off":
        return "energy: off"
    if planned.quick:
        return "a quick run measures no energy"
    return commonest(row.idles) or why_none(row, "energy")


def observer_effect(row: Row, loads: Sequence[Run]) -> str | None:
    """Why the metered runs are not the ones whose latency stands in the result, or None."""
    plain, metered = figures(row.counted("latency"), "p50"), figures(loads, "latency_ms")
    if not plain or not metered:
        return "there is no latency to compare the metered runs with"
    one, two = statistics.median(plain), statistics.median(metered)
    if one > 0 and abs(two / one - 1) <= max(AGREEMENT, ERRORS * _ratio_error(plain, metered)):
        return None
    change = f"{two / one - 1:+.1%}" if one > 0 else "much"
    return f"observer_effect: an inference takes {two:.4g} ms with the meter and {one:.4g} ms without ({change})"


def _ratio_error(one: Sequence[float], two: Sequence[float]) -> float:
    """Relative standard error of the ratio of two medians of independent runs; 0 where one side has a single run.

    That of a median is √(π/2) times that of the mean of normal values."""
    if min(len(one), len(two)) < 2:
        return 0.0
    return math.sqrt(math.pi / 2) * math.hypot(
        *((between_run_cv(side) or 0.0) / math.sqrt(len(side)) for side in (one, two))
    )


def _block(load: Run, before: Run | None, behind: Run | None, factor: float) -> Block | str:
    """The block, or why it tells nothing. `factor`: of a gauge's calibration."""
    if before is None or behind is None:
        return f"there is no usable idle window {'before' if before is None else 'behind'} it"
    if len({run.boot_id for run in (before, load, behind)}) > 1:
        return "the device rebooted within the block"
    windows = [_figures(run) for run in (before, load, behind)]
    if any(window is None for window in windows):
        return "a window lacks its figures"
    a, p, b = (window for window in windows if window is not None)
    try:
        sources = [Source.of(run.conditions) for run in (before, load, behind)]
    except RunnerError as error:
        return error.what
    if len({_meter(source) for source in sources}) > 1:
        return "its windows were measured by different meters or rails"
    inferences = number(load.summary.get("inferences")) or 0.0
    if inferences < 1:
        return "no inference lies in the window"
    power, first, last = (factor * window["power_w"] for window in (p, a, b))
    idle = (first + last) / 2
    net = power - idle
    if net <= 0:
        return f"the power under load is not above idle ({power:.3g} W, idle {idle:.3g} W)"
    if (change := abs(first - last) / net) > IDLE_CHANGE:
        return f"idle changed by {change:.0%} of the net power ({first:.3g} W before, {last:.3g} W behind)"
    # idle between the two windows: their own uncertainty, and a way from one to the other that nobody saw
    u_idle = math.hypot(a["u_power_w"], b["u_power_w"]) / 2 * abs(factor)
    u_w = math.hypot(p["u_power_w"] * abs(factor), u_idle, abs(first - last) / math.sqrt(12))
    each = p["seconds"] / inferences
    return Block(
        number=load.block, source=sources[1], net_j=net * each, gross_j=power * each, net_w=net, gross_w=power,
        idle_w=idle, u_j=u_w * each, u_w=u_w, seconds=p["seconds"], period_s=p["period_s"],
    )  # fmt: skip


def _figures(run: Run) -> Mapping[str, float] | None:
    found = {name: number(run.summary.get(name)) for name in ("power_w", "u_power_w", "seconds", "period_s")}
    return {name: value for name, value in found.items() if value is not None} if None not in found.values() else None


def _meter(source: Source) -> tuple[str, tuple[str, ...]]:
    return source.source, source.rails


def _of_one_meter(blocks: Sequence[Block]) -> tuple[list[Block], Counter[str]]:
    """Those of the commonest meter: rails, battery and wall are never mixed."""
    if not blocks:
        return [], Counter()
    meter, _ = Counter(_meter(block.source) for block in blocks).most_common(1)[0]
    kept = [block for block in blocks if _meter(block.source) == meter]
    others = len(blocks) - len(kept)
    return kept, Counter({"it was measured by another meter, or other rails": others} if others else {})


def _metric(
    name: str, blocks: Sequence[Block], calibration: Calibration | None, refused: Mapping[str, int]
) -> MetricObject:
    joules = name == "energy_j"
    net = [block.net_j if joules else block.net_w for block in blocks]
    gross = [block.gross_j if joules else block.gross_w for block in blocks]
    u_each = [block.u_j if joules else block.u_w for block in blocks]
    value, source = statistics.median(net), blocks[0].source
    u = math.hypot(math.hypot(*u_each) / len(blocks), statistics.median(gross) * source.uncertainty)
    ci95 = over_runs(net, value)
    if ci95 is not None:
        ci95 = covering((min(ci95[0], value - Z95 * u), max(ci95[1], value + Z95 * u)), value)
    more: dict[str, Any] = {
        "gross": statistics.median(gross),
        "idle_w": statistics.median(block.idle_w for block in blocks),
        "rails": list(source.rails),
        "period_s": statistics.median(block.period_s for block in blocks),
        "uncertainty": u / value,
        "windows": len(blocks),
        "seconds": statistics.median(block.seconds for block in blocks),
        "not_used": [{"reason": reason, "runs": count} for reason, count in refused.items()],
    }
    if calibration is not None:
        more["gauge"] = {"unit": calibration.unit, "sign": calibration.sign}
    return metric_object(name, value, ci95, source.source, **more)
