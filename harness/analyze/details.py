"""What stands beside a result's metrics: whether its device is simulated, the conditions that its latency was made
under, the curve of its sustained run, the time of its operators and what it cost to trace them. Pure.

All of it was said by a device: only finite numbers and short texts of the expected kind go through, and whatever is
not as it should be counts as not said."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.analyze import surroundings as said
from harness.analyze.conditions import FEWEST_TICKS, USED_SHARE, disturbance_limit, kernel_ratio
from harness.analyze.measured import absent, why_none
from harness.analyze.rows import Planned, Row
from harness.analyze.status import number
from harness.types import Enrolment, Purpose, Run, Snapshot

MOST_POINTS = 200
MOST_OPERATORS = 1000
_LONGEST = 200
#: what to call a device's temperature by, the best first: what the gate goes by where there is one
_SENSORS = ("skin sensor", "hottest zone", "battery")


def details(row: Row, planned: Planned, reason: str | None) -> dict[str, Any]:
    """`simulated`, `conditions`, `sustained`, `operators` and `profile` of one result.

    `reason`: why a row has no device."""
    if row.device is None:
        none = absent(reason or "not built")
        return {"simulated": False, "conditions": None, "sustained": none, "operators": none, "profile": none}
    return {
        "simulated": row.device.spec.scheme == "sim",
        "conditions": conditions(row, planned),
        "sustained": sustained(row, planned),
        "operators": operators(row, planned),
        "profile": profile(row, planned),
    }


def conditions(row: Row, planned: Planned) -> dict[str, Any] | None:
    """What surrounded the counted latency runs, or all attempts where none counts; None where none was tried.

    `gate_wait_s` and `redone` are of all the cell's runs, whatever their purpose."""
    tried = [r for r in row.runs if r.purpose == "latency"]
    if not tried:
        return None
    shown = row.counted("latency") or tried
    return {
        "temperature_c": _temperature(shown),
        "gate_wait_s": _waited(row.runs),
        "redone": _redone(row.runs),
        "sentinel": _sentinel(shown),
        "clocks": _clocks(shown),
        "cpus": _cpus(shown),
        "load": _load(shown),
        "prepared": _prepared(shown[-1]),
        "enrolled": any(_map(r.conditions.get("enrolled")) for r in shown),
        "burn_in": any(r.purpose == "burn_in" and r.status == "ok" for r in row.runs),
        "seed": planned.seed,
    }


def sustained(row: Row, planned: Planned) -> dict[str, Any]:
    """The curve of the sustained run, at most MOST_POINTS of it; None stands for a reading that is not there."""
    run, why = _only(row, planned, "sustained", planned.sustained_minutes is not None)
    points = [p for p in _list(run.summary.get("points")) if isinstance(p, Mapping)] if run else []
    rows = [
        {"t_s": t, "latency_ms": latency, "temperature_c": number(p.get("c")), "clock_khz": number(p.get("khz"))}
        for p in points[:MOST_POINTS]
        if (t := number(p.get("t_s"))) is not None and (latency := number(p.get("latency_ms"))) is not None
    ]
    if not rows:
        return absent(why or "the run has no points")
    return {key: [p[key] for p in rows] for key in rows[0]}


def operators(row: Row, planned: Planned) -> dict[str, Any] | list[dict[str, Any]]:
    """Time per operator and per delegate call of the profile run, the longest first."""
    run, why = _only(row, planned, "profile", planned.profile)
    known = list(map(_operator, _list(run.summary.get("operators")))) if run else []
    found = [operator for operator in known if operator is not None]
    if not found:
        return absent(why or "the profile has no operators")
    return sorted(found, key=lambda o: -o["time_us"])[:MOST_OPERATORS]


def profile(row: Row, planned: Planned) -> dict[str, Any]:
    """One inference with and without the tracer, in ms, and the share of the former that the operators account for."""
    run, why = _only(row, planned, "profile", planned.profile)
    if run is None:
        return absent(why or "not measured")
    keys = ("traced_ms", "untraced_ms", "coverage")
    return {k: v if (v := number(run.summary.get(k))) is not None else absent("not told") for k in keys}


def _operator(entry: Any) -> dict[str, Any] | None:
    told = _map(entry)
    time, share, calls = (number(told.get(key)) for key in ("time_us", "share", "calls"))
    if time is None or time < 0 or not isinstance(told.get("name"), str):
        return None
    return {
        "name": _text(told["name"]),
        "kind": _text(told.get("kind", "operator")),
        "time_us": time,
        "share": absent("not told") if share is None else share,
        "calls": absent("not told") if calls is None or not 0 <= calls < 1e12 else round(calls),
    }


_NOT_ASKED: Mapping[Purpose, str] = {"sustained": "sustained_minutes not asked for", "profile": "profile: false"}


def _only(row: Row, planned: Planned, purpose: Purpose, asked: bool) -> tuple[Run | None, str | None]:
    """The last counted run of this purpose, else why there is none."""
    if runs := row.counted(purpose):
        return runs[-1], None
    if not asked:
        return None, _NOT_ASKED[purpose]
    return None, "a quick session measures none" if planned.quick else why_none(row, purpose)


def _temperature(runs: Sequence[Run]) -> dict[str, Any]:
    """Span over the runs of the first sensor of _SENSORS that any run has, before and after."""
    whens: tuple[said.When, ...] = ("before", "after")
    seen = {when: [_temperatures(said.snapshot(r.conditions, when)) for r in runs] for when in whens}
    for sensor in _SENSORS:
        spans = {w: [t[sensor] for t in found if sensor in t] for w, found in seen.items()}
        if any(spans.values()):
            return {"sensor": sensor} | {
                when: [min(values), max(values)] if values else absent("not read") for when, values in spans.items()
            }
    looked = any(said.snapshot(r.conditions, "before") for r in runs)
    return absent("the device shows no temperature" if looked else "no temperature was recorded")


def _temperatures(at: Snapshot | None) -> dict[str, float]:
    if at is None:
        return {}
    hottest = max(at.zones_c.values(), default=None)
    known = {"skin sensor": at.skin_c, "hottest zone": hottest, "battery": at.battery_c}
    return {sensor: value for sensor, value in known.items() if value is not None}


def _waited(runs: Iterable[Run]) -> float | dict[str, Any]:
    waits = [w for r in runs if (w := number(_map(r.conditions.get("gate")).get("waited_s"))) is not None]
    return round(sum(waits), 3) if waits else absent("no gate was recorded")


def _redone(runs: Iterable[Run]) -> dict[str, Any]:
    """Attempts that were invalid, by reason. (What failed by itself is not made again, and is told elsewhere.)

    Reasons that differ in their figures only are told by what they begin with ("disturbed: …")."""
    spoiled = [r.reason or "no reason was given" for r in runs if r.status == "invalid"]
    kinds: dict[str, list[str]] = {}
    for reason in spoiled:
        kinds.setdefault(reason.partition(":")[0], []).append(reason)
    told = Counter({same[0] if len(set(same)) == 1 else kind: len(same) for kind, same in kinds.items()})
    return {"runs": len(spoiled), "reasons": [{"reason": reason, "runs": n} for reason, n in told.most_common()]}


def _sentinel(runs: Sequence[Run]) -> dict[str, Any]:
    """By how much the calibration kernel changed over a run: the median of the runs, and the limit that spoils one."""
    changes = [ratio - 1 for r in runs if (ratio := kernel_ratio(r.conditions)) is not None]
    if not changes:
        return absent("the runner told no calibration kernel")
    limits = [found for r in runs if (found := disturbance_limit(_enrolled(r))) is not None]
    last = limits[-1] if limits else absent("the device's own spread is not known")
    return {"median_change": statistics.median(changes), "limit": last}


def _enrolled(run: Run) -> Enrolment:
    """What was known of the device when this run was judged, as far as its limit goes."""
    told = _map(run.conditions.get("enrolled"))
    return Enrolment(sentinel_sd=number(told.get("sentinel_sd")), change_sd=number(told.get("change_sd")))


def _clocks(runs: Sequence[Run]) -> dict[str, Any]:
    """Share of the timed part that the CPUs in use spent at their commonest clock, the median of the runs."""
    known = [found for r in runs if (found := residency(r)) is not None]
    if not known:
        return absent("the time at each clock (time_in_state) could not be read")
    commonest = Counter(khz for _, khz in known).most_common(1)[0][0]
    return {"residency": statistics.median(share for share, _ in known), "khz": commonest}


def residency(run: Run) -> tuple[float, int] | None:
    """(share, kHz) of the commonest clock, of the least steady policy whose CPUs the run used; None if not told."""
    before, after = (said.policies(run.conditions, when) for when in ("before", "after"))
    used = said.cpu_counts(run.conditions)
    found = []
    for name in before.keys() & after.keys():
        on_it = sum(used.get(cpu, 0) for cpu in before[name].cpus)
        if used and on_it < USED_SHARE * sum(used.values()):
            continue
        spent = {khz: ticks - before[name].ticks.get(khz, 0) for khz, ticks in after[name].ticks.items()}
        if sum(spent.values()) >= FEWEST_TICKS and min(spent.values()) >= 0:  # else the counters began anew
            most = max(spent, key=lambda khz: (spent[khz], khz))
            found.append((spent[most] / sum(spent.values()), most))
    return min(found, default=None)


def _cpus(runs: Sequence[Run]) -> dict[str, Any]:
    """CPU -> share of the timed inferences that ended on it."""
    total: Counter[int] = Counter()
    for run in runs:
        total.update(said.cpu_counts(run.conditions))
    every = sum(total.values())
    if not every:
        return absent("the runner did not tell on which CPUs it ran")
    return {str(cpu): round(total[cpu] / every, 4) for cpu in sorted(total)}


def _load(runs: Sequence[Run]) -> float | dict[str, Any]:
    """Median of the load averages before the runs: how many tasks wanted a CPU."""
    looks = [said.snapshot(r.conditions, "before") for r in runs]
    loads = [look.loadavg for look in looks if look is not None and look.loadavg is not None]
    return statistics.median(loads) if loads else absent("the device does not tell its load")


def _prepared(run: Run) -> dict[str, Any]:
    """What was set on the device for the measurement, and what was asked for and could not be."""
    told = _map(run.conditions.get("prepared"))
    refused = _map(told.get("not_set")).items()
    return {
        "set": {_text(key): _text(value) for key, value in _map(told.get("set")).items()},
        "not_set": [{"setting": _text(key), "reason": _text(why)} for key, why in refused],
    }


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _text(value: Any) -> str:
    return str(value)[:_LONGEST]
