"""What measuring with the native runner costs: one command, three answers, every pair printed.

    python benchmarks/runner_cost.py [--pairs N] [--seed N] [--quick]

(a) the loop:    ns that the loop adds to an iteration, with the null runtime (target: <= 1000)
(b) the latency: the runner's p50 against a bare loop's (bare_loop.cpp, which shares no code with it), as the geometric
                 mean of the ratios of process pairs, in random order within each pair, with the 95 % t-interval of the
                 log ratios (target: lower end <= 1.00, upper end <= 1.03); for the demo's size and for >= 3 ms
(c) the memory:  the runner's peak against ExecuTorch's Python runtime's (target: <= 0.1)

Needs the extra `compress` and a C++ compiler. Leave the machine alone while it runs. Exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.devices import runners

PYTHON_RUNTIME = """
import sys, torch
from executorch.runtime import Runtime
torch.set_num_threads(1)
method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
x = torch.zeros([int(n) for n in sys.argv[2].split(",")])
for _ in range(21):
    method.execute([x])
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""


@dataclass(frozen=True)
class Model:
    """An exported model and its one input. `warmup`, `iterations`: what either loop runs."""

    name: str
    file: Path
    input: Path
    shape: tuple[int, ...]
    warmup: int = 0
    iterations: int = 0

    @property
    def sizes(self) -> str:
        return ",".join(map(str, self.shape))


def export(folder: Path) -> list[Model]:
    """fp32 .pte files through XNNPACK: the demo's network untrained (weights do not change the time), and a larger."""
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from torch import nn

    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip
    layers: list[nn.Module] = []
    for ins, outs in ((3, 32), (32, 64), (64, 64), (64, 64), (64, 64)):
        layers += [nn.Conv2d(ins, outs, 3, padding=1), nn.ReLU()]
    large = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    made: list[Model] = []
    for name, net, shape in (("demo fp32", small, (1, 1, 28, 28)), (">= 3 ms", large, (1, 3, 64, 64))):
        x = torch.randn(shape)
        program = torch.export.export(net.eval(), (x,))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
        file, data = folder / f"{len(made)}.pte", folder / f"{len(made)}.bin"
        file.write_bytes(lowered.buffer)
        data.write_bytes(x.numpy().tobytes())
        made.append(Model(name, file, data, shape))
    return made


def lines_of(argv: list[str]) -> list[dict[str, Any]]:
    done = subprocess.run(argv, capture_output=True, timeout=600, check=False)
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode != 0:
        sys.exit(f"{argv[0]} failed: {lines[-2:]}")
    return lines


def runner_argv(binary: Path, model: Model, purpose: str) -> list[str]:
    given = f"0:float32:{model.sizes}:{model.input}"
    return [str(binary), "--purpose", purpose, "--model", str(model.file), "--input", given]


def samples(lines: list[dict[str, Any]], phase: str) -> list[int]:
    return [ns for line in lines if line["type"] == "block" and line["phase"] == phase for ns in line["samples_ns"]]


def runner_p50_ns(binary: Path, model: Model) -> float:
    argv = [*runner_argv(binary, model, "latency"), "--min-seconds", "0", "--min-iterations", str(model.iterations)]
    return statistics.median(samples(lines_of(argv), "steady"))


def bare_p50_ns(bare: Path, model: Model) -> float:
    argv = [str(bare), str(model.file), str(model.input), model.sizes, str(model.warmup), str(model.iterations)]
    return float(subprocess.run(argv, capture_output=True, timeout=600, check=True).stdout)


def same_amount(binary: Path, model: Model, seconds: float) -> Model:
    """How many iterations either loop gets: `seconds` of them, after as many as the runner's warm-up takes."""
    lines = lines_of([*runner_argv(binary, model, "latency"), "--min-seconds", "0.2", "--min-iterations", "20"])
    p50_ns = statistics.median(samples(lines, "steady"))
    warmup, iterations = len(samples(lines, "warmup")) + 1, max(100, round(seconds * 1e9 / p50_ns))
    return Model(model.name, model.file, model.input, model.shape, warmup, iterations)


def loop_cost(folder: Path) -> bool:
    null = runners.ensure("null", runners.host_target()).binary
    (folder / "nothing").write_bytes(b"0")
    argv = [str(null), "--purpose", "latency", "--model", str(folder / "nothing")]
    lines = lines_of([*argv, "--min-seconds", "0", "--min-iterations", "100000"])
    steady = [line for line in lines if line["type"] == "block" and line["phase"] == "steady"]
    whole = statistics.median([float(b["end_ns"] - b["start_ns"]) / len(b["samples_ns"]) for b in steady])
    timed = samples(lines, "steady")
    print("(a) the loop around a model that does nothing")
    print(f"    median of {len(timed)} timed regions: {statistics.median(timed):.0f} ns")
    print(f"    a whole iteration, median of {len(steady)} blocks: {whole:.0f} ns (target <= 1000)")
    print(f"    as each run's start line says it: {lines[0]['loop_overhead_ns']:.0f} ns")
    return whole <= 1000


def latency_cost(runner: Path, bare: Path, model: Model, pairs: int, rng: random.Random) -> bool:
    print(f"(b) {model.name}: {model.warmup} warm-up and {model.iterations} timed iterations in either process")
    logs = []
    for pair in range(pairs):
        order = ["runner", "bare"]
        rng.shuffle(order)
        p50 = {who: runner_p50_ns(runner, model) if who == "runner" else bare_p50_ns(bare, model) for who in order}
        logs.append(math.log(p50["runner"] / p50["bare"]))
        figures = (
            f"runner {p50['runner'] / 1e3:9.2f} us  bare {p50['bare'] / 1e3:9.2f} us  ratio {math.exp(logs[-1]):.4f}"
        )
        print(f"    pair {pair + 1:3d}  {order[0]:>6} first  {figures}", flush=True)
    low, mean, high = interval(logs)
    print(f"    {len(logs)} pairs: ratio {mean:.4f}, 95 % interval {low:.4f} to {high:.4f} (target: <= 1.00, <= 1.03)")
    return low <= 1.0 and high <= 1.03


def interval(logs: list[float]) -> tuple[float, float, float]:
    """Geometric mean of the ratios and the 95 % t-interval of their logarithms."""
    from scipy import stats

    mean = statistics.fmean(logs)
    half = float(stats.t.ppf(0.975, len(logs) - 1)) * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean - half), math.exp(mean), math.exp(mean + half)


def memory_cost(runner: Path, model: Model) -> bool:
    peaks = [line["peak_bytes"] for line in lines_of(runner_argv(runner, model, "memory")) if "peak_bytes" in line]
    argv = [sys.executable, "-c", PYTHON_RUNTIME, str(model.file), model.sizes]
    python = int(subprocess.run(argv, capture_output=True, timeout=600, check=True).stdout.split()[-1])
    ratio = float(peaks[0]) / python
    print(f"(c) {model.name}: peak memory {peaks[0] / 1e6:.1f} MB, Python runtime {python / 1e6:.1f} MB", end="")
    print(f", ratio {ratio:.4f} (target <= 0.1)")
    return ratio <= 0.1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60, help="process pairs for each model (>= 2)")
    parser.add_argument("--seed", type=int, default=None, help="of the order within the pairs")
    parser.add_argument("--quick", action="store_true", help="5 pairs: does it work, not how much")
    options = parser.parse_args()
    # many short pairs beat few long ones: the two halves of a pair then see the same machine
    pairs, seconds = 5 if options.quick else max(2, options.pairs), 0.3
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    rng = random.Random(seed)
    runner = runners.ensure("executorch", runners.host_target(), print).binary
    with tempfile.TemporaryDirectory(prefix="runner-cost-") as scratch:
        folder = Path(scratch)
        bare = folder / "bare_loop"
        source = Path(__file__).with_name("bare_loop.cpp")
        runners.compile_program(runners.RUNTIMES["executorch"], [source], bare, print)
        models = export(folder)
        print(f"seed {seed}")
        met = [loop_cost(folder)]
        timed = [same_amount(runner, model, seconds) for model in models]
        met += [latency_cost(runner, bare, model, pairs, rng) for model in timed]
        met += [memory_cost(runner, model) for model in models]
    print("every target met" if all(met) else "a target was missed")
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
