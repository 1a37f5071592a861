"""What a session says of each of its cells, small enough to keep for years and to read by the thousand. Pure.

Comparing releases and tracking them needs a few figures of every session that there ever was; working these out from
the raw runs each time would take minutes. A digest holds them, made once from session and runs: per cell each run's
value by block (what pairing needs), the scores by sample, what the artifact is, and the conditions. It holds no
figure that cannot be worked out again, and is made anew when its `VERSION` is another."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from harness.analyze import results
from harness.analyze.draws import Raw
from harness.analyze.figure import Figure, figure
from harness.analyze.rows import Row, rows
from harness.metrics import ALSO as ALSO
from harness.metrics import JUDGED as JUDGED
from harness.types import BASE_SUFFIX, Cell, Run, Session, Status

VERSION = 2
Floats = NDArray[np.float64]
#: metrics that explain a change
EXPLAINING = ("macs", "parameters", "sparsity", "delegated_fraction", "output_sqnr_db")


@dataclass(frozen=True, kw_only=True)
class Known:
    """One metric of one cell in one session, or why it is absent.

    `low`, `high`: the 95 % interval, None where there is none; both `value` where it is exact. `blocks`: block of the
    schedule -> that run's value; empty for what is not measured by runs."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    lower_is_better: bool = True
    blocks: Mapping[int, float] = field(default_factory=dict)
    absent: str | None = None

    @property
    def exact(self) -> bool:
        return self.value is not None and self.low == self.high == self.value and not self.blocks


@dataclass(frozen=True, kw_only=True)
class CellDigest:
    """`device`: as the user named it. `metrics`: metric (with statistic) of JUDGED and ALSO. `conditions`: factor ->
    what it was, in words; two results are alike where these are equal. `facts`: what may explain a change. `scores`:
    float32 per sample (little endian, zlib, base64); empty where the metric has no score per sample."""

    cell: Cell
    device: str
    status: Status
    reason: str | None = None
    artifact_sha256: str | None = None
    metrics: Mapping[str, Known] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, float | str] = field(default_factory=dict)
    scores: str = ""

    @property
    def samples(self) -> Floats:
        packed = zlib.decompress(base64.b64decode(self.scores)) if self.scores else b""
        return np.frombuffer(packed, "<f4").astype(np.float64)


@dataclass(frozen=True, kw_only=True)
class Digest:
    """`reference`: the experiment's reference variant, which was interleaved with all others. `task`: the name of the
    task metric. `simulated`: no real device was measured. `unbuilt`: planned builds without any artifact: (variant,
    exporter, input, status, reason)."""

    session: str
    experiment: str
    kind: str
    label: str | None
    created_utc: str
    finished: bool
    quick: bool
    reference: str
    simulated: bool
    task: str | None = None
    cells: tuple[CellDigest, ...] = ()
    unbuilt: tuple[tuple[str, str, str, str, str], ...] = ()


_DIGEST = TypeAdapter(Digest)


def to_json(digest: Digest) -> bytes:
    return _DIGEST.dump_json(digest)


def from_json(content: bytes) -> Digest:
    """Raises ValueError for what `to_json` did not write."""
    return _DIGEST.validate_json(content)


def digest(session: Session, runs: Sequence[Run]) -> Digest:
    """`runs`: as `Store.scored` gives them (scores per sample with those that have any)."""
    document, raw = results.with_raw(session, runs, None, lambda spec, facts: spec.name)
    planned = rows(session, runs)
    cells, unbuilt, task = [], [], None
    for row, result, values in zip(planned, document["results"], raw, strict=True):
        task = result["metrics"].get("accuracy", {}).get("name") or task
        if row.device is None:
            unbuilt.append((result["variant"], result["exporter"], result["input"], result["status"], _why(result)))
        else:
            cells.append(_cell(session, row, result, values))
    return Digest(
        session=session.id, experiment=session.experiment, kind=session.kind, label=session.label,
        created_utc=session.created_utc, finished=session.finished_utc is not None, quick=session.quick,
        reference=str(session.package.experiment.get("reference") or ""), task=task,
        simulated=any(device.spec.scheme == "sim" for device in session.devices),
        cells=tuple(cells), unbuilt=tuple(unbuilt),
    )  # fmt: skip


def split(found: Digest) -> tuple[Digest, Digest]:
    """(base, head) of a session that measured both in the same blocks. The base's variants lose their suffix."""
    base = [c for c in found.cells if c.cell.variant.endswith(BASE_SUFFIX)]
    head = [c for c in found.cells if not c.cell.variant.endswith(BASE_SUFFIX)]
    plain = [replace(c, cell=replace(c.cell, variant=c.cell.variant.removesuffix(BASE_SUFFIX))) for c in base]
    return replace(found, cells=tuple(plain), unbuilt=()), replace(found, cells=tuple(head))


def _why(result: Mapping[str, Any]) -> str:
    return str(result["reason"] or "not built")


def _cell(session: Session, row: Row, result: Mapping[str, Any], raw: Raw) -> CellDigest:
    scores = raw.samples.get("accuracy")
    facts = row.device.facts if row.device else None
    return CellDigest(
        cell=Cell(
            variant=row.build.variant, seed=row.build.seed, exporter=row.build.exporter, backend=row.build.backend,
            input=row.build.input, device_id=facts.device_id if facts else "", threads=row.threads,
            cpus=row.cpus or "any", context=row.context or "host",
        ),
        device=str(result["device"]),
        status=result["status"],
        reason=None if result["status"] == "ok" else result["reason"],
        artifact_sha256=row.build.artifact.sha256 if row.build.artifact else None,
        metrics={name: _known(result, raw, name) for name in (*JUDGED, *ALSO)},
        conditions=_conditions(session, row, result),
        facts=_facts(row, result),
        scores="" if scores is None else base64.b64encode(zlib.compress(scores.astype("<f4").tobytes())).decode(),
    )  # fmt: skip


def _known(result: Mapping[str, Any], raw: Raw, name: str) -> Known:
    found = figure(result, name)
    if isinstance(found, str):
        return Known(absent=found)
    if found.at_least:
        return Known(absent="it had not come by the end", lower_is_better=found.lower_is_better)
    return Known(
        value=found.value, low=found.low, high=found.high, lower_is_better=found.lower_is_better,
        blocks=dict(raw.blocks.get(name, {})),
    )  # fmt: skip


def _conditions(session: Session, row: Row, result: Mapping[str, Any]) -> dict[str, str]:
    """What must be equal for two results to be alike; what is not known is left out."""
    device, build = row.device, row.build
    assert device is not None
    runtime = build.artifact.runtime if build.artifact else ""
    check = session.package.checks.get(build.input)
    loaders = {str(said) for run in row.counted("latency") if (said := _runner(run).get("loader"))}
    energy = result["metrics"].get("energy_j", {})
    prepared = (result.get("conditions") or {}).get("prepared") or {}
    known = {
        "os": " ".join(filter(None, (device.facts.os, device.facts.kernel))) if device.facts else "",
        "runner": device.runners.get(runtime, "")[:12],
        "runtime": result["runtime"] or "",
        "loader": ", ".join(sorted(loaders)),
        "inputs": ", ".join(file.sha256[:12] for file in check.inputs) if check else "",
        "settings": ", ".join(f"{k}={v}" for k, v in sorted(dict(prepared.get("set", {})).items()))
        or ("none" if "set" in prepared else ""),
        "energy source": str(energy.get("source") or "") if "absent" not in energy else "",
    }
    return {factor: said for factor, said in known.items() if said}


def _runner(run: Run) -> Mapping[str, Any]:
    said = run.conditions.get("runner")
    return said if isinstance(said, Mapping) else {}


def _facts(row: Row, result: Mapping[str, Any]) -> dict[str, float | str]:
    """What a reader of a regression wants to know first: what the file is, who made it, and how the device was."""
    facts: dict[str, float | str] = {}
    for name in EXPLAINING:
        if isinstance(found := figure(result, name), Figure):
            facts[name] = found.value
    artifact = row.build.artifact
    if artifact is not None:
        facts |= {f"made by {tool}": str(version) for tool, version in artifact.toolchain.items()}
    seen = result.get("conditions") or {}
    clocks, load, temperature = (seen.get(key) or {} for key in ("clocks", "load", "temperature_c"))
    if isinstance(clocks, Mapping) and isinstance(clocks.get("khz"), int | float):
        facts |= {"clock_khz": float(clocks["khz"])}
    if isinstance(load, int | float):
        facts["load average"] = float(load)
    if isinstance(temperature, Mapping) and isinstance(temperature.get("before"), list):
        facts["temperature before, °C"] = float(temperature["before"][-1])
    return facts
