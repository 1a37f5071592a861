"""One run on the simulated device, phase by phase: each draws power on the device's timeline, asks it which clock it
had, and tells a line. The samples follow from the truth, the clock and the noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.sim import noise
from harness.sim.command import Options
from harness.sim.heat import clock, drawn_w
from harness.sim.model import SimModel
from harness.sim.placement import Place
from harness.sim.world import UP_S, File, World

VERSION = "simulated"
EXEC_S, SENTINEL_S, WARMUP_S = 0.03, 0.1, 0.6
SENTINEL_NS, SENTINEL_ROUNDS = 4_500_000, 20
SLEEP_S, CAP_LEVEL = 20.0, 2
WARMUP_SAMPLES = 16
COLD = 3.0  # times as long as a load from the page cache


class Course:
    """`t`: the moment that the run has come to; `lines`: when each was written, and its text."""

    def __init__(self, world: World, asked: Options) -> None:
        self.world, self.profile, self.options = world, world.profile, asked
        self.t = self.began = world.t
        self.lines: list[tuple[float, bytes]] = []
        self.files: dict[str, File] = {}
        self.code = 0
        self.described: dict[str, Any] = {}
        self.rng = world.rng()
        self.number = world.started
        self.replayed = self.number + 7 * world.address.seed  # where in a trace another seed begins
        self.effect = noise.run_effect(self.profile, self.rng, self.replayed)
        self.model = SimModel(latency_ms=1.0)
        self.place = Place(cpus=(0,), speed=1.0, mask="0x1")

    def spend(self, seconds: float, load_w: float) -> None:
        self.world.timeline.extend(self.t + seconds, lambda level: drawn_w(self.profile, level, load_w))
        self.t += seconds

    def work(self, until: float) -> None:
        load_w = self.profile.load_w if self.model.power_w is None else self.model.power_w
        self.world.timeline.extend(until, lambda level: drawn_w(self.profile, level, load_w))

    def load(self, cold: bool = False) -> None:
        took = self.model.load_ms * (COLD if cold else 1.0) * float(np.exp(self.rng.normal(0, 0.05))) / 1e3
        self.spend(took, self.profile.load_w)
        self.line(
            "load",
            program_ns=ns_of(took / 4),
            method_ns=ns_of(took * 3 / 4),
            file_bytes=self.model.memory_bytes // 2,
            arenas_bytes=self.model.memory_bytes // 4,
            **self.described,
        )

    def first(self) -> None:
        took = 1.5 * self.expected_ms() * float(np.exp(self.rng.normal(0, 0.05))) / 1e3
        self.spend(took, self.profile.load_w)
        self.line("first", ns=ns_of(took), input_ns=1000)

    def sentinel(self, when: str) -> None:
        effect = noise.sentinel_effect(self.profile, self.rng, self.replayed, when)
        at = self.t + np.arange(SENTINEL_ROUNDS) * SENTINEL_S / SENTINEL_ROUNDS
        state = self.world.timeline.at(self.t)
        each = SENTINEL_NS * effect / clock(self.profile, state.level) * self.world.bursts.factors(at)
        each = each * np.exp(self.rng.normal(0, 0.003, SENTINEL_ROUNDS))
        self.spend(SENTINEL_S, self.profile.load_w)
        self.line("sentinel", when=when, samples_ns=each.astype(np.int64).tolist())

    def steady(self, seconds: float, count: int) -> float:
        """The steady phase; its mean in ms. A sleep falls into its middle, a cap of the clock on its second half."""
        start, slept = self.t, SLEEP_S if self.profile.sleeps else 0.0
        self.work(start + seconds / 2)
        if slept:
            self.world.timeline.extend(start + seconds / 2 + slept, lambda level: 0.05)
        self.work(start + seconds + slept)
        offsets = (np.arange(count) + 0.5) * seconds / count
        late = offsets > seconds / 2
        factors = self.factors_at(start + offsets + slept * late)
        if self.profile.capped:
            factors[late] /= clock(self.profile, CAP_LEVEL)
        if self.rng.random() < self.profile.migration_share and self.options.cpus == "any":
            slow = min(cluster.speed for cluster in self.profile.clusters)
            factors[: count // 5] /= slow / max(cluster.speed for cluster in self.profile.clusters)
        half = count // 2 or count
        self.block("steady", seconds * half / count, factors[:half], slept=slept)
        if count > half:
            self.block("steady", seconds * (count - half) / count, factors[half:])
        self.clocks("after", since=start, capped_from=start + seconds / 2 if self.profile.capped else None)
        self.placement(count)
        return float(self.nanoseconds(factors).mean()) / 1e6

    def block(self, phase: str, seconds: float, factors: noise.Floats, slept: float = 0.0) -> None:
        """A block's line; the time that it took has been, or is now, spent."""
        if phase == "warmup":
            self.work(self.t + seconds)
        ns = self.nanoseconds(factors)
        start, mono = self.t, self.t - self.world.slept_s
        self.t += seconds + slept
        self.world.slept_s += slept
        for first in range(0, len(ns), 4096):
            part = ns[first : first + 4096]
            share = (first / len(ns), (first + len(part)) / len(ns))
            last = first + len(part) == len(ns)
            self.line(
                "block",
                phase=phase,
                start_ns=ns_of(mono + share[0] * seconds),
                end_ns=ns_of(mono + share[1] * seconds),
                start_boottime_ns=ns_of(start + share[0] * seconds),
                end_boottime_ns=ns_of(start + share[1] * seconds + (slept if last else 0.0)),
                samples_ns=part.tolist(),
                input_ns=[500] * len(part),
            )

    def factors(self, count: int, start: float, seconds: float) -> noise.Floats:
        return self.factors_at(start + np.arange(count) * seconds / count)

    def factors_at(self, times: noise.Floats) -> noise.Floats:
        """What everything but the truth makes of the latency at these moments."""
        pieces = self.world.timeline.pieces(float(times[0]), float(times[-1]))
        index = np.searchsorted([piece.t for piece in pieces[1:]], times, side="right")
        speed = np.asarray([clock(self.profile, piece.level) for piece in pieces])[index]
        out = self.effect * noise.within(self.profile, self.rng, len(times)) / speed
        return np.asarray(out * noise.drift(self.profile, times - UP_S) * self.world.bursts.factors(times), np.float64)

    def nanoseconds(self, factors: noise.Floats) -> np.ndarray[Any, Any]:
        return np.maximum(1, self.model.latency_ms * 1e6 / self.place.speed * factors).astype(np.int64)

    def expected_ms(self) -> float:
        level = self.world.timeline.at(self.t).level
        return self.model.latency_ms / self.place.speed * self.effect / clock(self.profile, level)

    # -- its lines -----------------------------------------------------------------------------------------------

    def line(self, kind: str, **keys: Any) -> None:
        said = {"type": kind, "seq": len(self.lines), "t_ns": ns_of(self.t), **keys}
        self.lines.append((self.t, json.dumps(said, separators=(",", ":")).encode() + b"\n"))

    def start_line(self) -> None:
        o = self.options
        self.line(
            "start", schema=1, run=o.run, purpose=o.purpose, runtime=o.runtime, version=VERSION, backends=["simulated"],
            threads_requested=o.threads, threads=o.threads, cpu_mask=self.place.mask, clock="CLOCK_MONOTONIC_RAW",
            loader="mmap", locked="none", pid=1000 + self.number, boot_id=self.world.boot_id, page_size=4096,
            loop_overhead_ns=50, exec_to_main_ns=ns_of(EXEC_S),
        )  # fmt: skip

    def memory(self, phase: str, resident: int, mapped: int) -> None:
        self.line(
            "memory", phase=phase, vm_rss=resident, vm_hwm=resident, vm_swap=0, rss_anon=resident - mapped,
            rss_file=mapped, model_mapped=mapped,
        )  # fmt: skip

    def window(self, start: float, inferences: int) -> None:
        self.line("window", start_boottime_ns=ns_of(start), end_boottime_ns=ns_of(self.t), inferences=inferences)

    def clocks(self, when: str, since: float | None = None, capped_from: float | None = None) -> None:
        """`since`: when the phase began that ends here, for the time in each clock."""
        level = self.world.timeline.at(self.t).level
        level = level if capped_from is None else max(level, CAP_LEVEL)
        spent = {} if since is None else self.residency(since, capped_from)
        policies = self.policies(level)
        for policy, cluster in zip(policies, self.profile.clusters, strict=False):
            khz = cluster.khz
            ticks = dict.fromkeys(khz, 0) | {khz[0]: round(100 * self.began)}  # it idled before
            for at, seconds in spent.items():
                ticks[step(khz, at)] += round(100 * seconds)
            policy["time_in_state"] = [[k, n] for k, n in ticks.items()]
        self.line("clocks", when=when, policies=policies)

    def residency(self, since: float, capped_from: float | None) -> dict[int, float]:
        """Level -> seconds at it, from `since` to now."""
        pieces = self.world.timeline.pieces(since, self.t)
        ends = [*(piece.t for piece in pieces[1:]), self.t]
        out: dict[int, float] = {}
        for piece, end in zip(pieces, ends, strict=True):
            capped = capped_from is not None and piece.t >= capped_from
            level = max(piece.level, CAP_LEVEL if capped else 0)
            out[level] = out.get(level, 0.0) + end - piece.t
        return out

    def policies(self, level: int) -> list[dict[str, Any]]:
        if not self.profile.clocks_readable:
            return []
        return [
            {
                "policy": f"policy{cluster.cpus[0]}", "cpus": list(cluster.cpus),
                "cur_khz": step(cluster.khz, level), "min_khz": cluster.khz[0], "max_khz": step(cluster.khz, level),
                "hardware_max_khz": cluster.khz[-1],
            }
            for cluster in self.profile.clusters
        ]  # fmt: skip

    def placement(self, count: int) -> None:
        each = count // len(self.place.cpus) or 1
        counts = {str(cpu): each for cpu in self.place.cpus}
        self.line("placement", cpus_allowed=self.place.mask, cgroup="0::/", cpu_counts=counts)

    def zones(self, t: float) -> dict[str, int]:
        return {"body": round(self.world.timeline.at(t).temp_c * 1000)} if self.profile.zones_readable else {}

    def refuse(self, stage: str, kind: str, message: str) -> None:
        self.code = self.code or 4
        self.line("error", stage=stage, **{"class": kind}, message=message)
        self.line("end", status="error", blocks=0, samples=0)

    def end(self, samples: int = 0, ended_by: str | None = None, switches: bool = False) -> None:
        blocks = sum(b'"type":"block"' in line for _, line in self.lines)
        more: dict[str, Any] = {} if ended_by is None else {"ended_by": ended_by}
        if switches:
            more |= dict(involuntary_switches=2, voluntary_switches=1, major_faults=0, minor_faults=3)
        self.line("end", status="ok", blocks=blocks, samples=samples, **more)


def step(khz: Sequence[int], level: int) -> int:
    return khz[max(0, len(khz) - 1 - level)]


def ns_of(seconds: float) -> int:
    return round(seconds * 1e9)
