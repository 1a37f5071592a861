"""Labels for real on this computer: unchanged ones must pass, changed ones must not.

    python benchmarks/labels.py [PAIRS] [--keep DIR]

Measures 2 × PAIRS labels (default 10) of the demo's fp32 and int8 that differ in nothing, compares them in pairs, as
a release is compared with the one before; then a label whose int8 variant is really fp32, and a gate whose convolutions
are kept out of the delegate. Everything goes through the command line, in a store of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
NAME = "demo-labels"
KEPT_OUT = "{executorch: {backend: xnnpack, keep_out: [convolution]}}"


def experiment(int8_steps: str, export: str = "executorch") -> str:
    return f"""name: {NAME}
model: {{factory: "harness.models:mnist_cnn", example_inputs: {{shape: [1, 1, 28, 28]}}}}
data: {{factory: "harness.models:mnist_5k", metric: accuracy}}
variants:
  - {{name: fp32}}
  - {{name: int8, steps: [{int8_steps}]}}
export: [{export}]
measure: {{repeats: 5}}
objectives: [latency_ms, size_bytes, accuracy]
"""


INT8 = "{quantize_pt2e: {scheme: static}}"


class Shell:
    """The command line in a folder with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if k not in ("HARNESS_STORE", "HARNESS_ARTIFACTS")}

    def __call__(self, *arguments: str, fine: tuple[int, ...] = (0,)) -> tuple[int, str]:
        command = [sys.executable, "-m", "harness", *arguments]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        if done.returncode not in fine:
            sys.exit(f"harness {' '.join(arguments)}: exit {done.returncode}\n{done.stderr[-2000:]}")
        return done.returncode, done.stdout

    def measure(self, file: str, label: str) -> None:
        """Unless it was measured before."""
        _, said = self("runs", "--json", fine=(0, 2))
        if not any(run["label"] == label and run["finished_utc"] for run in json.loads(said or "[]")):
            self("run", file, "--label", label)
            print(f"measured {label}", file=sys.stderr)

    def compared(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        code, said = self("compare", *arguments, "--json", fine=(0, 1, 3))
        return code, json.loads(said)


def worse(document: dict[str, Any]) -> list[str]:
    rows = [row for row in document["comparisons"] if row["outcome"] == "worse"]
    return [f"{row['variant']} {row['metric']} {row['ratio']:.3f}x" for row in rows]


def unchanged(shell: Shell, pairs: int) -> bool:
    for number in range(2 * pairs):
        shell.measure("unchanged.yaml", f"u{number}")
    passed, confirmed = 0, 0
    for number in range(pairs):
        base, head = f"u{2 * number}", f"u{2 * number + 1}"
        code, document = shell.compared(base, head)
        found = worse(document)
        passed += code == 0 and not found
        print(f"{base} -> {head}: exit {code}, {document['verdict']}{', worse: ' + ', '.join(found) if found else ''}")
        if found:
            code, document = shell.compared(base, head, "--confirm")
            confirmed += bool(worse(document))
            print(f"  --confirm: exit {code}, worse: {', '.join(worse(document)) or 'nothing'}")
    print(f"{passed} of {pairs} pairs of unchanged labels: nothing worse, exit 0; worse after --confirm: {confirmed}")
    return passed >= 0.9 * pairs and confirmed == 0


def swapped(shell: Shell) -> bool:
    shell.measure("swapped.yaml", "swapped")
    code, document = shell.compared("u0", "swapped")
    found = worse(document)
    print(f"int8 swapped for fp32: exit {code}, worse: {', '.join(found)}")
    _, markdown = shell("compare", "u0", "swapped", "--format", "markdown", fine=(1,))
    print(markdown)
    rows = [row for row in document["comparisons"] if row["variant"] == "int8" and row["outcome"] == "worse"]
    return code == 1 and {"latency_ms", "size_bytes"} <= {row["metric"] for row in rows}


def slowed(shell: Shell) -> bool:
    shell("baseline", "set", "u0")
    code, said = shell("gate", "unchanged.yaml", "--label", "again", "--json", fine=(0, 1, 3))
    print(f"gate, nothing changed: exit {code}, {json.loads(said)['verdict']}")
    slow, said = shell("gate", "slowed.yaml", "--label", "slowed", "--json", fine=(0, 1, 3))
    print(f"gate, convolutions kept out of the delegate: exit {slow}, worse: {', '.join(worse(json.loads(said)))}")
    return code == 0 and slow == 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Unchanged labels must pass, changed ones must not.")
    parser.add_argument("pairs", nargs="?", type=int, default=10)
    parser.add_argument("--keep", type=Path, help="the folder to work in; what is measured there is not made again")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="labels-"))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "unchanged.yaml").write_text(experiment(INT8))
    (folder / "swapped.yaml").write_text(experiment(""))
    (folder / "slowed.yaml").write_text(experiment(INT8, KEPT_OUT))
    shell = Shell(folder)
    held = [unchanged(shell, asked.pairs), swapped(shell), slowed(shell)]
    print(f"{sum(held)} of {len(held)} held")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
