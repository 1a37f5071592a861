"""Digests made by hand: sessions of a few cells with known figures."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from harness.analyze.compare import Compared
from harness.analyze.digest import CellDigest, Digest, Known
from harness.types import Cell

CONDITIONS = {
    "os": "Debian 12", "runner": "aaaa", "runtime": "executorch 1.5.1", "loader": "mmap", "inputs": "i1",
    "settings": "screen=off", "energy source": "odpm",
}  # fmt: skip


def cell(variant: str = "int8", **changed: Any) -> Cell:
    return replace(
        Cell(
            variant=variant, seed=0, exporter="executorch", backend="xnnpack", input="default", device_id="d1",
            threads=1, cpus="any",
        ),
        **changed,
    )  # fmt: skip


def runs(*values: float, **more: Any) -> Known:
    """Of one value per block, from block 0 on."""
    middle = float(np.median(values))
    return Known(value=middle, low=min(values), high=max(values), blocks=dict(enumerate(values)), **more)


def noisy(level: float, sd: float = 0.01, n: int = 5, seed: int = 0) -> Known:
    return runs(*(level * np.exp(sd * np.random.default_rng(seed).standard_normal(n))).tolist())


def exact(value: float) -> Known:
    return Known(value=value, low=value, high=value)


def one(variant: str = "int8", *, metrics: Mapping[str, Known] | None = None, **changed: Any) -> CellDigest:
    """A cell's digest; `changed`: fields of the cell, and of its digest."""
    fields = {k: changed.pop(k) for k in list(changed) if k in CellDigest.__dataclass_fields__ and k != "cell"}
    made = CellDigest(
        cell=cell(variant, **changed), device="phone", status="ok", artifact_sha256=f"sha-{variant}",
        metrics=metrics if metrics is not None else {"latency_ms": noisy(5.0)}, conditions=CONDITIONS,
    )  # fmt: skip
    return replace(made, **fields)


def session(name: str, *cells: CellDigest, **changed: Any) -> Digest:
    made = Digest(
        session=name, experiment="e", kind="experiment", label=name, created_utc=name, finished=True, quick=False,
        reference="fp32", simulated=False, cells=cells,
    )  # fmt: skip
    return replace(made, **changed)


def scored(correct: Sequence[float]) -> tuple[Known, str]:
    """(accuracy with a rough interval, packed scores)"""
    array = np.asarray(correct, "<f4")
    mean = float(array.mean())
    half = 2 * float(array.std()) / len(correct) ** 0.5
    packed = base64.b64encode(zlib.compress(array.tobytes())).decode()
    return Known(value=mean, low=mean - half, high=mean + half, lower_is_better=False), packed


def row(found: Sequence[Compared], metric: str = "latency_ms", variant: str = "int8") -> Compared:
    """The only row of this variant and metric."""
    (only,) = [r for r in found if r.metric == metric and r.cell.variant == variant]
    return only
