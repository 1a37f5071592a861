"""A session's results as a tracking server's runs: names, parameters, metrics and tags. Pure; mlflow.py sends them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from harness.analyze.pick import CELL
from harness.types import Artifact, Run, Session

Status = Literal["FINISHED", "FAILED", "KILLED"]

#: MLflow's own limits, in characters: a name, a parameter's value, a tag's value (older servers take 5000)
NAME, PARAMETER, TAG = 250, 6000, 5000
#: `skipped` never began, as a run that was stopped before it did anything; `invalid` was measured and is unusable
STATUSES: Mapping[str, Status] = {"ok": "FINISHED", "failed": "FAILED", "invalid": "FAILED", "skipped": "KILLED"}
_FOREIGN = re.compile(r"[^A-Za-z0-9_\-. /]")


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """One result. `cell` names it within its session, `sha256` is the digest of all that is told of it here.

    `metrics` are numbers exactly as in `result` (units in their names), `simulated.` before those of a simulated
    device; empty where the result is not `ok`.
    `start_ms`, `end_ms`: the session's, in ms since 1970 UTC; no end where it is not finished.
    `runs`: how many were made for the result, those that do not count too, so that of two states of one session the
    later never has fewer; None where that is not known.
    `artifact`: the exported file, None where nothing was built."""

    session: str
    cell: str
    name: str
    status: Status
    start_ms: int
    end_ms: int | None
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    runs: int | None
    tags: Mapping[str, str]
    result: Mapping[str, Any]
    artifact: Artifact | None

    @property
    def sha256(self) -> str:
        file = None if self.artifact is None else self.artifact.sha256
        told = [self.name, self.status, dict(self.params), dict(self.metrics), dict(self.tags), file, self.end_ms]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def tracked(
    session: Session,
    document: Mapping[str, Any],
    discreet: Callable[[Any], Any] = lambda value: value,
    made: Sequence[Run] | None = None,
) -> list[Tracked]:
    """One for each of the document's results, in its order. `document` is what `run --json` writes of the session;
    `discreet` takes out of a value what is not to leave this computer. `made`: all its runs; None where they are not
    known."""
    counts = None if made is None else _counts(made)
    places = _places(session, document)
    found = [_tracked(session, document, result, places, discreet, counts) for result in document["results"]]
    cells = [run.cell for run in found]
    for i, run in enumerate(found):
        if (before := cells[:i].count(run.cell)) > 0:  # two devices of one name: still two results
            found[i] = dataclasses.replace(run, cell=f"{run.cell} #{before + 1}")
    return found


def _counts(made: Sequence[Run]) -> dict[str, int]:
    """A run's id -> how many runs its cell has."""
    counts = Counter(run.cell for run in made)
    return {run.id: counts[run.cell] for run in made}


def _tracked(
    session: Session, document: Mapping[str, Any], result: Mapping[str, Any], places: Mapping[Any, int],
    discreet: Callable[[Any], Any], counts: Mapping[str, int] | None,
) -> Tracked:  # fmt: skip
    own = {key: result[key] for key in CELL}
    place = places.get(result["device"])  # by number: what a device is called depends on --identify
    artifact = _artifact(session, result)
    simulated = bool(result.get("simulated"))
    runs = None if counts is None else max((counts.get(name, 0) for name in result["runs"]), default=0)
    metrics, absent = _metrics(result["metrics"], "simulated." * simulated)
    title = [result["variant"], *_unusual(result), result["exporter"], result["device"] or "no device"]
    title += [] if result["threads"] is None else [f"{result['threads']} thread{'s' * (result['threads'] != 1)}"]
    tags = {
        "harness.session": session.id,
        "harness.label": session.label,
        "harness.status": result["status"],
        "harness.reason": result["reason"],
        "harness.caveats": ", ".join(result["caveats"]),
        "harness.simulated": "true" if simulated else "false",
        "harness.quick": "true" if session.quick else "false",
        "harness.finished": "true" if session.finished_utc else "false",
        "harness.imported": "true" if session.imported_utc else "false",
        "harness.runs": runs,
        "harness.artifact.sha256": None if artifact is None else artifact.sha256,
        **_chosen(document, own),
        **{f"harness.absent.{name}": reason for name, reason in absent.items()},
        "mlflow.note.content": _note(session, result, simulated),
    }
    return Tracked(
        session=session.id,
        cell=json.dumps([v for k, v in own.items() if k not in ("device", "device_id")] + [place]),
        name=_cut("simulated · " * simulated + " · ".join(map(str, title)), NAME),
        status=STATUSES[result["status"]],
        start_ms=_ms(session.created_utc),
        end_ms=_ms(session.finished_utc) if session.finished_utc else None,
        params=_texts(_params(session, result, artifact, place, discreet), PARAMETER),
        metrics=metrics if result["status"] == "ok" else {},
        runs=runs,
        tags=_texts(tags, TAG),
        result=result,
        artifact=artifact,
    )


def _places(session: Session, document: Mapping[str, Any]) -> dict[Any, int]:
    """A device's label in the document -> its number among the session's: the results go through them in order."""
    labels = list(dict.fromkeys(r["device"] for r in document["results"] if r["device"] is not None))
    return {label: number for number, label in enumerate(labels) if number < len(session.devices)}


def _unusual(result: Mapping[str, Any]) -> Iterator[str]:
    """What tells results of one variant apart, where there are several."""
    if result["seed"]:
        yield f"seed {result['seed']}"
    if result["input"] != "default":
        yield str(result["input"])
    if result["cpus"] not in (None, "any"):
        yield f"cpus {result['cpus']}"


def _artifact(session: Session, result: Mapping[str, Any]) -> Artifact | None:
    if "absent" in result["artifact"]:
        return None
    keys = ("variant", "seed", "exporter", "backend", "input")
    build = next(b for b in session.package.builds if all(getattr(b, k) == result[k] for k in keys))
    return build.artifact


def _metrics(metrics: Mapping[str, Any], prefix: str) -> tuple[dict[str, float], dict[str, str]]:
    """Every number by its name with the prefix, and why each of the others is absent.

    `latency_ms` is the headline figure, `latency_ms.p95` a statistic; `.low` and `.high` behind either are the ends of
    its 95 % interval. What has no place in a flat table (lists, tables) is in result.json."""
    numbers: dict[str, float] = {}
    absent: dict[str, str] = {}
    for metric, found in metrics.items():
        for name, value in _leaves(metric, found, depth=2):
            if isinstance(value, str):
                absent[name] = value
            else:
                numbers[_FOREIGN.sub("_", prefix + name)[:NAME]] = value
    return numbers, absent


def _leaves(name: str, found: Mapping[str, Any], depth: int) -> Iterator[tuple[str, float | str]]:
    if "absent" in found:
        yield name, str(found["absent"])
        return
    for key, value in found.items():
        here = name if key == "value" else f"{name}.{key}"
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            yield here, float(value)
        elif key == "ci95":
            yield from _interval(name, value)
        elif key == "ci95_of":
            yield from (end for stat, ends in value.items() for end in _interval(f"{name}.{stat}", ends))
        elif isinstance(value, Mapping) and depth:
            yield from _leaves(here, value, depth - 1)


def _interval(name: str, ends: Any) -> Iterator[tuple[str, float]]:
    if isinstance(ends, list | tuple) and len(ends) == 2:
        yield f"{name}.low", float(ends[0])
        yield f"{name}.high", float(ends[1])


def _params(
    session: Session, result: Mapping[str, Any], artifact: Artifact | None, place: int | None,
    discreet: Callable[[Any], Any],
) -> dict[str, Any]:  # fmt: skip
    """What is varied and what it ran on: the columns to compare by."""
    facts = None if place is None else session.devices[place].facts
    known = ("model", "soc", "abi", "os", "kernel", "cores", "memory_bytes")
    toolchain = dict(session.package.toolchain) | ({} if artifact is None else dict(artifact.toolchain))
    return {
        **{key: result[key] for key in CELL},
        "runtime": result["runtime"],
        "steps": json.dumps(result["steps"], ensure_ascii=False),
        **({} if facts is None else {f"device.{key}": discreet(getattr(facts, key)) for key in known}),
        **{f"toolchain.{name}": discreet(version) for name, version in toolchain.items()},
    }


def _chosen(document: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, str]:
    """Whether the result is on its device's front and the one to ship, each with how sure that is."""
    said = {}
    for key, entries in (("front", document["front"]), ("pick", document["picks"])):
        entry = next((e for e in entries if all(e[k] in ("*", own[k]) for k in CELL)), None)
        if entry is not None:
            said[f"harness.{key}"] = "true"
            said[f"harness.{key}.probability"] = str(entry["probability"])
    return said


def _note(session: Session, result: Mapping[str, Any], simulated: bool) -> str | None:
    """What a person has to see above the numbers: the run's description."""
    said = ["**Simulated device: no number here was measured.**"] if simulated else []
    said += ["A quick session: one repeat of everything. It never decides."] if session.quick else []
    said += [f"{result['status']}: {result['reason']}"] if result["status"] != "ok" else []
    said += [f"Caveats: {', '.join(result['caveats'])}"] if result["caveats"] else []
    return "\n\n".join(said) or None


def _texts(values: Mapping[str, Any], limit: int) -> dict[str, str]:
    """As a server takes them: no empty one, none too long, names in its alphabet."""
    return {
        _FOREIGN.sub("_", key)[:NAME]: _cut(_printable(str(value)), limit)
        for key, value in values.items()
        if value is not None and value != ""
    }


def _printable(text: str) -> str:
    """A device's or a tool's words, without what a database or a page cannot take."""
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _cut(text: str, limit: int) -> str:
    """The cut is told in the text itself."""
    if len(text) <= limit:
        return text
    told = f"… [cut: {len(text)} characters]"
    return text[: limit - len(told)] + told


def _ms(utc: str) -> int:
    return round(datetime.fromisoformat(utc).timestamp() * 1000)
