"""What the native runner would do on the simulated device: its whole course at once, by purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from harness.sim import host
from harness.sim.command import options
from harness.sim.course import EXEC_S, WARMUP_S, WARMUP_SAMPLES, Course, ns_of
from harness.sim.model import is_sim_model, made_up, truth
from harness.sim.placement import place
from harness.sim.world import File, Process, World
from harness.types import TensorSpec

#: purposes whose answers a real model must compute, and how long the device is said to take
COMPUTED, COMPUTED_S = ("check", "accuracy", "profile"), 2.0
BASE_BYTES = 12_000_000  # an empty process
_SLOW_MS = 1000.0  # above it ten iterations are enough
_KEPT_OF_INTERVAL = 8


def begin(world: World, argv: Sequence[str]) -> Process:
    """The process, its end and its lines already known."""
    asked = options(argv)
    model = world.files.get(asked.model)
    file = None if model is None else model.local
    real = file is not None and not is_sim_model(file)
    if real and asked.purpose in COMPUTED and (computed := host.compute(world, argv, COMPUTED_S)) is not None:
        return computed
    if real and file not in world.sound:  # a damaged file is as bad there as anywhere
        found = host.loaded(world, argv)
        if found is not None and found.exit_code != 0:
            return found
        world.sound[file] = {} if found is None else host.described(found)
    run = _Run(world, asked)
    if real and asked.purpose == "load" and not asked.inputs:
        run.described = world.sound[file]
    run.go()
    return Process(
        argv=argv, start_t=world.t, end_t=run.t, exit_code=run.code, lines=run.lines, files=run.files, runner=True
    )


class _Run(Course):
    def go(self) -> None:
        self.world.timeline.begin(self.t)
        purpose = self.options.purpose
        if any(p.runner and self.world.running(p) for p in self.world.processes.values()):
            return self.refuse("lock", "busy", "another runner holds the lock")
        found = place(self.profile, self.options.cpus, self.options.threads, self.rng)
        if found is None:
            self.code = 2
            return self.refuse("usage", "threads", f"{self.options.threads} threads are more than the CPUs allowed")
        self.place = found
        if purpose not in ("idle", "sentinel") and not self.find_model():
            return
        serve = getattr(self, f"serve_{purpose}", None)
        if serve is None:
            self.code = 2
            return self.refuse("usage", "usage", f"a simulated model has no {purpose}")
        self.spend(EXEC_S, self.profile.load_w)
        self.start_line()
        serve()

    def find_model(self) -> bool:
        file = self.world.files.get(self.options.model)
        if file is None or file.local is None:
            self.code = 2
            self.refuse("usage", "no_file", f"{self.options.model}: no such file")
            return False
        try:
            self.model = truth(file.local) or made_up(file.local.stat().st_size)
        except (OSError, ValueError, TypeError) as error:
            self.code = 3
            self.refuse("load", "corrupt", f"no simulated model: {error}")
            return False
        return True

    def serve_sentinel(self) -> None:
        self.sentinel("before")
        self.sentinel("after")
        self.end()

    def serve_check(self) -> None:
        """Zeros, as many calls as the inputs hold; of a real model whose runner is not here there is no answer."""
        self.load()
        self.first()
        calls = self.calls()
        for index, (dtype, shape) in enumerate(self.model.outputs):
            spec = TensorSpec(dtype=dtype, shape=shape)
            data = bytes(spec.call_bytes * calls)
            self.files[f"out/{index}.bin"] = File(data=data)
            digest = hashlib.sha256(data).hexdigest()
            self.line("output", index=index, dtype=dtype, shape=list(shape), samples=calls, sha256=digest)
        self.end()

    serve_accuracy = serve_check

    def calls(self) -> int:
        """How many calls the first input's file holds."""
        if not self.options.inputs:
            return 1
        _, dtype, shape, path = self.options.inputs[0].split(":", 3)
        size = TensorSpec(dtype=dtype, shape=tuple(int(n) for n in shape.split(",") if n)).call_bytes
        file = self.world.files[path]
        return max(1, (file.local.stat().st_size if file.local else len(file.data)) // max(1, size))

    def serve_load(self) -> None:
        if self.options.drop_cache:
            pages = max(1, self.model.memory_bytes // 4096)
            self.line("cache", resident_pages_before=pages, resident_pages_after=0, pages=pages, dropped=True)
        self.load(cold=self.options.drop_cache)
        if self.options.inputs:
            self.first()
        self.end()

    def serve_memory(self) -> None:
        base = BASE_BYTES + 4096 * int(self.rng.integers(-8, 9))
        whole, weights = self.model.memory_bytes, self.model.memory_bytes // 2
        self.memory("start", base, 0)
        self.memory("program", base + whole // 8, 0)
        self.load()
        self.memory("method", base + weights, weights // 2)
        self.first()
        self.memory("first", base + whole, weights // 2)
        self.memory("steady", base + whole, weights // 2)
        self.line("memory", phase="peak", vm_hwm=base + whole, peak_bytes=base + whole)
        self.end()

    def serve_latency(self) -> None:
        o = self.options
        self.load()
        self.first()
        self.sentinel("before")
        self.block("warmup", WARMUP_S, self.factors(WARMUP_SAMPLES, self.t, WARMUP_S))
        each_ms = self.expected_ms()
        least = min(o.min_iterations, 10) if each_ms > _SLOW_MS else o.min_iterations
        seconds = max(o.min_seconds, least * each_ms / 1000)
        count = max(least, min(self.profile.samples, int(seconds * 1000 / each_ms)))
        self.clocks("before")
        self.steady(seconds, count)
        self.sentinel("after")
        self.end(samples=count, ended_by="enough", switches=True)

    def serve_energy(self) -> None:
        self.load()
        self.first()
        self.block("warmup", WARMUP_S, self.factors(WARMUP_SAMPLES, self.t, WARMUP_S))
        each_ms = self.expected_ms()
        seconds = max(self.options.seconds, 10 * each_ms / 1000)
        count = max(10, min(self.profile.samples, int(seconds * 1000 / each_ms)))
        start = self.t
        mean_ms = self.steady(seconds, count)
        self.window(start, int(seconds * 1000 / mean_ms))
        self.end(samples=count, ended_by="enough")

    def serve_idle(self) -> None:
        start = self.t
        self.world.timeline.extend(start + self.options.seconds, lambda level: self.profile.idle_w, 5.0)
        self.t = start + self.options.seconds
        self.window(start, 0)
        self.end()

    def serve_sustained(self) -> None:
        self.load()
        self.first()
        self.sentinel("before")
        self.clocks("before")
        each_ms = self.expected_ms()
        length = max(1.0, each_ms / 1000)
        intervals = max(1, round(self.options.seconds / length))
        kept = max(1, min(_KEPT_OF_INTERVAL, int(length * 1000 / each_ms)))
        start = self.t
        self.work(start + intervals * length)
        times = start + np.add.outer(np.arange(intervals) * length, np.arange(kept) * each_ms / 1e3)
        ns = self.nanoseconds(self.factors_at(times.ravel())).reshape(intervals, kept)
        total = 0
        for index, row in enumerate(ns):
            self.t = start + (index + 1) * length
            count = max(1, int(length * 1e9 / row.mean()))
            total += count
            level = self.world.timeline.at(self.t).level
            self.line(
                "interval",
                index=index,
                start_boottime_ns=ns_of(start + index * length),
                end_boottime_ns=ns_of(self.t),
                iterations=count,
                samples_ns=row.tolist(),
                sum_ns=int(row.mean() * count),
                min_ns=int(row.min()),
                max_ns=int(row.max()),
                zones_mc=self.zones(self.t),
                clocks_khz={policy["policy"]: policy["cur_khz"] for policy in self.policies(level)},
            )
        self.clocks("after", since=start)
        self.placement(total)
        self.sentinel("after")
        self.end(samples=total)
