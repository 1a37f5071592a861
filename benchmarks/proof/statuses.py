"""Point 5: a device that spoils its runs gives the named status and nothing that is ranked; a noisy one still gives a
front and a pick.

Three variants, the fastest of them the largest, so that all three belong on the front and the pick is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.proof.claims import Row, share
from benchmarks.proof.simulated import each, measured
from harness.analyze.results import document
from harness.sim.model import SimModel

#: profile -> how the reason of its results begins
SPOILED: Mapping[str, str] = {
    "phone-throttles": "throttled",
    "phone-sleeps": "suspended",
    "phone-capped": "capped",
    "phone-never-cools": "gate_timeout",
}
NOISY = ("phone-unrooted", "noisy-host", "recorded-host")
MODELS = {"fast": SimModel(latency_ms=2.0), "middle": SimModel(latency_ms=5.0), "slow": SimModel(latency_ms=8.0)}
SIZES = {"fast": 3000, "middle": 2000, "slow": 1000}


@dataclass(frozen=True, kw_only=True)
class Asked:
    profile: str
    seed: int


def session(asked: Asked) -> bool:
    """Whether what must come of this device came of it."""
    uri = f"sim://{asked.profile}?seed={asked.seed}"
    made, runs = measured(uri, MODELS, sizes=SIZES, pick={"minimize": "latency_ms"}, repeats=5, memory=False)
    found = document(made, runs, None, lambda spec, facts: spec.name)
    return _spoiled(found, SPOILED[asked.profile]) if asked.profile in SPOILED else _picked(found)


def _spoiled(found: Mapping[str, Any], reason: str) -> bool:
    named = all(r["status"] == "invalid" and reason in str(r["reason"]) for r in found["results"])
    return named and not found["front"] and found["pick"] is None


def _picked(found: Mapping[str, Any]) -> bool:
    on = {cell["variant"] for cell in found["front"]}
    return on == set(MODELS) and found["pick"] is not None and found["pick"]["variant"] == "fast"


def rows(seed: int, short: bool = False) -> list[Row]:
    trials = 1 if short else 20
    seeds = np.random.default_rng((seed, 9)).integers(0, 2**31 - 1, trials).tolist()
    profiles = (*SPOILED, *NOISY)
    tasks = [Asked(profile=profile, seed=s) for profile in profiles for s in seeds]
    found = np.array(each(session, tasks, alone=short)).reshape(len(profiles), trials)
    claims = [f"{profile}: invalid, {reason}; nothing is ranked" for profile, reason in SPOILED.items()]
    claims += [f"{profile}: the front and the pick" for profile in NOISY]
    # each trial is a whole session, and not one may go wrong: there is no chance in it to allow for
    return [share(5, c, int(held.sum()), trials, least=1.0) for c, held in zip(claims, found, strict=True)]
