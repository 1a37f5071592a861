"""`make test` with its two workers: who does what, in which order and with which priority."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.together import LOWEST, MEASURING

ROOT = Path(__file__).resolve().parent.parent
NOTE = """
import json, os, time
import pytest

@pytest.mark.parametrize("number", range(6))
def test_notes(number):
    time.sleep(0.1)  # so that the other worker has its part
    said = {"file": os.path.basename(__file__)[:-3], "worker": os.environ.get("PYTEST_XDIST_WORKER"),
            "nice": os.nice(0), "threads": os.environ.get("OMP_NUM_THREADS"), "at": time.monotonic()}
    with open(os.environ["NOTES"], "a") as out:
        out.write(json.dumps(said) + "\\n")
"""
FILES = ("test_a", "test_b", "test_c", *MEASURING[-2:])


def notes(folder: Path, *words: str) -> list[dict[str, Any]]:
    """What these files' tests said of themselves, in the order of their time."""
    (folder / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom tests.together import *\none_thread()\n"
    )
    for name in FILES:
        (folder / f"{name}.py").write_text(NOTE)
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTEST_XDIST_WORKER", "OMP_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words, str(folder)],
        cwd=folder, env=clean | {"NOTES": str(folder / "notes")}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line) for line in (folder / "notes").read_text().splitlines()]
    assert len(said) == 6 * len(FILES)
    return sorted(said, key=lambda one: float(one["at"]))


def test_what_measures_is_done_by_one_worker_from_the_start_and_the_rest_gives_way(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pip install pytest-xdist")
    files_of: defaultdict[str, list[str]] = defaultdict(list)
    for one in notes(tmp_path, "-n", "2"):
        files_of[one["worker"]].append(one["file"])
        assert one["threads"] == "1"
        assert one["nice"] == (os.nice(0) if one["file"] in MEASURING else LOWEST)
    assert len(files_of) == 2
    for files in files_of.values():
        assert [name for name, _ in itertools.groupby(files)] == list(dict.fromkeys(files))  # a file's stay together
    (one_worker,) = (files for files in files_of.values() if set(files) & set(MEASURING))
    assert one_worker[:12] == [name for name in sorted(MEASURING[-2:]) for _ in range(6)]


def test_without_workers_nothing_is_changed(tmp_path: Path) -> None:
    said = notes(tmp_path)
    assert [one["file"] for one in said[::6]] == sorted(FILES)
    assert {(one["worker"], one["nice"], one["threads"]) for one in said} == {(None, os.nice(0), None)}


def test_every_file_that_measures_is_there() -> None:
    assert [name for name in MEASURING if not (ROOT / "tests" / f"{name}.py").is_file()] == []
