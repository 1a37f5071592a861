"""What the device's body does over time: temperature, clock steps, power and energy, as a list of short pieces.

One body with one time constant: dT/dt = (ambient + rise · P − T) / tau, solved exactly over each piece of constant
power. Pieces that lie ahead are those of a process that is running; behind the last one the device idles."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

from harness.sim.profiles import Profile

_PIECE_S, _IDLE_PIECE_S = 0.5, 5.0
_KEPT = 20_000  # pieces; older ones are forgotten by half
RESTLESS_S, RESTLESS_SHARE = 47.0, 0.8  # of a restless device: for so long more power, and as much, of the idle
CLOCK_POWER = 2.5  # power goes with the clock's so-manieth power


@dataclass(frozen=True, kw_only=True)
class State:
    """At one moment. `level`: steps below the highest clock. `energy_j`: since the beginning."""

    t: float
    temp_c: float
    level: int
    power_w: float
    energy_j: float


class Timeline:
    """States in order of time; between two of them the power is the former's."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        rest = profile.ambient_c + profile.rise_c_per_w * profile.idle_w
        warm = rest if profile.fixed_c is None else profile.fixed_c
        self._states = [State(t=0.0, temp_c=warm, level=self._stepped(0, warm), power_w=profile.idle_w, energy_j=0.0)]
        self._times = [0.0]

    def at(self, t: float) -> State:
        if t > self._times[-1]:
            self.extend(t, lambda level: self._profile.idle_w, _IDLE_PIECE_S)
        index = max(0, bisect_right(self._times, t) - 1)
        now = self._states[index]
        if index + 1 == len(self._states) or t <= now.t:
            return now
        return self._next(now, t, now.power_w)

    def extend(self, until: float, power_w: Callable[[int], float], piece_s: float = _PIECE_S) -> None:
        """Goes on to `until`, with the power that is drawn at each level; in at most so many pieces as are kept."""
        piece_s = max(piece_s, (until - self._times[-1]) / (_KEPT / 4))
        while (now := self._states[-1]).t < until - 1e-9:
            drawn = power_w(now.level) + self._background_w(now.t)
            if drawn != now.power_w:
                now = State(t=now.t, temp_c=now.temp_c, level=now.level, power_w=drawn, energy_j=now.energy_j)
                self._states[-1] = now
            self._append(self._next(now, min(until, now.t + piece_s), drawn))

    def _background_w(self, t: float) -> float:
        """Of a restless device: something else that comes and goes."""
        busy = self._profile.fault == "restless" and int(t / RESTLESS_S) % 2
        return RESTLESS_SHARE * self._profile.idle_w if busy else 0.0

    def begin(self, t: float) -> None:
        """Forgets what lay ahead of `t`: the process ends there, or another begins."""
        now = self.at(t)
        keep = bisect_right(self._times, t)
        del self._states[keep:], self._times[keep:]
        if self._times[-1] < t:
            self._append(now)

    def pieces(self, start: float, end: float) -> list[State]:
        """The states that hold between two moments, the first one at `start`."""
        inside = self._states[bisect_right(self._times, start) : bisect_right(self._times, end)]
        return [self.at(start), *inside]

    def _append(self, state: State) -> None:
        self._states.append(state)
        self._times.append(state.t)
        if len(self._times) > _KEPT:
            del self._states[: _KEPT // 2], self._times[: _KEPT // 2]

    def _next(self, now: State, t: float, power_w: float) -> State:
        p = self._profile
        dt = t - now.t
        goal = p.ambient_c + p.rise_c_per_w * power_w
        warm = goal + (now.temp_c - goal) * math.exp(-dt / p.tau_s) if p.fixed_c is None else p.fixed_c
        level = self._stepped(now.level, warm)
        return State(t=t, temp_c=warm, level=level, power_w=power_w, energy_j=now.energy_j + power_w * dt)

    def _stepped(self, level: int, temp_c: float) -> int:
        trips = self._profile.trips_c
        above = sum(temp_c > trip for trip in trips)
        below = sum(temp_c > trip - self._profile.hysteresis_c for trip in trips)
        return max(above, min(level, below))


def clock(profile: Profile, level: int) -> float:
    """The fastest cluster's clock at this level, as a fraction of its highest."""
    khz = max(profile.clusters, key=lambda cluster: cluster.speed).khz
    return khz[max(0, len(khz) - 1 - level)] / khz[-1]


def drawn_w(profile: Profile, level: int, load_w: float) -> float:
    """The power of a load that draws `load_w` at the highest clock."""
    return profile.idle_w + load_w * float(clock(profile, level) ** CLOCK_POWER)
