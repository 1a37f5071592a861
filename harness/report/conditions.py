"""What was done to each device, and what surrounded its numbers: heat, waits, redone runs, clocks, CPUs, caveats.

All of it is as the document says it (analyze/details.py); here it is only put into words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.caveats import meaning
from harness.report.view import Row, View, number, view

#: head of a column of the table, and the reading of `conditions` that it shows
_COLUMNS = (
    ("temperature before → after", "temperature_c"),
    ("waited to cool", "gate_wait_s"),
    ("did not count", "redone"),
    ("kernel after / before", "sentinel"),
    ("at its commonest clock", "clocks"),
    ("CPUs", "cpus"),
    ("load", "load"),
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A cell of the table; `why` it is a dash, or what the text leaves out."""

    text: str
    why: str = ""


class Conditions:
    title: ClassVar[str] = "Conditions"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        rows = [row for row in shown.rows if row.result["conditions"]]
        if not rows:
            return None
        return templates.render(
            "conditions.html",
            done=[(device, mine[0].on, list(done(mine))) for device, mine in by_device(rows)],
            heads=[head for head, _ in _COLUMNS],
            rows=[(row, [reading(row, key) for _, key in _COLUMNS]) for row in rows],
            caveats=_caveats(shown),
        )


def by_device(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Device -> its rows, in the document's order."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row.result["device"]), []).append(row)
    return list(found.items())


def told(shown: View) -> list[str]:
    """A few lines a device, for a terminal."""
    devices = by_device([row for row in shown.rows if row.result["conditions"]])
    named = len(devices) > 1
    return [f"{device}: {line}" if named else line for device, rows in devices for line in _short(rows)]


def _short(rows: Sequence[Row]) -> Iterator[str]:
    yield "; ".join(text for text in (_temperatures(rows), _waits(rows), _enrolment(rows)) if text)
    if any(c["redone"]["runs"] for c in _all(rows)):
        yield _spoiled(rows)
    yield from _settings(rows)


def done(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """(what, how) of one device."""
    yield "temperature", _temperatures(rows) or _absent(rows, "temperature_c")
    yield "waiting for it to cool", _waits(rows) or _absent(rows, "gate_wait_s")
    yield "runs that did not count", _spoiled(rows)
    yield "before the first number", _enrolment(rows)
    yield "settings", "; ".join(_settings(rows)) or "nothing was changed on the device"
    seeds = sorted({str(c["seed"]) for c in _all(rows) if c["seed"] is not None})
    by = f"seed {', '.join(seeds)}" if seeds else "a seed that is not known"
    yield "order of the runs", f"random within each block, by {by}"


def _temperatures(rows: Sequence[Row]) -> str | None:
    """`hottest zone 41.0 to 43.5 °C before the runs, 44.0 to 52.0 °C behind them`."""
    known = [t for c in _all(rows) if "sensor" in (t := c["temperature_c"])]
    if not known:
        return None
    parts = []
    for when, words in (("before", "before the runs"), ("after", "behind them")):
        spans = [t[when] for t in known if isinstance(t[when], list)]
        if spans:
            parts.append(f"{_span(min(s[0] for s in spans), max(s[1] for s in spans))} {words}")
    return f"{known[0]['sensor']} {', '.join(parts)}"


def _waits(rows: Sequence[Row]) -> str | None:
    waits = [w for c in _all(rows) if (w := number(c["gate_wait_s"])) is not None]
    if not waits:
        return None
    return f"waited {units.seconds(sum(waits))} for it to cool" if sum(waits) >= 1 else "no wait was needed to cool"


def _spoiled(rows: Sequence[Row]) -> str:
    """`3 runs did not count: disturbed (2 of them); gate_timeout: skin 44.0 °C (1 of them)`."""
    reasons: Counter[str] = Counter()
    for found in _all(rows):
        for entry in found["redone"]["reasons"]:
            reasons[str(entry["reason"])] += entry["runs"]
    count = sum(c["redone"]["runs"] for c in _all(rows))
    said = "; ".join(f"{reason} ({n} of them)" if n < count else reason for reason, n in reasons.most_common())
    return f"{count} run{'s' * (count != 1)} did not count: {said}" if count else "every run counted at once"


def _enrolment(rows: Sequence[Row]) -> str:
    found = _all(rows)
    enrolled = all(c["enrolled"] for c in found)
    burned = all(c["burn_in"] for c in found)
    return f"{'enrolled at rest' if enrolled else 'not enrolled'}, {'a' if burned else 'no'} burn-in block"


def _settings(rows: Sequence[Row]) -> Iterator[str]:
    changed = dict.fromkeys(f"{k} {v}" for c in _all(rows) for k, v in c["prepared"]["set"].items())
    refused = dict.fromkeys(f"{s['setting']} ({s['reason']})" for c in _all(rows) for s in c["prepared"]["not_set"])
    if changed:
        yield f"set, and put back afterwards: {', '.join(changed)}"
    if refused:
        yield f"not set: {', '.join(refused)}"


def _all(rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    return [row.result["conditions"] for row in rows]


def _absent(rows: Sequence[Row], key: str) -> str:
    return next((str(c[key]["absent"]) for c in _all(rows) if isinstance(c[key], Mapping) and "absent" in c[key]), "")


def reading(row: Row, key: str) -> Reading:
    """One reading of a result's conditions in a few characters."""
    value = row.result["conditions"][key]
    if isinstance(value, Mapping) and "absent" in value:
        return Reading(text=units.ABSENT, why=str(value["absent"]))
    return _READ[key](value)


def _read_temperature(value: Mapping[str, Any]) -> Reading:
    ends = [_span(*value[when]) if isinstance(value[when], list) else units.ABSENT for when in ("before", "after")]
    return Reading(text=" → ".join(end.removesuffix(" °C") for end in ends) + " °C", why=str(value["sensor"]))


def _read_redone(value: Mapping[str, Any]) -> Reading:
    why = "; ".join(f"{entry['reason']} ({entry['runs']})" for entry in value["reasons"])
    return Reading(text=str(value["runs"]), why=why)


def _read_sentinel(value: Mapping[str, Any]) -> Reading:
    limit = number(value["limit"])
    more = f"more than ±{limit * 100:.1f} % spoils a run" if limit is not None else str(value["limit"]["absent"])
    return Reading(text=f"{value['median_change'] * 100:+.1f} %".replace("-", "−"), why=more)


def _read_clocks(value: Mapping[str, Any]) -> Reading:
    return Reading(text=f"{value['residency'] * 100:.0f} % at {units.human('kHz', value['khz'])}")


def _read_cpus(value: Mapping[str, Any]) -> Reading:
    shares = sorted(value.items(), key=lambda pair: -pair[1])
    text = ", ".join(f"{cpu}: {share * 100:.0f} %" for cpu, share in shares[:3])
    more = ", ".join(f"{cpu}: {share * 100:.1f} %" for cpu, share in shares)
    return Reading(text=f"{text}{' …' if len(shares) > 3 else ''}", why=more if len(shares) > 3 else "")


_READ: dict[str, Callable[[Any], Reading]] = {
    "temperature_c": _read_temperature,
    "gate_wait_s": lambda value: Reading(text=units.seconds(value)),
    "redone": _read_redone,
    "sentinel": _read_sentinel,
    "clocks": _read_clocks,
    "cpus": _read_cpus,
    "load": lambda value: Reading(text=f"{value:.2f}"),
}


def _span(low: float, high: float) -> str:
    return f"{low:.1f} °C" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f} °C"


def _caveats(shown: View) -> list[tuple[str, str, int]]:
    """(caveat, meaning, number of usable results that carry it), the commonest first."""
    found = Counter(caveat for row in shown.ok for caveat in row.caveats)
    return [(caveat, meaning(caveat), n) for caveat, n in found.most_common()]


_: type[Section] = Conditions
