"""Releases: unchanged labels are hardly ever called worse though no session is like the next; what changed is found.

A label is a session of its own: a reference and three variants in 5 blocks, times that differ by 1.5 % from run to
run. What a session differs from the next has a standard deviation of 5 %, and comes in two kinds. `shared`: the whole
device is slower, the reference too, and each cell differs from that by another 1 %. `apart`: each cell has its own 5 %,
so that dividing by the reference makes it worse. Either is tried with nothing stored but the two, and with 8 sessions
from which the spread is told. Beside that base and head in the same 10 blocks of one session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.proof.claims import Row, beside, share
from harness.analyze.compare import Compared, compare, verdict
from harness.analyze.digest import CellDigest, Digest, Known
from harness.analyze.intervals import over_runs
from harness.types import Cell

POINT = 9
REFERENCE = "fp32"
LATENCY_MS = {REFERENCE: 10.0, "int8": 5.0, "slim": 4.0, "tiny": 1.0}
TIMES = {"latency_ms": 1.0, "first_inference_ms": 3.0, "load_ms": 8.0}
RUN_SD, SESSION_SD, OWN_SD = 0.015, 0.05, 0.01
MEMORY_SD = 0.002
REPEATS, PAIRS, STORED = 5, 10, 8


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Standard deviations of the logarithm: `shared` by all cells of a session, and `own` of each cell."""

    name: str
    shared: float
    own: float


SHARED = Kind(name="shared", shared=SESSION_SD, own=OWN_SD)
APART = Kind(name="apart", shared=0.0, own=SESSION_SD)
ONE_SESSION = Kind(name="one session", shared=0.0, own=0.0)


def session(
    name: str, kind: Kind, rng: np.random.Generator, *, slower: Mapping[str, float] | None = None,
    repeats: int = REPEATS,
) -> Digest:  # fmt: skip
    """`slower`: variant -> factor of its times; its file is another then."""
    whole = kind.shared * rng.standard_normal()
    changed = slower or {}
    cells = []
    for variant, latency in LATENCY_MS.items():
        own = whole + kind.own * rng.standard_normal()
        factor = changed.get(variant, 1.0)
        known = {
            metric: _measured(latency * times * factor * np.exp(own + RUN_SD * rng.standard_normal(repeats)))
            for metric, times in TIMES.items()
        }
        known["peak_memory_bytes"] = _measured(8e6 * np.exp(MEMORY_SD * rng.standard_normal(repeats)))
        known["size_bytes"] = Known(value=1e5, low=1e5, high=1e5)
        cells.append(CellDigest(
            cell=Cell(
                variant=variant, seed=0, exporter="executorch", backend="xnnpack", input="default",
                device_id="sim", threads=1, cpus="any",
            ),
            device="sim", status="ok", artifact_sha256=f"{variant} {factor:g}", metrics=known,
        ))  # fmt: skip
    return Digest(
        session=name, experiment="proof", kind="experiment", label=name, created_utc=name, finished=True, quick=False,
        reference=REFERENCE, simulated=True, cells=tuple(cells),
    )  # fmt: skip


def _measured(values: np.ndarray) -> Known:
    runs = values.tolist()
    low, high = over_runs(runs) or (None, None)
    return Known(value=float(np.median(values)), low=low, high=high, blocks=dict(enumerate(runs)))


def labels(
    kind: Kind, stored: int, count: int, rng: np.random.Generator, slower: Mapping[str, float] | None = None
) -> list[list[Compared]]:
    """`count` comparisons of two labels, each with `stored` older sessions of the same files."""
    found = []
    for _ in range(count):
        older = [session(f"0-{i}", kind, rng) for i in range(stored)]
        base, head = session("1", kind, rng), session("2", kind, rng, slower=slower)
        found.append(compare([base], [head], [*older, base, head]))
    return found


def paired(count: int, rng: np.random.Generator, slower: Mapping[str, float] | None = None) -> list[list[Compared]]:
    """Base and head in the same blocks: what a session differs by falls on both alike."""
    found = []
    for _ in range(count):
        base = session("1", ONE_SESSION, rng, repeats=PAIRS)
        found.append(compare([base], [session("1", ONE_SESSION, rng, slower=slower, repeats=PAIRS)], [base]))
    return found


def rows(seed: int, short: bool = False) -> list[Row]:
    rng = np.random.default_rng((seed, 7))
    count = 100 if short else 500
    found = []
    for kind in (SHARED, APART):
        for stored in (0, STORED):
            name = f"unchanged labels, sessions differ by {SESSION_SD:.0%} {kind.name}, {stored} stored"
            trials = count if kind is SHARED else 2 * count  # nearer to the limit: the more trials
            found += unchanged(name, labels(kind, stored, trials, rng), short)
    few = count // 5
    for kind in (SHARED, APART):
        twice = labels(kind, 0, few, rng, {"int8": 2.0})
        found.append(_found(f"int8 twice as slow, {kind.name}, 0 stored: found worse", twice, 0.95, short))
    third = labels(SHARED, 0, few, rng, {"int8": 1.3})
    found.append(beside(POINT, "  int8 30% slower, shared, 0 stored: found worse", _hits(third), len(third)))
    return [
        *found,
        *unchanged(f"unchanged files, {PAIRS} pairs in one session", paired(count, rng), short),
        _found(f"int8 5% slower, {PAIRS} pairs: found worse", paired(count, rng, {"int8": 1.05}), 0.90, short),
    ]


def unchanged(name: str, found: Sequence[Sequence[Compared]], short: bool) -> list[Row]:
    """Of what was tested (the size needs no test), and of the comparison as a whole, which fails a release."""
    tested = [row for compared in found for row in compared if row.p_value is not None]
    worse = sum(row.outcome == "worse" for row in tested)
    failed = sum(verdict(compared) == "worse" for compared in found)
    return [
        share(POINT, f"{name}: figures called worse", worse, len(tested), most=0.05, short=short),
        share(POINT, "  labels with anything worse", failed, len(found), most=0.05, short=short),
    ]


def _found(name: str, found: Sequence[Sequence[Compared]], least: float, short: bool) -> Row:
    return share(POINT, name, _hits(found), len(found), least=least, short=short)


def _hits(found: Sequence[Sequence[Compared]]) -> int:
    """Comparisons in which the latency of int8 is worse."""
    return sum(
        any(r.cell.variant == "int8" and r.metric == "latency_ms" and r.outcome == "worse" for r in compared)
        for compared in found
    )
