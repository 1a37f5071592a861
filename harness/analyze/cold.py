"""Loading with the model's file not in memory: what a user waits for at a program's first start. Pure.

Each `load` run is a fresh process. Before it loads, it drops the file from the page cache and has the kernel prove
that no page of it is left (mincore). Only the file is cold: the runner and its libraries, which an app brings in any
case, are as warm as the runs before left them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.analyze.intervals import over_runs
from harness.analyze.measured import MetricObject, absent, metric_object, per_run, why_none
from harness.analyze.rows import Planned, Row
from harness.analyze.status import figures, number
from harness.types import Run


def cold_load(row: Row, planned: Planned) -> dict[str, MetricObject]:
    """`cold_load_ms`: program and method load, the median over runs, with what a start is made of beside it.

    `exec_to_main_ms` (in steps of the kernel's clock tick, mostly 10 ms), `program_ms`, `method_ms`,
    `first_inference_ms`, and `steady_ms` of the latency runs; `major_faults`: pages that came from storage.
    `cache` is `dropped`: of the runs whose cache was proven dropped, `left_out` others are not in it; or `unknown`
    (`why`): of all runs, since none was proven. Then the result has the caveat `cache_unknown`."""
    runs, used = row.counted("load"), cold_runs(row)
    if not runs:
        return {"cold_load_ms": absent(why_none(row, "load") if planned.cold_loads else "cold_loads: 0")}
    values = per_run(used, "cold_load_ms")
    if not values:
        return {"cold_load_ms": absent("the runner did not report it")}
    said = {"cache": "dropped"} if dropped(used[0]) else {"cache": "unknown", "why": _why_unknown(runs)}
    return {
        "cold_load_ms": metric_object(
            "cold_load_ms", statistics.median(values), over_runs(values), "runner", samples=len(values),
            left_out=len(runs) - len(used), **said, **_start(used, row.counted("latency")),
        )
    }  # fmt: skip


def cold_runs(row: Row) -> list[Run]:
    """The runs that the figure stands on: those that proved their cache dropped; all, where none did."""
    runs = row.counted("load")
    return [run for run in runs if dropped(run)] or runs


def dropped(run: Run) -> bool:
    """Whether the run proved that no page of the file was in memory when it began to load."""
    line = _cache(run)
    return line.get("dropped") is True and line.get("resident_pages_after", 0) == 0


def _start(runs: Sequence[Run], latency: Sequence[Run]) -> dict[str, Any]:
    """What a start is made of, in ms; each the median over the runs that tell it."""
    steady = figures(latency, "p50")
    return {
        "exec_to_main_ms": _median(runs, lambda run: _ms(run, "runner", "exec_to_main_ns"), "the device does not tell"),
        "program_ms": _median(runs, lambda run: _ms(run, "load", "program_ns"), "the runner did not report it"),
        "method_ms": _median(runs, lambda run: _ms(run, "load", "method_ns"), "the runner did not report it"),
        "first_inference_ms": _median(runs, _first_ms, "the runner did not report it"),
        "steady_ms": statistics.median(steady) if steady else absent("the latency was not measured"),
        "major_faults": _median(runs, lambda run: _told(run, "end", "major_faults"), "the runner did not report it"),
    }


def _median(runs: Sequence[Run], value: Callable[[Run], float | None], why: str) -> float | MetricObject:
    known = [v for run in runs if (v := value(run)) is not None]
    return statistics.median(known) if known else absent(why)


def _first_ms(run: Run) -> float | None:
    return next(iter(per_run([run], "first_inference_ms")), None)


def _ms(run: Run, group: str, key: str) -> float | None:
    value = _told(run, group, key)
    return None if value is None else value / 1e6


def _told(run: Run, group: str, key: str) -> float | None:
    said = run.conditions.get(group)
    value = number(said.get(key)) if isinstance(said, Mapping) else None
    return value if value is not None and value >= 0 else None


def _cache(run: Run) -> Mapping[str, Any]:
    said = run.conditions.get("cache")
    line = said[-1] if isinstance(said, list | tuple) and said else None
    return line if isinstance(line, Mapping) else {}


def _why_unknown(runs: Sequence[Run]) -> str:
    said = [why for run in runs if isinstance(why := _cache(run).get("why"), str) and why]
    return f"the page cache could not be proven dropped: {said[0] if said else 'the runner did not say why'}"[:300]
