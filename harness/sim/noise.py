"""The noise of latency: what a run, an iteration and the rest of the system do to a true time. All of it multiplies."""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from harness.sim.profiles import Profile

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Bursts:
    """Background work that comes and goes by a Poisson process of its own, whoever measures."""

    def __init__(self, profile: Profile, rng: np.random.Generator) -> None:
        self._profile, self._rng = profile, rng
        self._starts: list[float] = []
        self._next = float(rng.exponential(profile.burst_every_s)) if profile.burst_every_s else np.inf

    def factors(self, times_s: Floats) -> Floats:
        """How much longer everything takes at these moments (ascending)."""
        p = self._profile
        while self._next <= times_s[-1]:
            self._starts.append(self._next)
            self._next += p.burst_s + float(self._rng.exponential(p.burst_every_s))
        out = np.ones(len(times_s))
        first = max(0, bisect_right(self._starts, float(times_s[0]) - p.burst_s))
        for start in self._starts[first:]:
            out[(times_s >= start) & (times_s < start + p.burst_s)] = p.burst_factor
        return out


def run_effect(profile: Profile, rng: np.random.Generator, number: int) -> float:
    """The factor of a whole run; of a recorded device the trace's `number`th, from its end to its beginning again."""
    if profile.trace is not None:
        medians = recorded(profile.trace)["medians"]
        return float(medians[number % len(medians)])
    return float(np.exp(rng.normal(0.0, profile.run_sd)))


def within(profile: Profile, rng: np.random.Generator, count: int) -> Floats:
    """The factors of a run's iterations, median about 1."""
    if profile.trace is not None:
        samples = recorded(profile.trace)["samples"]
        start = int(rng.integers(len(samples)))
        return np.take(samples, np.arange(start, start + count), mode="wrap")
    out = np.exp(profile.within_sd * autocorrelated(rng, count, profile.rho))
    out[rng.random(count) < profile.spike_share] *= profile.spike_factor
    return np.asarray(out, np.float64)


def autocorrelated(rng: np.random.Generator, count: int, rho: float) -> Floats:
    """A stationary AR(1) of standard normal values: z[i] = rho z[i-1] + sqrt(1 - rho²) e[i]."""
    from scipy.signal import lfilter

    noise = rng.normal(size=count)
    noise[1:] *= np.sqrt(1 - rho * rho)
    return np.asarray(lfilter([1.0], [1.0, -rho], noise), np.float64)


def drift(profile: Profile, times_s: Floats) -> Floats:
    share = np.minimum(times_s / (60 * profile.drift_minutes), 1.0)
    return np.asarray(1.0 + profile.drift * share, np.float64)


def sentinel_effect(profile: Profile, rng: np.random.Generator, number: int, when: str) -> float:
    """The factor of the calibration kernel before or after a run; of a recorded device the trace's, if it has it."""
    found = {} if profile.trace is None else recorded(profile.trace)
    if (values := found.get(f"sentinel_{when}")) is not None:
        return float(values[number % len(values)])
    return float(np.exp(rng.normal(0.0, profile.sentinel_sd)))


@lru_cache(maxsize=4)
def recorded(name: str) -> dict[str, Floats]:
    """A trace of a real computer: `medians` of its runs and `samples` of one, each relative to its own median, and
    `sentinel_before`, `sentinel_after` of the runs, relative to that of both."""
    raw = json.loads((files("harness.sim") / "data" / f"{name}.json").read_text(encoding="utf-8"))
    found = {key: np.asarray(raw[f"{key}_ns"], np.float64) for key in ("medians", "samples")}
    out = {key: values / np.median(values) for key, values in found.items()}
    kernel = [key for key in ("sentinel_before", "sentinel_after") if raw.get(f"{key}_ns")]
    if kernel:
        middle = np.median(np.concatenate([raw[f"{key}_ns"] for key in kernel]))
        out |= {key: np.asarray(raw[f"{key}_ns"], np.float64) / middle for key in kernel}
    return out
