"""This release beside another: the verdict, what is worse and what moved with it, what could not be compared and why.

Everything is as `compare --json` says it; here it is only grouped, named and put into words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.metrics import METRICS
from harness.report import release_words, templates, units
from harness.report.release_words import CONFIRMED
from harness.report.troubles import Group
from harness.report.view import Row, View, number, view

#: rows of one outcome that are written out, the largest change first; the counts are of all
_MOST = 500
_WORDS = {
    "worse": "Worse than {base}: {count} of {all} figures{rest}.",
    "better": "Better than {base}: {count} of {all} figures{rest}, none is worse.",
    "same": "No change against {base}: {count} of {all} figures are the same{rest}.",
    "inconclusive": "No change against {base} can be told for sure: {count} of {all} figures are inconclusive.",
    "incomparable": "Not comparable with {base}: {count} of {all} figures could not be compared.",
}
#: how a verdict and an outcome are coloured, by the status classes of page.css
COLOUR = {"worse": "failed", "better": "ok", "same": "ok", "inconclusive": "invalid", "incomparable": "invalid",
          "missing": "invalid"}  # fmt: skip
_WITHIN = {True: ("ok", "within"), False: ("failed", "over"), None: ("invalid", "not known")}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One line of the table of changes. `moved`: (factor, base, head); `detectable`: what could have been seen."""

    label: str
    index: int | None
    on: int | str | None
    metric: str
    base: str
    head: str
    ratio: str
    interval: str
    note: str
    detectable: str
    moved: tuple[tuple[str, str, str], ...]


class Comparison:
    title: ClassVar[str] = "Against the baseline"

    def render(self, data: PageData) -> str | None:
        found = data.comparison
        if found is None:
            return None
        shown = view(data.document)
        rows = _rows(found)
        by = {outcome: [row for row in rows if row["outcome"] == outcome] for outcome in COLOUR}
        return templates.render(
            "comparison.html",
            verdict=str(found["verdict"]),
            colour=COLOUR,
            sentence=sentence(found),
            base=release(found["base"]),
            head=release(found["head"]),
            changes=[(name, list(changes(shown, by[name])), len(by[name])) for name in ("worse", "better")],
            apart=[*apart(shown, by["missing"]), *apart(shown, by["incomparable"])],
            inconclusive=list(changes(shown, by["inconclusive"])),
            inconclusive_count=len(by["inconclusive"]),
            same=_same(shown, by["same"]),
            most=_MOST,
            gate=gate(found),
            budgets=[(said, _WITHIN[row["within"]]) for row, said in _told(found, "budgets", release_words.budget)],
            alarms=[said for _, said in _told(found, "alarms", release_words.alarm)],
        )


def gate(found: Mapping[str, Any]) -> tuple[str, str] | None:
    """(colour, sentence) of what the gate said that measured this; None of a comparison that no gate asked for."""
    if "passed" not in found:
        return None
    why = f": {'; '.join(map(str, found['failures']))}" if found["failures"] else ""
    return ("ok" if found["passed"] else "failed"), f"The gate {'passed' if found['passed'] else 'failed'}{why}."


def _told(
    found: Mapping[str, Any], key: str, words: Callable[[Mapping[str, Any]], str]
) -> list[tuple[Mapping[str, Any], str]]:
    """The gate's rows of this key, each with its sentence."""
    rows = list(found.get(key) or ())
    return [(row, f"{name}: {words(row)}") for row, name in zip(rows, release_words.names(rows)[0], strict=True)]


def sentence(found: Mapping[str, Any]) -> str:
    """The verdict in a sentence with its counts."""
    rows, verdict = _rows(found), str(found["verdict"])
    counts = Counter(str(row["outcome"]) for row in rows)
    if not rows:
        return f"Nothing could be compared with {release(found['base'])}."
    here = counts["incomparable"] + counts["missing"] if verdict == "incomparable" else counts[verdict]
    rest = [f"{counts[other]} {other}" for other in ("better", "inconclusive", "incomparable", "missing") if
            other != verdict and counts[other]]  # fmt: skip
    also = f"; {', '.join(rest)}" if rest else ""
    said = _WORDS.get(verdict)
    if said is None:
        return f"Against {release(found['base'])}: {verdict}, {here} of {len(rows)} figures{also}."
    return said.format(base=release(found["base"]), count=here, all=len(rows), rest=also)


def release(side: Any) -> str:
    """A label, or how else a side is named."""
    if isinstance(side, Mapping):
        side = next((side[key] for key in ("label", "name", "session") if side.get(key)), None)
    return "a release without a label" if side is None else str(side)


def _rows(found: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return list(found["comparisons"])


def changes(shown: View, rows: Iterable[Mapping[str, Any]]) -> Iterator[Change]:
    """The largest change first, `_MOST` at most."""
    far = sorted(rows, key=lambda row: -abs(math.log(ratio)) if (ratio := number(row["ratio"])) and ratio > 0 else 0.0)
    return (change(shown, row) for row in far[:_MOST])


def change(shown: View, row: Mapping[str, Any]) -> Change:
    same = shown.find(row)
    here: Row | None = same[0] if len(same) == 1 else None
    base, head, ratio = (number(row[key]) for key in ("base", "head", "ratio"))
    detectable = number(row.get("minimum_detectable"))
    told = [str(row["reason"]) if row.get("reason") else "", CONFIRMED.get(row.get("confirmed"), "")]
    return Change(
        label=shown.labelled(row),
        index=here.index if here else None,
        on=shown.on(row["device"]),
        metric=metric_name(shown, str(row["metric"])),
        base=figure(row, base),
        head=figure(row, head),
        ratio=units.ABSENT if ratio is None else factor(ratio),
        interval=_interval(row.get("ci95")),
        note="; ".join(filter(None, told)),
        detectable="" if detectable is None else f"{detectable * 100:.1f} %",
        moved=tuple((str(m["factor"]), _known(m["base"]), _known(m["head"])) for m in row.get("moved") or ()),
    )


def figure(row: Mapping[str, Any], value: float | None) -> str:
    metric = str(row["metric"])
    unit = row.get("unit") or (METRICS[metric].unit if metric in METRICS else "")
    return units.ABSENT if value is None else units.human(str(unit), value, metric)


def factor(ratio: float) -> str:
    """`1.052×`: what is compared is often a few percent."""
    return f"{ratio:.3f}×" if 0.1 <= ratio < 10 else f"{units.digits(ratio)}×"


def metric_name(shown: View, metric: str) -> str:
    return "every figure" if metric == "*" else shown.name(metric)


def _interval(ci: Any) -> str:
    ends = [number(end) for end in ci] if isinstance(ci, Sequence) and not isinstance(ci, str) else []
    return f"{ends[0]:.3f} to {ends[1]:.3f}" if len(ends) == 2 and ends[0] is not None and ends[1] is not None else ""


def _known(value: Any) -> str:
    return "not known" if value is None else str(value)


def apart(shown: View, rows: Iterable[Mapping[str, Any]]) -> list[Group]:
    """What could not be compared, by reason: the cells with their figures."""
    reasons: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        key = (str(row["outcome"]), str(row.get("reason") or "no reason was given"))
        label = shown.labelled(row)
        reasons.setdefault(key, {}).setdefault(label, []).append(metric_name(shown, str(row["metric"])))
    return [
        Group(subject=outcome, reason=reason, labels=tuple(_of(label, names) for label, names in cells.items()))
        for (outcome, reason), cells in reasons.items()
    ]


def _of(label: str, names: Sequence[str]) -> str:
    return label if names == ["every figure"] else f"{label} ({', '.join(names)})"


def _same(shown: View, rows: Sequence[Mapping[str, Any]]) -> str:
    """`612: latency p50 100, file size 100`; empty without any."""
    counts = Counter(metric_name(shown, str(row["metric"])) for row in rows)
    return f"{len(rows)}: {', '.join(f'{name} {n}' for name, n in counts.most_common())}" if rows else ""


_: type[Section] = Comparison
