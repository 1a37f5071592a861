"""What to ship, in a sentence, or why nothing was picked; the same words on the page and in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report import units
from harness.report.caveats import meaning
from harness.report.view import FORMATS, Row, View, number

TILES = ("latency_ms", "accuracy", "size_bytes", "peak_memory_bytes", "energy_j")


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure of the pick: `value`, and below it `note`, how it stands to the reference."""

    name: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Headline:
    """`sentence` in pieces: (text, is a variant's name). `tiles` of the pick, `details` one line each."""

    sentence: tuple[tuple[str, bool], ...]
    tiles: tuple[Tile, ...] = ()
    details: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "".join(f"`{text}`" if name else text for text, name in self.sentence)


def headline(view: View, why_not: str | None = None) -> Headline:
    """The pick of one device with its figures, the robust pick of several with a line for each, or why none.

    `why_not`: the reason as the pick's own analysis gave it, where the caller has it."""
    pick = view.document["pick"]
    if not pick:
        others = tuple(f"{entry['device']}: {_what(view, entry)}" for entry in view.picks)
        return Headline(sentence=((why_not or _why_none(view), False),), details=others)
    rows = view.find(pick)
    alone = rows[0] if len(rows) == 1 else None
    found = figures(view, alone) if alone else ""
    chosen = "; chosen on validation" if view.on_validation else ""
    rest = f" as {_format(pick)} {_place(pick)}{': ' if found else ''}{found}{_sure(pick)}{chosen}"
    sentence = (("Ship ", False), (str(pick["variant"]), True), (rest, False))
    details = (*_everywhere(view, pick, rows), *_details(view, pick, rows))
    return Headline(sentence=sentence, tiles=tuple(tiles(view, alone)) if alone else (), details=details)


def for_device(document: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The document as if only this device had been measured: its results, front and own pick."""
    picks = [entry for entry in document["picks"] or () if entry["device"] == device]
    return dict(document) | {
        "results": [r for r in document["results"] if r["device"] in (None, device)],
        "front": [entry for entry in document["front"] if entry["device"] == device],
        "picks": picks if document["picks"] is not None else None,
        "pick": picks[0] if picks else None,
        "robust_front": [],
    }


def tiles(view: View, row: Row) -> Iterator[Tile]:
    """The row's figures with a number, each against the reference in the same place."""
    base = view.reference(row)
    for key in TILES:
        value = row.value(key)
        if value is not None:
            note = _against(view, row, base, key) if base and base.index != row.index else ""
            yield Tile(name=view.name(key), value=units.human(view.unit(key), value, key), note=note)


def _against(view: View, row: Row, base: Row, key: str) -> str:
    """`0.35× of fp32`; for a task metric the change in its own unit."""
    of, value, was = base.result["variant"], row.value(key), base.value(key)
    if value is None or was is None:
        return ""
    if key == "accuracy":
        unit = view.unit(key)
        text = units.human(unit, value - was, "accuracy_drop")
        return f"{'+' if value > was else ''}{text} against {of}"
    return f"{units.ratio(value / was)} of {of}" if was > 0 < value else ""


def _figure(view: View, row: Row, key: str) -> str | None:
    value = row.value(key)
    if value is None:
        return None
    base = view.reference(row)
    note = _against(view, row, base, key) if base and base.index != row.index else ""
    text = units.human(view.unit(key), value, key)
    return f"{text} ({note.partition(' against')[0]})" if note and key != "size_bytes" else text


def figures(view: View, row: Row) -> str:
    """Latency, accuracy and size, each against the reference: `21.1 µs (0.35× of fp32), 98.3 % (−0.40 pt), 72.4 KB`."""
    return ", ".join(filter(None, (_figure(view, row, key) for key in ("latency_ms", "accuracy", "size_bytes"))))


def _everywhere(view: View, pick: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    """The figures of a pick for several places, and where a device alone would choose otherwise."""
    if len(rows) > 1:
        yield from (f"{row.label}: {figures(view, row)}" for row in rows)
        what = ("variant", "exporter", "backend", "seed", "threads", "cpus", "context")
        others = (entry for entry in view.picks if any(entry[k] != pick[k] for k in what))
        yield from (f"{entry['device']} alone: {_what(view, entry)}" for entry in others)


def _what(view: View, entry: Mapping[str, Any]) -> str:
    """A device's own pick, with its figures where it is one result."""
    rows = view.find(entry)
    found = f", {figures(view, rows[0])}" if len(rows) == 1 else ""
    return f"{entry['variant']} {_format(entry)}{found}{_sure(entry)}"


def _details(view: View, pick: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[str]:
    if up := pick.get("runner_up"):
        found = view.find(up)
        measured = f", {figures(view, found[0])}" if len(found) == 1 else ""
        yield f"Runner-up: {up['variant']} {_format(up)}{measured}"
    if view.on_validation:
        yield from (_validation(view, row, len(rows) > 1) for row in rows)
    for row in rows:
        yield from _over_seeds(view, row, len(rows) > 1)
    for caveat in dict.fromkeys(c for row in rows for c in row.caveats):
        yield f"Caveat: {caveat}: {meaning(caveat)}"
    if pick.get("settle"):
        yield f"To be surer: {pick['settle']}"
    if pick.get("binding"):
        yield f"Binding constraint: {pick['binding']}"


def _validation(view: View, row: Row, several: bool) -> str:
    """By which figures of the validation split the pick was made, so that nobody takes the test split's for them."""
    keys = [key for key in ("validation_accuracy", "validation_drop") if row.value(key) is not None]
    said = ", ".join(f"{view.name(key)} {view.judged_text(row, key)}" for key in keys) or "no score there"
    return f"Chosen on validation{f', {row.label}' if several else ''}: {said}; the test split only reports"


def _over_seeds(view: View, row: Row, several: bool) -> Iterator[str]:
    """The spread over trainings of what the pick was judged by."""
    key = "validation_accuracy" if view.on_validation else "accuracy"
    if found := row.seeds(key):
        scale = units.scale(view.unit(key), [found["mean"]], key)
        values = [units.digits(v * scale.factor) for v in found["values"].values()]
        said = f"{units.mean_sd(found['mean'] * scale.factor, found['sd'] * scale.factor)}{scale.suffix}"
        where = f", {row.label}" if several else ""
        yield f"Judged by {found['n']} trainings{where}: {view.name(key)} {said} ({', '.join(values)})"


def _format(entry: Mapping[str, Any]) -> str:
    return FORMATS.get(entry["exporter"], str(entry["exporter"]))


def _place(pick: Mapping[str, Any]) -> str:
    device = "every device" if pick["device"] == "*" else str(pick["device"])
    return f"on {device}{' for every input' if pick['input'] == '*' else ''}"


def _sure(entry: Mapping[str, Any]) -> str:
    probability = number(entry.get("probability"))
    return "" if probability is None else f"; sure: {percent(probability)}"


def percent(probability: float) -> str:
    """Never rounded to certainty: 0.9999 is `> 99 %`."""
    if 0.995 <= probability < 1:
        return "> 99 %"
    if 0 < probability < 0.005:
        return "< 1 %"
    return f"{probability * 100:.0f} %"


def _why_none(view: View) -> str:
    bad = [r.result for r in view.rows if not r.ok and r.result["reason"]]
    picks = view.document["picks"]
    if not view.rows:
        return "Nothing was planned, so there is nothing to pick."
    if not view.ok:
        reason, count = Counter(str(r["reason"]) for r in bad).most_common(1)[0] if bad else ("no reason given", 0)
        return f"Nothing could be measured. Commonest reason ({count} of {len(view.rows)}): {reason}"
    if picks is None:
        return "No pick: a quick run's numbers are not good enough to choose by."
    if picks:
        return "No single variant is right for every device; each device has its own pick."
    return "No pick: the experiment sets no pick, or no variant holds its constraints for sure."
