"""What a caveat means, and beside which number it stands."""

from __future__ import annotations

MEANING = {
    "noisy": "the repeats differ by more than 2 %; the interval is wider for it",
    "drift": "the latency moved during the run",
    "bimodal": "the latency has two levels; one number hides one of them",
    "freq_unstable": "the processor's clock changed during the run",
    "clock_unknown": "the processor's clock could not be read",
    "thermal_unknown": "no temperature could be read, so nothing waited for the device to cool",
    "sentinel_unknown": "no calibration kernel, or no known spread of it, told whether something disturbed the run",
    "cache_unknown": "whether the file was in the page cache is not known",
    "low_sqnr": "the output differs much from the model's, and no data was there to judge by",
    "suspect": "the figure contradicts another one",
}
_METRIC = {"cache_unknown": "cold_load_ms", "low_sqnr": "output_sqnr_db", "suspect": "peak_memory_bytes"}


def meaning(caveat: str) -> str:
    return MEANING.get(caveat, caveat.replace("_", " "))


def stands_by(caveat: str) -> str:
    """The metric that the caveat speaks of; unless known otherwise, it is about the latency."""
    return _METRIC.get(caveat, "latency_ms")
