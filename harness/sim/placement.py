"""Which CPUs a simulated process gets, and how fast it is there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.sim.profiles import Profile

SCALING = 0.85  # of a model over threads: n threads are n ** SCALING times as fast


@dataclass(frozen=True, kw_only=True)
class Place:
    """`mask`: the CPUs that are allowed. `cpus`: those that it runs on. `speed`: relative to one fastest core."""

    cpus: tuple[int, ...]
    speed: float
    mask: str


def place(profile: Profile, cpus: str, threads: int, rng: np.random.Generator) -> Place | None:
    """None where there are more threads than CPUs. The scheduler takes the fastest that are allowed."""
    speeds = {cpu: cluster.speed for cluster in profile.clusters for cpu in cluster.cpus}
    mask = sum(1 << cpu for cpu in speeds) if cpus == "any" else int(cpus, 16)
    allowed = sorted((cpu for cpu in speeds if mask >> cpu & 1), key=lambda cpu: -speeds[cpu])
    if not 1 <= threads <= len(allowed):
        return None
    taken = tuple(sorted(allowed[:threads]))
    speed = sum(speeds[cpu] for cpu in taken) / threads * threads**SCALING
    return Place(cpus=taken, speed=speed, mask=hex(sum(1 << cpu for cpu in allowed)))
