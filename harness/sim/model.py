"""The truth of a file on a simulated device: what it says itself, or one that is made up from its size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

MAGIC = b"harness-sim-model\n"
_MAX_BYTES = 1 << 20
_KEYS = {"latency_ms", "power_w", "memory_bytes", "load_ms", "outputs", "name"}


@dataclass(frozen=True, kw_only=True)
class SimModel:
    """`latency_ms`: the median at the highest clock, one thread, fastest core. `power_w`: what it adds to the idle
    power (None: the profile's). `memory_bytes`: beyond what an empty process takes. `outputs`: dtype and shape of one
    call, answered with zeros. `name`: nothing but a difference between two files of one truth."""

    latency_ms: float
    power_w: float | None = None
    memory_bytes: int = 4_000_000
    load_ms: float = 3.0
    outputs: tuple[tuple[str, tuple[int, ...]], ...] = ()
    name: str = ""

    def content(self) -> bytes:
        """The file of such a model."""
        return MAGIC + json.dumps(asdict(self), sort_keys=True).encode() + b"\n"


@lru_cache(maxsize=4096)
def is_sim_model(path: Path) -> bool:
    """Whether the file says its own truth. Files are content-addressed: what one is never changes."""
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


@lru_cache(maxsize=4096)
def truth(path: Path) -> SimModel | None:
    """What the file says of itself; None for one of a real model. Raises ValueError where it says nonsense."""
    if not is_sim_model(path):
        return None
    with path.open("rb") as file:
        said = json.loads(file.read(_MAX_BYTES)[len(MAGIC) :])
    if not isinstance(said, Mapping) or not set(said) <= _KEYS:
        raise ValueError(f"keys other than {', '.join(sorted(_KEYS))}")
    return SimModel(
        latency_ms=_positive(said, "latency_ms", 1e6),
        power_w=None if said.get("power_w") is None else _positive(said, "power_w", 1e4),
        memory_bytes=int(_positive(said, "memory_bytes", 1e12, 4_000_000)),
        load_ms=_positive(said, "load_ms", 1e6, 3.0),
        outputs=tuple((str(dtype), tuple(int(n) for n in shape)) for dtype, shape in said.get("outputs", ())),
        name=str(said.get("name", ""))[:200],
    )


def _positive(said: Mapping[str, Any], key: str, most: float, default: float | None = None) -> float:
    value = said.get(key, default)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 < value < most:
        raise ValueError(f"{key} is {value!r}")
    return float(value)


def made_up(size_bytes: int) -> SimModel:
    """The truth of a real model's file: larger is slower and takes more memory. It stands for nothing."""
    return SimModel(
        latency_ms=0.2 + size_bytes / 400_000,
        memory_bytes=1_000_000 + 2 * size_bytes,
        load_ms=1.0 + size_bytes / 2_000_000,
    )
