"""Measured speed-up beside the predicted one, what explains the difference, and the time that each step took.

Everything is as the document says it (analyze/why.py); here it is only sorted and drawn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.report import templates, units
from harness.report.view import Row, View, number, view

_SYMBOL = {"as predicted": "as predicted", "slower than predicted": "slower", "faster than predicted": "faster"}


class Why:
    title: ClassVar[str] = "Why faster or not"

    def render(self, data: PageData) -> str | None:
        shown = view(data.document)
        compared, took = list(bars(shown)), list(steps(shown))
        if not compared and not took:
            return None
        return templates.render("why.html", bars=compared, without=without(shown), steps=took)


def bars(shown: View) -> Iterator[dict[str, Any]]:
    """One entry a compared result, the largest measured speed-up first. Positions are percent of the width, on a
    logarithmic scale that holds all of them and 1×: twice as fast is as far from it as half as fast."""
    pairs = [(row, row.why) for row in shown.ok if row.why]
    at = _logarithmic([w[key] for _, w in pairs for key in ("measured_speedup", "predicted_speedup")])
    for row, why in sorted(pairs, key=lambda pair: -pair[1]["measured_speedup"]):
        measured, predicted, low_high = why["measured_speedup"], why["predicted_speedup"], why["ci95"]
        ci = (low_high[0], low_high[1]) if isinstance(low_high, list) else None
        text, half = units.spread(measured, ci)
        yield {
            "label": row.label,
            "index": row.index,
            "on": row.on,
            "picked": row.pick is not None,
            "caveats": row.caveats,
            "measured": f"{text}×",
            "half": half,
            "predicted": units.ratio(predicted),
            "verdict": _SYMBOL.get(why["verdict"], why["verdict"]),
            "left": min(at(measured), at(1.0)),
            "width": round(abs(at(measured) - at(1.0)), 2),
            "mark": at(predicted),
            "one": at(1.0),
            "explains": [cause["text"] for cause in why["explains"]],
        }


def _logarithmic(ratios: Sequence[float]) -> Callable[[float], float]:
    low, high = min([*ratios, 1.0]) / 1.1, max([*ratios, 1.0]) * 1.1
    return lambda ratio: round(100 * math.log(ratio / low) / math.log(high / low), 2)


def without(shown: View) -> list[tuple[str, list[str]]]:
    """(reason, labels) of usable results that are compared with nothing."""
    found: dict[str, list[str]] = {}
    for row in shown.ok:
        said = row.result.get("why") or {}
        if "absent" in said:
            found.setdefault(str(said["absent"]), []).append(row.label)
    return list(found.items())


def steps(shown: View) -> Iterator[dict[str, Any]]:
    """Per variant and seed: its steps with what each took when it was built, and their sum."""
    seen: dict[tuple[Any, ...], Row] = {}
    for row in shown.rows:
        if row.result.get("steps"):
            seen.setdefault((row.result["variant"], row.result["seed"]), row)
    several = "seed" not in shown.shared
    for (variant, seed), row in seen.items():
        known = [(str(s["step"]), number(s["seconds"]) or 0.0) for s in row.result["steps"]]
        yield {
            "label": f"{variant} seed {seed}" if several else variant,
            "steps": [f"{name} {units.seconds(taken)}" for name, taken in known],
            "total": units.seconds(sum(taken for _, taken in known)) if len(known) > 1 else None,
        }


_: type[Section] = Why
