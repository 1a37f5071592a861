"""What the pytest plugin costs a project that does not use it: collecting 100 tests with and without, alternating.

    python benchmarks/plugin_cost.py [ROUNDS]

Prints the median of the paired differences with its 95 % interval, and the modules that the plugin brought in. Each
round is two fresh processes, in random order. What counts is their CPU time: others may use the machine as well."""

from __future__ import annotations

import random
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = 100
WITHOUT = ("-p", "no:ondevice")
LISTING = """
import sys, pytest
before = set(sys.modules)
pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *sys.argv[1:]])
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def collect(folder: Path, *options: str) -> float:
    """CPU seconds of one `pytest --collect-only`."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *options]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def loaded(folder: Path, *options: str) -> set[str]:
    command = [sys.executable, "-c", LISTING, *options]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_many.py").write_text("\n".join(f"def test_{n}(): pass" for n in range(TESTS)))
        collect(folder), collect(folder, *WITHOUT)  # bytecode and the page cache
        differences_ms, bare_ms = [], []
        for _ in range(rounds):
            seconds = {}
            for options in random.sample([(), WITHOUT], 2):
                seconds[options] = collect(folder, *options)
            differences_ms.append(1000 * (seconds[()] - seconds[WITHOUT]))
            bare_ms.append(1000 * seconds[WITHOUT])
        more = sorted(loaded(folder) - loaded(folder, *WITHOUT))
    # the median's interval by order statistics: with n rounds, ranks n/2 ± 0.98 √n
    ordered, half = sorted(differences_ms), 0.98 * rounds**0.5
    low, high = ordered[max(0, int(rounds / 2 - half))], ordered[min(rounds - 1, int(rounds / 2 + half))]
    bare = statistics.median(bare_ms)
    print(f"{TESTS} tests collected without the plugin: {bare:.0f} ms of CPU, median of {rounds}")
    print(f"with it: {statistics.median(differences_ms):+.1f} ms more (95 % interval {low:+.1f} to {high:+.1f})")
    print(f"imported for it: {', '.join(more) or 'nothing'}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
