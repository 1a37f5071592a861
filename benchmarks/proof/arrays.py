"""A device made of random numbers, whose true latency is known: the model of MEASUREMENT section 9.

A sample = truth × run effect × drift × exp(noise). The noise within a run is an autoregression of first order; a share
of the samples are spikes. What varies from run to run is log-normal: its median is the truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Noise:
    """`run_sd`, `sample_sd`: of the logarithm. `rho`: lag-1 autocorrelation. `spikes`: share of samples × `spike`."""

    run_sd: float = 0.015
    sample_sd: float = 0.03
    rho: float = 0.5
    spikes: float = 0.02
    spike: float = 1.5
    iterations: int = 200

    @property
    def median(self) -> float:
        """True median of a sample of a device whose latency is 1: spikes lie above it and move its rank."""
        from scipy.special import ndtri

        return math.exp(self.sample_sd * float(ndtri(0.5 / (1 - self.spikes))))


def samples(truth: Floats, noise: Noise, rng: np.random.Generator) -> Floats:
    """(…, iterations) in the unit of `truth` (…), which is each run's own, drift included."""
    from scipy.signal import lfilter

    shape = (*truth.shape, noise.iterations)
    steps = rng.standard_normal(shape)
    steps[..., 1:] *= math.sqrt(1 - noise.rho**2)
    z = lfilter([1.0], [1.0, -noise.rho], steps, axis=-1)
    spiked = np.where(rng.random(shape) < noise.spikes, noise.spike, 1.0)
    effect = truth * np.exp(noise.run_sd * rng.standard_normal(truth.shape))
    out: Floats = effect[..., None] * np.exp(noise.sample_sd * z) * spiked
    return out


def drift(size: float, slots: int) -> Floats:
    """(slots,) a factor that grows by `size` from the first run of a session to its last."""
    return 1 + size * np.linspace(0.0, 1.0, slots)
