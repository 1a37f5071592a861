"""What the commands share: where things are kept, and how answers leave."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import pipeline, shared_files
from harness.errors import HarnessError, StoreError, UsageError
from harness.interfaces import PageData
from harness.metrics import constraint
from harness.records import head_of
from harness.store import Store
from harness.store.engine import DEFAULT_URL, sqlite_path
from harness.types import Constraint, Run, Session

if TYPE_CHECKING:
    from harness.analyze.pick import Decision


def store_url(given: str | None) -> str:
    return given or os.environ.get("HARNESS_STORE") or DEFAULT_URL


def artifacts_folder(url: str) -> Path:
    """HARNESS_ARTIFACTS (of a URL the folder that stands before it), else beside a SQLite store, else in the working
    folder."""
    if given := os.environ.get("HARNESS_ARTIFACTS"):
        return shared_files.usable(given) if "://" in given else Path(given).absolute()
    path = sqlite_path(url)
    return (path.parent if path is not None else Path(".harness")).absolute() / "artifacts"


def emit(document: Any) -> None:
    """The one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


#: an absolute path of two parts or more, bare or in a URL such as file:///…; never the path of an address
_ABSOLUTE = re.compile(r"(?:(?<![\w./])|(?<=://)|(?<=:///))(?:/[^\s/\"'`#:,\]})]+){2,}/?")
_HOME = re.compile(r"/(?:home|Users)/[^/]+/?")


#: an address with or without its port, or a login at a host
_ADDRESS = re.compile(
    r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b"
    r"|\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\](?::\d{1,5})?"
    r"|\b[\w.-]+@[\w.-]+"
)


def discreet(value: Any, identify: bool, names: Mapping[str, str] | None = None) -> Any:
    """The same value, its texts without absolute paths (they tell a user's name; a path keeps its last part) and
    addresses, but for labels; where a reason is told, also without `names` (each becomes what stands for it)."""
    if identify or value is None or type(value) in _NO_TEXT:  # most of a large document: told apart first
        return value
    if isinstance(value, str):
        return _discreet_text(value)
    if isinstance(value, Mapping):
        return {
            key: item
            if key in _OWN_WORDS
            else discreet(_without(item, names or {}) if key in _TOLD else item, identify, names)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [discreet(item, identify, names) for item in value]
    return value


#: what the user called a release: 1.4.0.2 is no address there
_OWN_WORDS = ("label",)
_NO_TEXT = frozenset((float, int, bool))


@lru_cache(maxsize=1 << 16)
def _discreet_text(text: str) -> str:
    text = _ABSOLUTE.sub(lambda m: "…" if _HOME.fullmatch(m[0]) else "…/" + Path(m[0]).name, text)
    return _ADDRESS.sub("…", text)


#: where a message of a device, or about it, may stand; elsewhere the same word may be a variant's name
_TOLD = ("reason", "absent", "not reached")


def _without(text: Any, names: Mapping[str, str]) -> Any:
    for name, label in names.items() if isinstance(text, str) else ():
        text = text.replace(name, label)
    return text


def names_of(session: Session) -> dict[str, str]:
    """What a text may say of a session's devices that is not to be told -> what stands for it; the longest first."""
    found: dict[str, str] = {}
    for device in session.devices:
        scheme, separator, rest = device.spec.uri.partition("://")
        if not separator or scheme == "sim":
            continue
        label = pipeline.device_label(device.spec, device.facts, False)
        found |= {device.spec.uri: label} | ({device.spec.name: label} if "://" in device.spec.name else {})
        address = rest.partition("?")[0]
        host = address.rpartition("@")[2].rpartition(":")[0] or address.rpartition("@")[2]
        found |= {part: "…" for part in (rest, address, address.rpartition("@")[2], host) if len(part) > 3}
    return dict(sorted(found.items(), key=lambda pair: -len(pair[0])))


def concluded(session: Session, runs: Sequence[Run], files: Path, report: str | None, identify: bool) -> dict[str, Any]:
    """The session's document as it may leave this computer."""
    document = discreet(pipeline.conclude(session, runs, files, None, identify), identify, names_of(session))
    return dict(document) | {"report": report}


def page_name(session: Session) -> str:
    """What its page is called in reports/: a simulated device's never takes the place of a measured one's."""
    simulated = any(device.spec.scheme == "sim" for device in session.devices)
    return f"{session.experiment}-simulated" if simulated else session.experiment


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """A session's document with what it was made of, for its page."""

    session: Session
    runs: Sequence[Run]
    document: dict[str, Any]


def conclusion(store: Store, session: Session, files: Path, out: Path | None, identify: bool) -> Conclusion:
    """`out`: where its page is to stand, if anywhere; `report` is that relative to the working folder."""
    session = head_of(session)
    runs = store.scored(session.id)
    document = concluded(session, runs, files, None if out is None else os.path.relpath(out), identify)
    return Conclusion(session=session, runs=runs, document=document)


def page(
    store: Store,
    session: Session,
    files: Path,
    out: Path,
    identify: bool,
    comparison: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], str | None]:
    """Writes a session's page; its document (`report` relative to the working folder) and why nothing is picked.

    `comparison`, `history`: what stands beside it, as `compare --json` and `history --json` have it."""
    found = conclusion(store, session, files, out, identify)
    return found.document, write_page(found, out, identify, comparison, history)


def write_page(
    found: Conclusion,
    out: Path,
    identify: bool,
    comparison: Mapping[str, Any] | None = None,
    history: Mapping[str, Any] | None = None,
) -> str | None:
    """Why nothing is picked, which the page says too."""
    from harness.analyze import results
    from harness.report.page import render

    refuse_folder(out)
    why_not = _why_not(found.session, found.runs, found.document)
    told = provenance(found.session, found.runs, identify) | ({"No pick": why_not} if why_not else {})
    data = PageData(
        document=found.document,
        quantiles_ms=results.quantiles(found.session, found.runs),
        provenance=told,
        comparison=comparison,
        history=history,
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f".{out.name}.{os.getpid()}")
        partial.write_text(render(data), encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        raise StoreError(
            f"{out}: cannot write the page: {error.strerror or error}", "name another file with -o"
        ) from error
    return why_not


def refuse_folder(out: Path) -> None:
    """Raises UsageError where a file is to be written and a folder is named."""
    if out.is_dir() or not out.name:
        raise UsageError(f"{out} is a folder", "name a file with -o")


def decided(
    session: Session,
    runs: Sequence[Run],
    document: Mapping[str, Any],
    minimize: str,
    where: Sequence[Constraint],
    devices: Sequence[str] = (),
) -> Decision:
    """The pick by this rule among the results of these devices (all of them where none is named)."""
    from harness.analyze import results
    from harness.analyze.pick import decide

    raw = results.raw_values(session, runs)
    asked = [i for i, r in enumerate(document["results"]) if not devices or r["device"] in devices]
    rule = session.package.experiment.get("pick") or {}
    return decide(
        [document["results"][i] for i in asked],
        minimize=minimize,
        where=where,
        confidence=rule.get("confidence", 0.9),
        raw=[raw[i] for i in asked],
        selected_on=document["selected_on"],
    )


def _why_not(session: Session, runs: Sequence[Run], document: Mapping[str, Any]) -> str | None:
    if document["pick"] is not None:
        return None
    if session.quick and any(result["status"] == "ok" for result in document["results"]):
        return "A quick session decides nothing; run it without --quick."
    rule = session.package.experiment.get("pick") or {}
    where = [constraint(text) for text in rule.get("where", [])]
    return decided(session, runs, document, rule.get("minimize", "latency_ms"), where).reason


def provenance(session: Session, runs: Any, identify: bool) -> dict[str, Any]:
    """What the page says of how its numbers were made; nothing that names the host or a place on it."""
    devices = {}
    for device in session.devices:
        label = pipeline.device_label(device.spec, device.facts, identify)
        devices[label] = _device_lines(device)
    overheads = sorted(
        run.conditions["runner"]["loop_overhead_ns"]
        for run in runs
        if run.purpose == "latency" and "loop_overhead_ns" in run.conditions.get("runner", {})
    )
    measured: dict[str, Any] = {k: v for k, v in session.plan.items()}
    if overheads:
        measured["loop_overhead_ns (median of runs)"] = overheads[len(overheads) // 2]
    notice = {"Notice": "A quick session: one repeat of everything. It never decides."} if session.quick else {}
    told = {
        "session": {"id": session.id, "begun": session.created_utc, "finished": session.finished_utc or "not finished"},
        "devices": devices,
        "plan": measured,
        "toolchain": dict(session.package.toolchain),
        "experiment": session.package.yaml,
    }
    return notice | dict(discreet(told, identify, names_of(session)))


def _device_lines(device: Any) -> Mapping[str, Any]:
    if device.facts is None:
        return {"not reached": device.unreached or "unknown"}
    facts = device.facts
    lines = {
        "device_id": facts.device_id,
        "model": facts.model,
        "soc": facts.soc,
        "abi": facts.abi,
        "os": facts.os,
        "kernel": facts.kernel,
        "cores": facts.cores,
        "memory_bytes": facts.memory_bytes,
        "page_size": facts.page_size,
    }
    return {k: v for k, v in lines.items() if v is not None} | {
        f"runner {runtime}": sha[:12] for runtime, sha in device.runners.items()
    }


def explain(error: HarnessError) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True, highlight=False, emoji=False)
    console.print(f"[bold red]error:[/] {escape(error.what)}", soft_wrap=True)
    if error.hint:
        console.print(f"  [bold]try:[/] {escape(error.hint)}", soft_wrap=True)
