"""`sim://PROFILE?seed=N&…`: which simulated device is meant, and what of it is set otherwise. Strict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.errors import UsageError
from harness.metrics import nearest
from harness.sim.profiles import PROFILES, Profile

#: what a gauge may do wrong; `none` is a sound one
FAULTS = ("none", "wrong_sign", "wrong_unit", "wraps", "missing_rail", "charging", "gaps", "restless")
#: name -> the least and the most that it may be; each is a field of Profile
NUMBERS: Mapping[str, tuple[float, float]] = {
    "run_sd": (0.0, 0.5),
    "within_sd": (0.0, 0.5),
    "rho": (0.0, 0.999),
    "spike_share": (0.0, 0.5),
    "spike_factor": (1.0, 100.0),
    "burst_every_s": (0.0, 1e6),
    "burst_s": (0.0, 1e4),
    "burst_factor": (1.0, 100.0),
    "drift": (-0.5, 1.0),
    "drift_minutes": (0.01, 1e4),
    "migration_share": (0.0, 1.0),
    "sentinel_sd": (0.0, 0.5),
    "ambient_c": (-20.0, 60.0),
    "rise_c_per_w": (0.0, 50.0),
    "tau_s": (0.5, 1e5),
    "idle_w": (0.0, 1e3),
    "load_w": (0.0, 1e3),
    "gauge_error": (0.0, 0.5),
    "drop_every": (0.0, 1e6),
    "samples": (10, 4096),
}
_MAX_SEED = 2**31 - 1
_PAIR = re.compile(r"([a-z_]{1,32})=([A-Za-z0-9_.+-]{1,32})")


@dataclass(frozen=True, kw_only=True)
class Address:
    """A simulated device: what it is like, and which of all possible courses of chance it takes."""

    uri: str
    profile: Profile
    seed: int = 0


def parse(uri: str) -> Address:
    """Raises UsageError that names what exists."""
    name, question, query = uri.removeprefix("sim://").partition("?")
    if name not in PROFILES:
        shown = f"{name[:80]!r}"
        raise UsageError(
            f"sim://: there is no profile {shown}", f"{nearest(name[:80], PROFILES)} (one of: {', '.join(PROFILES)})"
        )
    profile, seed, seen = PROFILES[name], 0, set()
    for text in query.split("&") if question else ():
        match = _PAIR.fullmatch(text)
        if match is None:
            raise UsageError(f"sim://{name}: {text[:80]!r} is not NAME=VALUE", f"sim://{name}?seed=0")
        key, value = match[1], match[2]
        if key in seen:
            raise UsageError(f"sim://{name}: {key} is given twice", "give it once")
        seen.add(key)
        if key == "seed":
            seed = int(_number(name, key, value, 0, _MAX_SEED, whole=True))
        else:
            other: Any = _value(name, key, value)
            profile = replace(profile, **{key: other})
    return Address(uri=uri, profile=profile, seed=seed)


def _value(name: str, key: str, text: str) -> float | int | str:
    if key == "fault":
        if text not in FAULTS:
            raise UsageError(f"sim://{name}: there is no fault {text!r}", f"one of: {', '.join(FAULTS)}")
        return text
    if key not in NUMBERS:
        there = ("seed", "fault", *NUMBERS)
        raise UsageError(f"sim://{name}: {key!r} cannot be set", f"{nearest(key, there)} (one of: {', '.join(there)})")
    low, high = NUMBERS[key]
    number = _number(name, key, text, low, high, whole=key == "samples")
    return int(number) if key == "samples" else number


def _number(name: str, key: str, text: str, low: float, high: float, whole: bool) -> float:
    try:
        number = float(int(text)) if whole else float(text)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        kind = "a whole number" if whole else "a number"
        raise UsageError(f"sim://{name}: {key}={text!r} is not {kind} of {low:g} to {high:g}", f"{key}={low:g}")
    return number
