"""What became of a cell: its status, the reason, its caveats."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from harness.analyze.rows import Planned, Row
from harness.analyze.stats import DRIFT_LAG1, NOISY_CV, QUANTILES, between_run_cv, bimodal
from harness.types import ESSENTIAL, Run, Status

#: fewer steady repeats than this, or than half of those planned, are no result
FEWEST_REPEATS = 3


def commonest(runs: Iterable[Run]) -> str | None:
    """The reason that most of these runs give."""
    reasons = Counter(r.reason for r in runs if r.reason)
    return reasons.most_common(1)[0][0] if reasons else None


def verdict(row: Row, planned: Planned, finished: bool) -> tuple[Status, str | None]:
    """Status and reason of a planned cell; the first of these that applies.

    Build not ok: the build's. Skipped by the device: skipped. Wrong output, or a repeat that broke each time it was
    tried: failed. Repeats that were never steady: invalid, unless at least 3 and half of the planned ones stand
    (then ok, with the caveat `incomplete`). Repeats never tried: failed, "interrupted: n of m repeats"."""
    if row.build.status != "ok":
        return row.build.status, row.build.reason or "not built"
    if skipped := [r for r in row.runs if r.status == "skipped" and r.purpose in ESSENTIAL]:
        return "skipped", commonest(skipped) or "this device cannot run it"
    device = row.device
    facts = device.facts if device else None
    if not row.runs and facts and row.threads and row.threads > facts.cores:
        return "skipped", f"{row.threads} threads, the device has {facts.cores} cores"
    unreached = device.unreached if device else None
    if not facts:
        return "failed", f"device not reached: {unreached}" if unreached else "device not reached"
    if trouble := _check_trouble(row) or _broken(row, planned):
        return trouble
    if row.build.expected and not row.counted("check", "accuracy"):
        return "failed", _untried(row, planned, finished, unreached)
    if planned.memory and not row.counted("memory") and not row.troubles("memory"):
        return "failed", _untried(row, planned, finished, unreached)
    return _unsteady(row, planned, finished, unreached) or ("ok", None)


def _check_trouble(row: Row) -> tuple[Status, str | None] | None:
    troubles = row.troubles("check", "accuracy")
    if row.counted("check", "accuracy") and not any(r.counts for r in troubles):
        return None
    if failed := [r for r in troubles if r.status == "failed"]:
        return "failed", commonest(failed) or "the output check failed"
    return ("invalid", commonest(troubles) or "the output check could not be finished") if troubles else None


def _broken(row: Row, planned: Planned) -> tuple[Status, str | None] | None:
    """A repeat that failed each time it was tried. (After one, the others need not have been tried.)"""
    for purpose in ("memory", "latency"):
        done = {r.repeat for r in row.counted(purpose)}
        failed = [r for r in row.troubles(purpose) if r.status == "failed" and r.repeat not in done]
        if failed:
            reason = commonest(failed) or "the runner failed"
            count = f"{len({r.repeat for r in failed})} of {planned.repeats} {purpose} repeats failed"
            return "failed", f"{count}: {reason}" if done else reason
    return None


def _unsteady(row: Row, planned: Planned, finished: bool, unreached: str | None) -> tuple[Status, str | None] | None:
    """Latency repeats that are missing, though none of them failed."""
    done = {r.repeat for r in row.counted("latency")}
    missing = [repeat for repeat in range(planned.repeats) if repeat not in done]
    if not missing:
        return None
    troubles = [r for r in row.troubles("latency") if r.repeat in missing]
    if len({r.repeat for r in troubles}) < len(missing):
        return "failed", _untried(row, planned, finished, unreached)
    if len(done) >= max(FEWEST_REPEATS, planned.repeats / 2):
        return None
    reason = commonest(troubles) or "not usable"
    return "invalid", reason if not done else f"{len(missing)} of {planned.repeats} repeats: {reason}"


def _untried(row: Row, planned: Planned, finished: bool, unreached: str | None) -> str:
    done = len({r.repeat for r in row.counted("latency")})
    count = f"{done} of {planned.repeats} repeats"
    if unreached:
        return f"device lost after {count}: {unreached}"
    return f"not all was measured: {count}" if finished else f"interrupted: {count}"


def caveats(row: Row, planned: Planned) -> list[str]:
    """The build's and the counted runs' caveats, and those seen across the runs; in this order, once each.

    `noisy`: between-run CV > 2 %. `drift`: the runs' median lag-1 autocorrelation ≥ 0.8. `bimodal`: two modes in
    the quantiles of all runs pooled. `incomplete`: fewer usable repeats than planned. From the runs' surroundings
    (conditions.py): `freq_unstable`, `clock_unknown`, `thermal_unknown`, `sentinel_unknown`."""
    found = list(row.build.caveats)
    for run in row.runs:
        if run.counts and run.status == "ok":
            found += run.caveats
    latency = row.counted("latency")
    cv = between_run_cv(figures(latency, "p50"))
    if cv is not None and cv > NOISY_CV:
        found.append("noisy")
    correlations = figures(latency, "lag1")
    if correlations and statistics.median(correlations) >= DRIFT_LAG1:
        found.append("drift")
    pooled = [q for run in latency for q in run_quantiles(run)]
    if pooled and bimodal(pooled):
        found.append("bimodal")
    if 0 < len({r.repeat for r in latency}) < planned.repeats:
        found.append("incomplete")
    return list(dict.fromkeys(found))


def figures(runs: Sequence[Run], name: str) -> list[float]:
    """The named figure of each run's summary; runs that lack it, or hold none that is finite, are left out."""
    return [v for run in runs if (v := number(run.summary.get(name))) is not None]


def run_quantiles(run: Run) -> list[float]:
    """The 101 quantiles of a run's latency in ms; empty where its summary holds anything else."""
    found = run.summary.get("quantiles")
    values = np.asarray(found if isinstance(found, list | tuple) and len(found) == QUANTILES else ())
    return values.tolist() if values.ndim == 1 and values.dtype.kind == "f" and np.isfinite(values).all() else []


def number(value: Any) -> float | None:
    """A finite number, or None for anything else (stored texts come from a device)."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond float64
        return None
