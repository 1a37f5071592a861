"""Time per operator and per delegate call, from the events of a traced run. Pure.

One block of the trace is one execution. In it, `Method::execute` spans all; each instruction of the program has an
`OPERATOR_CALL` with a `native_call_NAME` inside (the kernel itself), or a `DELEGATE_CALL`, of whose inside the
delegate may tell more: XNNPACK names each of its operators, in whole µs."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from harness.analyze import etdump
from harness.analyze.etdump import Event
from harness.errors import RunnerError
from harness.types import Run

Kind = Literal["operator", "delegate call", "inside delegate"]
WHOLE, OPERATOR, DELEGATE, KERNEL = "Method::execute", "OPERATOR_CALL", "DELEGATE_CALL", "native_call_"
MOST_OPERATORS = 1000


class Part(NamedTuple):
    """One line of the table."""

    kind: Kind
    name: str


def summary(run: Run) -> Mapping[str, Any]:
    """`Run.summary` of a profile run, from its arrays `etdump`, `traced_ns` and `untraced_ns`.

    `operators`: name, kind, time_us (per inference: the sum of its calls, then the median over the executions), share
    (of the traced execution), calls (per inference); the longest first, at most MOST_OPERATORS, and `left_out` says
    how many more there are. What goes on inside a delegate is part of its call's time, so `coverage`, the share of
    the execution that is accounted for, is of operators and delegate calls alone.
    `traced_ms`, `untraced_ms`: medians of the whole call from outside, with and without the tracer.
    Raises RunnerError where the trace cannot be read."""
    found = executions(run)
    whole_ns = [whole(block).duration_ns for block in found]
    spent, covered_ns = _spent(found)
    rows = [_row(part, times, len(found), statistics.median(whole_ns)) for part, times in spent.items()]
    rows.sort(key=lambda row: -row["time_us"])
    return {
        "operators": rows[:MOST_OPERATORS],
        "left_out": max(0, len(rows) - MOST_OPERATORS),
        "coverage": statistics.median(c / max(1, w) for c, w in zip(covered_ns, whole_ns, strict=True)),
        "iterations": len(found),
        "traced_ms": float(np.median(run.arrays["traced_ns"])) / 1e6,
        "untraced_ms": float(np.median(run.arrays["untraced_ns"])) / 1e6,
    }


def executions(run: Run) -> list[list[Event]]:
    """The events of each traced execution. Raises RunnerError where there are none, or not as many as were told."""
    blocks = [block for block in etdump.read(run.arrays["etdump"].tobytes()) if any(e.name == WHOLE for e in block)]
    told = len(run.arrays["traced_ns"])
    if not blocks or len(blocks) != told:
        raise RunnerError(f"the profile holds {len(blocks)} executions, and {told} were told")
    return blocks


def whole(block: Sequence[Event]) -> Event:
    return next(event for event in block if event.name == WHOLE)


def calls(block: Sequence[Event]) -> Iterator[tuple[Part, Event]]:
    """What an execution is made of: each operator, delegate call and operator inside a delegate, with its event."""
    delegates = sorted({e.instruction for e in block if e.name == DELEGATE and e.instruction is not None})
    numbers: dict[int | None, str] = {place: f"call {n}" for n, place in enumerate(delegates, 1)}
    kernels: dict[int | None, Event] = {}  # an event is written when it ends: a kernel before its OPERATOR_CALL
    for event in block:
        if event.inside:
            call = f", {numbers[event.instruction]}" if len(numbers) > 1 and event.instruction in numbers else ""
            yield Part("inside delegate", event.name + call), event
        elif event.name == DELEGATE:
            yield Part("delegate call", f"delegate {numbers.get(event.instruction, 'call')}"), event
        elif event.name.startswith(KERNEL):
            inner = kernels.get(event.instruction)  # one kernel may call another: the outermost names the operator
            if inner is None or event.duration_ns >= inner.duration_ns:
                kernels[event.instruction] = event
        elif event.name == OPERATOR:
            kernel = kernels.pop(event.instruction, event)
            yield Part("operator", kernel.name.removeprefix(KERNEL)), event
        elif event.name != WHOLE:
            yield Part("operator", event.name), event  # what else an instruction can be: a move, say


def _spent(found: Sequence[Sequence[Event]]) -> tuple[dict[Part, list[tuple[int, int]]], list[int]]:
    """Part -> (ns, calls) in each execution that has it; and the ns of each execution that are accounted for."""
    spent: dict[Part, list[tuple[int, int]]] = defaultdict(list)
    covered_ns = []
    for block in found:
        times: dict[Part, list[int]] = defaultdict(list)
        for part, event in calls(block):
            times[part].append(event.duration_ns)
        for part, all_ns in times.items():
            spent[part].append((sum(all_ns), len(all_ns)))
        covered_ns.append(sum(sum(all_ns) for part, all_ns in times.items() if part.kind != "inside delegate"))
    return spent, covered_ns


def _row(part: Part, times: Sequence[tuple[int, int]], iterations: int, whole_ns: float) -> dict[str, Any]:
    """An execution without it (a branch not taken) counts as one in which it took no time."""
    every = [*times, *[(0, 0)] * (iterations - len(times))]
    time_ns = statistics.median(ns for ns, _ in every)
    return {
        "name": part.name,
        "kind": part.kind,
        "time_us": time_ns / 1e3,
        "share": time_ns / max(1.0, whole_ns),
        "calls": statistics.median_high([n for _, n in every]),
    }
