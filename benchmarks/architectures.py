"""What int8 and channel pruning do to real architectures at 224x224: ResNet-18 and MobileNetV2, measured here.

    python benchmarks/architectures.py [--repeats N] [--device D]

The weights are random, batch norms' statistics fitted to noise: latency and size mean something, accuracy does not.
Each row is compared with the fp32 file of the same architecture in the same session. Targets: int8 <= 0.75x latency
and <= 0.28x size. The channel-pruned ResNet-18 has its measured speed-up beside the one that its multiply-accumulates
predict. Needs pytorchcv (`pip install --no-deps pytorchcv==0.0.74`). Exit 1 if a target is missed."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

INT8_LATENCY, INT8_SIZE = 0.75, 0.28

CONFIG = """\
name: {name}
model: {{factory: "architectures:{name}", example_inputs: {{shape: [1, 3, 224, 224]}}}}
variants:
  - {{name: fp32}}
  - {{name: int8, steps: [{{quantize_pt2e: {{scheme: static}}}}]}}
  - {{name: slim50, steps: [{{prune_channels: {{ratio: 0.5}}}}]}}
  - {{name: slim50-int8, steps: [{{prune_channels: {{ratio: 0.5}}}}, {{quantize_pt2e: {{scheme: static}}}}]}}
export: [executorch]
measure: {{repeats: {repeats}, min_seconds: 2, memory: false}}
objectives: [latency_ms, size_bytes]
"""


def resnet18() -> Any:
    from pytorchcv.models.resnet import resnet18 as make

    return fitted(make())


def mobilenetv2() -> Any:
    from pytorchcv.models.mobilenetv2 import mobilenetv2_w1 as make

    return fitted(make())


def fitted(model: Any) -> Any:
    """Batch norms that fit what the random convolutions give: else activations die or explode on the way."""
    import torch

    model.train()
    with torch.no_grad():
        for _ in range(8):
            model(torch.randn(8, 3, 224, 224))
    return model.eval()


def measured(name: str, repeats: int, device: str, folder: Path) -> dict[str, dict[str, Any]]:
    (folder / f"{name}.yaml").write_text(CONFIG.format(name=name, repeats=repeats))
    (folder / "architectures.py").write_text(Path(__file__).read_text())
    argv = [sys.executable, "-m", "harness", "run", f"{name}.yaml", "--device", device, "--json"]
    done = subprocess.run(argv, cwd=folder, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        sys.exit(done.returncode)
    return {row["variant"]: row for row in json.loads(done.stdout)["results"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="local")
    options = parser.parse_args()
    missed = []
    print(f"{'architecture':<14} {'variant':<12} {'ms':>8} {'x fp32':>7} {'95 % of speed-up':>18} {'predicted':>10} "
          f"{'MB':>7} {'x fp32':>7}  caveats")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("resnet18", "mobilenetv2"):
            rows = measured(name, options.repeats, options.device, Path(folder))
            for variant, row in rows.items():
                if row["status"] != "ok":
                    print(f"{name:<14} {variant:<12} {row['status']}: {row['reason']}")
                    missed.append(f"{name} {variant} is {row['status']}")
                    continue
                missed += told(name, variant, row, rows["fp32"])
    for text in missed:
        print(f"missed: {text}")
    return 1 if missed else 0


def told(name: str, variant: str, row: dict[str, Any], fp32: dict[str, Any]) -> list[str]:
    ms, size = row["metrics"]["latency_ms"]["value"], row["metrics"]["size_bytes"]["value"]
    slower, larger = ms / fp32["metrics"]["latency_ms"]["value"], size / fp32["metrics"]["size_bytes"]["value"]
    why = row["why"] or {}
    interval = why.get("ci95")
    known = f"{interval[0]:.2f} to {interval[1]:.2f}" if isinstance(interval, list) else "–"
    predicted = f"{why['predicted_speedup']:.2f}x" if "predicted_speedup" in why else "–"
    print(f"{name:<14} {variant:<12} {ms:8.2f} {slower:6.2f}x {known:>18} {predicted:>10} {size / 1e6:7.2f} "
          f"{larger:6.2f}x  {', '.join(row['caveats'])}")
    if variant != "int8":
        return []
    missed = [f"{name} int8 latency {slower:.2f}x > {INT8_LATENCY}x"] if slower > INT8_LATENCY else []
    return missed + ([f"{name} int8 size {larger:.3f}x > {INT8_SIZE}x"] if larger > INT8_SIZE else [])


if __name__ == "__main__":
    sys.exit(main())
