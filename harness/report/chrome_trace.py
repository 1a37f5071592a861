"""A profile as the JSON that chrome://tracing and ui.perfetto.dev open: one slice per operator, on a time axis.

Format: "Trace Event Format" (Google), complete events (`"ph": "X"`) with times in µs. The runtime is one track; what
delegates tell of their inside is another, since they round their times, and slices of one track must nest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.analyze import operators
from harness.analyze.etdump import Event
from harness.report.hostile import clean_text, one_line

#: a viewer in a browser grows slow beyond it; at least one execution is written in any case
MOST_SLICES = 100_000
_PROCESS, _RUNTIME, _INSIDE = 1, 1, 2


def trace(executions: Sequence[Sequence[Event]], about: Mapping[str, Any]) -> str:
    """JSON text. `about`: what the viewer shows as facts of the whole trace; its `title` names the process.

    Time 0 is the start of the first execution."""
    origin_ns = operators.whole(executions[0]).start_ns
    slices: list[dict[str, Any]] = []
    shown = 0
    for block in executions:
        if shown and len(slices) + len(block) > MOST_SLICES:
            break
        slices += _slices(block, shown, origin_ns)
        shown += 1
    facts = {_text(key): _text(value) for key, value in about.items()}
    document = {
        "displayTimeUnit": "ns",
        "otherData": facts | {"executions": f"{shown} of {len(executions)}"},
        "traceEvents": [*_names(facts.get("title", "profile")), *slices],
    }
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def _names(title: str) -> Iterator[dict[str, Any]]:
    named = (("process_name", _RUNTIME, title), ("thread_name", _RUNTIME, "runtime"))
    for kind, track, name in (*named, ("thread_name", _INSIDE, "inside delegates")):
        yield {"ph": "M", "name": kind, "pid": _PROCESS, "tid": track, "args": {"name": name}}


def _slices(block: Sequence[Event], execution: int, origin_ns: int) -> Iterator[dict[str, Any]]:
    whole = operators.whole(block)
    yield _slice(whole.name, "execution", whole, _RUNTIME, execution, origin_ns)
    for part, event in operators.calls(block):
        track = _INSIDE if event.inside else _RUNTIME
        yield _slice(part.name, part.kind, event, track, execution, origin_ns)


def _slice(name: str, kind: str, event: Event, track: int, execution: int, origin_ns: int) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": _text(name),
        "cat": kind,
        "ts": (event.start_ns - origin_ns) / 1e3,
        "dur": event.duration_ns / 1e3,
        "pid": _PROCESS,
        "tid": track,
        "args": {"execution": execution, "instruction": event.instruction},
    }


def _text(value: Any) -> str:
    return one_line(clean_text(str(value)))
