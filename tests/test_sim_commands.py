"""Every command takes a simulated device, and what it says of it is labelled: never a number among measured ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Harness

PI = "sim://pi5-fan?seed=1"
BANNER = "SIMULATED"


def test_a_whole_experiment_is_run_reported_and_picked_and_says_that_it_is_simulated(
    harness: Harness, package: Path, tmp_path: Path
) -> None:
    done = harness("run", str(package), "--device", PI, cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert done.stdout.strip().endswith("reports/small-simulated.html")
    assert "simulated" in done.stdout.lower()
    page = (tmp_path / "reports/small-simulated.html").read_text()
    assert BANNER in page
    assert not (tmp_path / "reports/small.html").exists()  # a measured page is never replaced by it

    document = harness("report", "--json", cwd=tmp_path).json
    measured = [r for r in document["results"] if r["device"] is not None]
    assert all(r["simulated"] and r["device_id"] == PI for r in measured)
    shipped = harness("pick", "-o", "ship", cwd=tmp_path)
    assert shipped.code == 0 and "simulated" in shipped.stdout.lower()
    assert BANNER in (tmp_path / "ship" / "MODEL_CARD.md").read_text().upper()
    assert "sim://" in harness("devices", "--device", PI, cwd=tmp_path).stdout
    assert harness("export-runs", "--format", "csv", "-o", "runs.csv", cwd=tmp_path).code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", PI, "--device", "local"], "is simulated and local is not"),
        (["--device", "sim://pi6"], "pi5-fan"),
        (["--device", "sim://pi5-fan?fault=loud"], "wrong_unit"),
        (["--device", "sim://pi5-fan?seed=-1"], "seed"),
    ],
)
def test_what_cannot_be_simulated_is_refused_with_what_can(
    harness: Harness, package: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    done = harness("run", str(package), *words, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
