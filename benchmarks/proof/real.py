"""Point 6: on this computer, for real. The demo's fp32 .pte twice under two names, ten pairs through the pipeline.

Nothing here is simulated: the claim is that two equal files are not told apart. The variation from run to run is
printed beside, since it is this machine's and nothing can be promised of it."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from benchmarks.proof.claims import Row
from harness import config, pipeline
from harness.analyze.paired import compare_paired
from harness.analyze.stats import between_run_cv
from harness.devices.spec import resolve
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Build, Package

DEMO = Path(__file__).resolve().parents[2] / "configs" / "demo.yaml"
PAIRS = 10
NAMES = ("a", "b")


def rows(seed: int, short: bool) -> list[Row]:
    """`seed` is not used: the machine's own noise is. The short form makes fewer and shorter runs, and claims
    nothing: of twenty pairs of equal files one is told apart by chance."""
    pairs, seconds = (3, 0.3) if short else (PAIRS, 1.0)
    with tempfile.TemporaryDirectory(prefix="harness-proof-") as scratch, Screen() as screen:
        url = f"sqlite:///{scratch}/proof.db"
        settings = Settings(store_url=url, files=Path(scratch) / "files", folder=DEMO.parent)
        package, files = _twins(settings, screen, pairs, seconds)
        session = pipeline.run_package(package, files, [resolve("local")], settings, screen)
        store = Store.open(settings.store_url)
        try:
            runs = [run for run in store.runs(session.id, purpose="latency") if run.counts]
        finally:
            store.close()
    a, b = ({r.block: float(r.summary["p50"]) for r in runs if r.cell.variant == name} for name in NAMES)
    found = compare_paired(a, b, lower_is_better=True)
    cv = between_run_cv(list(a.values()))
    ratio = "no ratio"
    if found.ratio is not None and found.ci95 is not None:
        ratio = f"ratio {found.ratio:.3f}, {found.ci95[0]:.3f} to {found.ci95[1]:.3f}"
    return [
        Row(
            point=6, claim=f"here: two equal .pte, {found.n} pairs ({ratio}): {found.verdict}",
            target="same, inconclusive", measured=found.verdict, trials=1, error="",
            held=None if short else found.verdict in ("same", "inconclusive"),
        ),
        Row(
            point=6, claim="  variation from run to run of the demo's fp32", target="",
            measured="none" if cv is None else f"{cv:.1%}", trials=len(a), error="", held=None,
        ),
    ]  # fmt: skip


def _twins(settings: Settings, screen: Screen, pairs: int, seconds: float) -> tuple[Package, Files]:
    """A package of one file under two names, without outputs to check (they are the demo's, checked there)."""
    experiment, text = config.load(DEMO)
    experiment = pipeline.narrowed(experiment, [], ["fp32"])
    package, files = pipeline.build(experiment, text, settings, screen)
    build: Build = next(b for b in package.builds if b.artifact is not None and b.artifact.suffix == ".pte")
    measure = dict(package.experiment["measure"]) | {
        "repeats": pairs, "min_seconds": seconds, "memory": False, "cold_loads": 0,
    }  # fmt: skip
    twins = tuple(dataclasses.replace(build, variant=name, expected=()) for name in NAMES)
    changed = dict(package.experiment) | {"name": "proof", "reference": "a", "measure": measure, "pick": None}
    return dataclasses.replace(package, builds=twins, experiment=changed), files
