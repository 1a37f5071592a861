"""Made-up readings of meters with a known truth, and runs around them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.analyze import energy
from harness.interfaces import EnergyTrace
from harness.measure.energy import with_trace
from harness.types import NULL_VARIANT, Build, Run, SessionDevice
from tests.session_kit import run as made_run

Floats = NDArray[np.float64]
START_S, SECONDS = 1000.0, 30.0
NS = 1_000_000_000


def window(seconds: float = SECONDS, inferences: int = 3000) -> dict[str, int]:
    start, end = round(START_S * NS), round((START_S + seconds) * NS)
    return {"start_boottime_ns": start, "end_boottime_ns": end, "inferences": inferences}


def stamps(period_s: float, seconds: float = SECONDS, phase: float = 0.3) -> Floats:
    """From 2 s before the window to 2 s behind it."""
    return np.arange(START_S - 2.0 + phase * period_s, START_S + seconds + 2.0, period_s)


def counter(
    watts: Sequence[float], period_s: float = 0.2, update_s: float = 0.001, phase: float = 0.3,
    seconds: float = SECONDS, range_j: float | None = None, start_j: float = 5.0, **more: Any,
) -> EnergyTrace:  # fmt: skip
    """Counters that are updated every `update_s`, read every `period_s`, stamped to 0.01 s; one for each of `watts`."""
    t = stamps(period_s, seconds, phase)
    updated = np.floor(t / update_s) * update_s - t[0]
    joules = start_j + np.outer(updated, watts)
    joules = joules if range_j is None else joules % range_j
    given: dict[str, Any] = {"uncertainty": 0.0, "clock_s": 0.01, "period_s": period_s, "clock": "read"}
    return EnergyTrace(
        kind="counter", rails=tuple(f"rail-{i}" for i in range(len(watts))), t_s=tuple(np.floor(t * 100) / 100),
        values=tuple(joules.reshape(-1)), range_j=(range_j,) * len(watts), **(given | more),
    )  # fmt: skip


def power(
    watts: float, sd_w: float = 0.05, rho: float = 0.0, seed: int = 0, period_s: float = 0.25,
    seconds: float = SECONDS, change: Callable[[Floats, Floats], tuple[Floats, Floats]] | None = None, **more: Any,
) -> EnergyTrace:  # fmt: skip
    """Sampled power with first-order autoregressive noise. `change(t, w)` has the last word."""
    t, rng = stamps(period_s, seconds), np.random.default_rng(seed)
    noise = rng.normal(0, sd_w, t.size)
    for i in range(1, t.size):
        noise[i] = rho * noise[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    t, w = (t, watts + noise) if change is None else change(t, watts + noise)
    given: dict[str, Any] = {"uncertainty": 0.0, "clock_s": 0.01, "period_s": period_s, "clock": "read"}
    return EnergyTrace(kind="power", rails=("supply",), t_s=tuple(t), values=tuple(w), **(given | more))


def run(b: Build, on: SessionDevice, purpose: str, repeat: int, trace: EnergyTrace, **more: Any) -> Run:
    """A run as it is stored, with its readings and its window."""
    wanted = more.pop("window", window(inferences=0 if purpose == "idle" else 3000))
    arrays = {} if purpose == "idle" else {"latency_ns": np.full(200, more.pop("latency_ms", 1.0) * 1e6)}
    found = made_run(b, on, purpose, repeat, arrays=arrays, conditions={"window": [wanted]}, boot_id="boot", **more)
    return with_trace(found, "made", trace)


def summarised(found: Run) -> Run:
    return dataclasses.replace(found, summary=energy.window(found))


def nobody() -> Build:
    return Build(variant=NULL_VARIANT, seed=0, exporter="executorch", backend="", input="default", status="ok")
