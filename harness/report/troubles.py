"""What is not among the numbers, and why: failed, invalid and skipped results, absent metrics, dropped objectives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import conditions, templates
from harness.report.caveats import meaning
from harness.report.view import View, view

STATUSES = {
    "failed": "tried and broke, or gave a wrong output",
    "invalid": "measured, but the numbers cannot be trusted",
    "skipped": "this pair cannot exist, or this device cannot run it",
    "not ranked": "measured, but an objective that others have is missing",
}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Results that share a reason. `subject`: the status, the metric or the caveat."""

    subject: str
    reason: str
    labels: tuple[str, ...]


class Troubles:
    title: ClassVar[str] = "What is missing, and why"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        found = {
            "failures": failures(shown),
            "absences": absences(shown),
            "caveats": caveats(shown),
            "dropped": list(dropped(data.document)),
        }
        if not any(found.values()):
            return None
        return templates.render("troubles.html", statuses=STATUSES, usable=len(shown.ok), **found)


def failures(shown: View) -> list[Group]:
    """Results that are not ok, grouped by status (worst first) and reason; then those that are ok but not ranked."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in shown.rows:
        if not row.ok or row.result["reason"]:
            status = "not ranked" if row.ok else str(row.result["status"])
            key = (status, str(row.result["reason"] or "no reason was given"))
            groups.setdefault(key, []).append(row.label)
    order = list(STATUSES)
    made = [Group(subject=s, reason=reason, labels=tuple(labels)) for (s, reason), labels in groups.items()]
    return sorted(made, key=lambda g: order.index(g.subject) if g.subject in order else len(order))


def absences(shown: View) -> list[Group]:
    """Metrics that usable results lack, grouped by metrics of one reason; the unusable have theirs above."""
    missing: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for name in dict.fromkeys(name for row in shown.ok for name in row.result["metrics"]):
        reasons: dict[str, list[str]] = {}
        for row in shown.ok:
            if row.value(name) is None and name in row.result["metrics"]:
                reasons.setdefault(row.absent(name) or "not measured", []).append(row.label)
        for reason, labels in reasons.items():
            missing.setdefault((reason, tuple(labels)), []).append(shown.name(name))
    return [
        Group(subject=", ".join(names), reason=reason, labels=labels) for (reason, labels), names in missing.items()
    ]


def caveats(shown: View) -> list[Group]:
    groups: dict[str, list[str]] = {}
    for row in shown.ok:
        for caveat in row.caveats:
            groups.setdefault(caveat, []).append(row.label)
    return [Group(subject=c, reason=meaning(c), labels=tuple(labels)) for c, labels in groups.items()]


def dropped(document: Mapping[str, Any]) -> Iterator[str]:
    """`objectives_dropped` as sentences, whether by device or by metric."""
    for key, value in document["objectives_dropped"].items():
        if isinstance(value, Mapping):
            yield from (f"{metric} on {key}: {reason}" for metric, reason in value.items())
        elif isinstance(value, list):
            yield f"{', '.join(map(str, value))} on {key}"
        else:
            yield f"{key}: {value}"


def told(shown: View) -> Iterator[tuple[str, list[str]]]:
    """The same for terminal and markdown: heading and lines; and what surrounded the numbers that are there."""
    said = [
        ("Not counted", [f"{g.subject}: {_who(g.labels)}: {g.reason}" for g in failures(shown)]),
        ("Not measured", [f"{g.subject}: {g.reason}{_where(shown, g.labels)}" for g in absences(shown)]),
        ("Objectives dropped", list(dropped(shown.document))),
        ("Conditions", conditions.told(shown)),
        ("Caveats", [f"{g.subject}: {g.reason}{_where(shown, g.labels)}" for g in caveats(shown)]),
    ]
    return ((heading, lines) for heading, lines in said if lines)


def _who(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{', '.join(labels[:3])} and {len(labels) - 3} more"


def _where(shown: View, labels: Sequence[str]) -> str:
    return "" if len(labels) == len(shown.ok) else f" ({_who(labels)})"


_: type[Section] = Troubles
