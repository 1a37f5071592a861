"""`make test` in two halves: what measures for real is in the second, alone."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.together import MEASURING

ROOT = Path(__file__).resolve().parent.parent


def collected(*words: str) -> set[str]:
    """Of two files those of which pytest would run tests."""
    files = [f"tests/{name}.py" for name in ("test_together", MEASURING[0])]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *words, *files],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^tests/(\w+)\.py::", done.stdout, re.MULTILINE))


def test_each_test_is_in_one_of_the_halves() -> None:
    rule = re.search(r"^test: lint\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert rule is not None
    assert re.findall(r"-m (\w+|\".+\")$", rule[1], re.MULTILINE) == ['"not measuring"', "measuring"]
    assert collected("-m", "measuring") == {MEASURING[0]}
    assert collected("-m", "not measuring") == {"test_together"}


def test_every_file_that_measures_is_there() -> None:
    assert [name for name in MEASURING if not (ROOT / "tests" / f"{name}.py").is_file()] == []
