"""Whether each technique keeps the accuracy it should, on the demo's task: by the device, on all 1,000 test images.

    python benchmarks/quality.py [--seeds 0,1,2,3] [--repeats N] [--device D]

Runs the variants of configs/compression-tour.yaml that are named in TARGETS once per seed. "Within X points" means
that the paired 95 % interval of the drop does not lie wholly above X and that the drop itself is at most X + 0.3. The
control column is the drop against the reference that was trained on for as many epochs. A target holds if it does for
the first seed and for all of the others but one. Sizes are against fp32, zstd sizes against fp32 under zstd 19;
int8 by training is compared with int8 without. Exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

TOUR = Path(__file__).resolve().parent.parent / "configs" / "compression-tour.yaml"
SLACK = 0.3  # points


@dataclass(frozen=True, kw_only=True)
class Target:
    """`points`: the largest drop. `of`: what it is against. `ratios`: metric -> largest share of fp32's."""

    points: float
    of: str = "fp32"
    ratios: Mapping[str, float] = field(default_factory=dict)


TARGETS = {
    "prune80": Target(points=0.5, ratios={"compressed_bytes": 0.3}),
    "slim50": Target(points=1.0, ratios={"latency_ms": 0.45}),
    "int8": Target(points=0.5, ratios={"size_bytes": 0.28}),
    "qat": Target(points=0.3, of="int8"),
    "tucker": Target(points=0.5, ratios={"parameters": 0.55}),
    "student-int8": Target(points=1.0, ratios={"size_bytes": 0.08}),
    "cluster16": Target(points=0.5, ratios={"compressed_bytes": 0.2}),
}


def config(seeds: Sequence[int], repeats: int) -> dict[str, Any]:
    """The tour's experiment with these variants and seeds alone."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(TOUR)
    kept = [v for v in found["variants"] if v.get("name") in ("fp32", *TARGETS)]
    missing = set(TARGETS) - {v["name"] for v in kept}
    if missing:
        sys.exit(f"{TOUR.name} has no variant {', '.join(sorted(missing))}")
    for variant in kept:
        if (target := TARGETS.get(variant["name"])) and target.of != "fp32":
            variant["control"] = target.of
    measure = {"repeats": repeats, "min_seconds": 1, "memory": False, "accuracy_samples": "all"}
    return found | {"name": "quality", "variants": kept, "seeds": list(seeds), "export": ["executorch"],
                    "measure": measure, "pick": None}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", default="0,1,2,3")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="local")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "quality.yaml").write_text(json.dumps(config(seeds, options.repeats)))
        argv = [sys.executable, "-m", "harness", "run", "quality.yaml", "--device", options.device, "--json"]
        done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        return done.returncode
    rows = {(r["variant"], r["seed"]): r for r in json.loads(done.stdout)["results"]}
    fp32 = rows["fp32", seeds[0]]
    print(f"fp32: accuracy {fp32['metrics']['accuracy']['value']:.3f}")
    print(f"{'variant':<14} {'seed':>4} {'acc':>6} {'drop':>6} {'95 %':>16} {'p':>6} {'control':>8}  ratios to fp32")
    missed = []
    for name, target in TARGETS.items():
        held = [told(name, seed, rows.get((name, seed)) or rows[name, seeds[0]], target, fp32) for seed in seeds]
        if not held[0] or sum(held) < len(held) - 1:
            first = "" if held[0] else ", not for the first"
            missed.append(f"{name}: held for {sum(held)} of {len(held)} seeds{first}")
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


def told(name: str, seed: int, row: dict[str, Any], target: Target, fp32: dict[str, Any]) -> bool:
    """Prints the row; whether the target holds."""
    if row["status"] != "ok":
        print(f"{name:<14} {seed:>4} {row['status']}: {row['reason']}")
        return False
    metrics = row["metrics"]
    drop = metrics["accuracy_drop" if target.of == "fp32" else "accuracy_drop_control"]
    low, high = drop["ci95"]
    value = drop["value"]
    held = 100 * low <= target.points and 100 * value <= target.points + SLACK
    ratios = []
    for metric, most in target.ratios.items():
        ratio = metrics[metric]["value"] / fp32["metrics"][metric]["value"]
        held &= ratio <= most
        ratios.append(f"{metric} {ratio:.3f} (<= {most})")
    p = drop.get("p_value")
    control = metrics["accuracy_drop_control"].get("value") if target.of == "fp32" else None
    print(f"{name:<14} {seed:>4} {100 * metrics['accuracy']['value']:6.2f} {100 * value:6.2f} "
          f"{f'{100 * low:.2f} to {100 * high:.2f}':>16} {'–' if p is None else f'{p:.3f}':>6} "
          f"{'–' if control is None else f'{100 * control:.2f}':>8}  {', '.join(ratios)}"
          f"{'' if held else '   <- missed'}{'' if target.of == 'fp32' else f'   (drop is of {target.of})'}")
    return held


if __name__ == "__main__":
    sys.exit(main())
