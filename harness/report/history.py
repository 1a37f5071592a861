"""Since when: every figure over the releases, where its conditions changed and where it did.

Everything is as `history --json` says it. All series travel in the page once, as columns of numbers; history.js draws
the one that is chosen and writes it as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from harness.interfaces import PageData, Section
from harness.metrics import METRICS
from harness.report import templates, units
from harness.report.comparison import factor
from harness.report.release_words import CONFIRMED
from harness.report.view import View, number, view

#: points that the page holds at most: of longer histories the newest releases are drawn, and the page says so
_MOST_POINTS = 300_000
#: changes that are listed
_MOST_CHANGES = 200


class History:
    title: ClassVar[str] = "Over the releases"

    def render(self, data: PageData) -> str | None:
        if data.history is None:
            return None
        shown = view(data.document)
        series = [s for s in data.history["series"] if any(number(p["value"]) is not None for p in s["points"])]
        if not series:
            return None
        listed = sorted(_changes(shown, series), key=lambda found: (not found["worse"], -found["when"], found["label"]))
        made = chart(shown, series)
        made["first"] = _first(shown, series, listed)
        return templates.render(
            "history.html",
            chart=made,
            changes=listed[:_MOST_CHANGES],
            more=max(0, len(listed) - _MOST_CHANGES),
            sentence=sentence(listed, len(series), len(made["releases"])),
            devices=made["devices"],
        )


def signal(data: PageData) -> str | None:
    """One line for the top of the page; None where nothing is worse that became so."""
    if data.history is None:
        return None
    series = data.history["series"]
    worse = [(c["at"] - len(s["points"]), s, c) for s in series for c in s["changes"] if c["stands"]]
    if not worse:
        return None
    _, newest, c = max(worse, key=lambda found: found[0])
    shown = view(data.document)
    since = newest["points"][c["at"]]["label"] or templates.day(newest["points"][c["at"]]["created_utc"])
    count = f"{len(worse)} changes for the worse; the newest: " if len(worse) > 1 else ""
    return f"{count}{shown.name(str(newest['metric']))} of {shown.labelled(newest)}, since {since}."


def sentence(listed: Sequence[Mapping[str, Any]], series: int, releases: int) -> str:
    worse = sum(1 for found in listed if found["worse"])
    over = f"in {series} figures over {releases} {'release' if releases == 1 else 'releases'}"
    if not listed:
        return f"No change found {over}."
    changes = "change" if worse == 1 else "changes"
    return f"{worse} {changes} for the worse and {len(listed) - worse} for the better {over}."


def chart(shown: View, series: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What history.js reads: names once, and of each series its columns (`k` points, `r` the numbers of their
    releases, `v` values in the metric's unit, `q` relative ones, `n` runs, `s` segments' beginnings, `o` and `x`
    reasons, `c` changes). `r` is empty where it counts from 0, `q` where there is none; one number stands for a column
    of equals."""
    keep = max(2, _MOST_POINTS // len(series))
    cut = [dict(s) | {"points": s["points"][-keep:], "cut": max(0, len(s["points"]) - keep)} for s in series]
    releases = _releases(cut)
    variants, devices, metrics = _Numbered(), _Numbered(), _Numbered()
    scales = _scales(cut)
    packed = []
    for s in cut:
        name = shown.labelled({key: value for key, value in s.items() if key not in ("device", "device_id")})
        metric = str(s["metric"])
        numbers = {"w": variants.of(name), "d": devices.of(str(s["device"])), "m": metrics.of(metric)}
        packed.append(numbers | {"why": s.get("reason")} | _columns(s, releases, scales[metric].factor))
    return {
        "variants": variants.names,
        "devices": devices.names,
        "on": [shown.on(name) for name in devices.names],
        "metrics": [{"key": key, "name": shown.name(key), "unit": scales[key].unit} for key in metrics.names],
        "releases": list(releases.values()),
        "left_out": max(s["cut"] for s in cut),
        "series": packed,
    }


class _Numbered:
    """Names in the order of their first appearance, each with its number."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def names(self) -> list[str]:
        return list(self._numbers)


def _releases(series: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Key of a point -> its release: `label`, `day` and its number, oldest first."""
    began: dict[str, tuple[str, str]] = {}
    for s in series:
        for point in s["points"]:
            name = str(point["label"]) if point["label"] is not None else f"without a label, {point['created_utc']}"
            found = (str(point["created_utc"]), name)
            began[_key(point)] = min(began.get(_key(point), found), found)
    ordered = sorted(began, key=lambda key: began[key])
    return {
        key: {"label": began[key][1], "day": templates.day(began[key][0]), "number": i} for i, key in enumerate(ordered)
    }


def _key(point: Mapping[str, Any]) -> str:
    return f"label {point['label']}" if point["label"] is not None else f"at {point['created_utc']}"


def _scales(series: Iterable[Mapping[str, Any]]) -> dict[str, units.Scale]:
    values: dict[str, list[float]] = {}
    unit: dict[str, str] = {}
    for s in series:
        metric = str(s["metric"])
        unit.setdefault(metric, str(s.get("unit") or (METRICS[metric].unit if metric in METRICS else "")))
        values.setdefault(metric, []).extend(v for p in s["points"] if (v := number(p["value"])) is not None)
    return {metric: units.scale(unit[metric], values[metric], metric) for metric in values}


def _columns(s: Mapping[str, Any], releases: Mapping[str, Mapping[str, Any]], factor_: float) -> dict[str, Any]:
    points = s["points"]
    began = {i: ", ".join(map(str, p["began"])) for i, p in enumerate(points) if p.get("began")}
    out: dict[str, Any] = {
        "r": [releases[_key(p)]["number"] for p in points],
        "v": [_short(p["value"], factor_) for p in points],
        "q": [_short(p["relative"], 1.0, 4) for p in points] if s.get("normalised") else [],
        "n": [p["runs"] for p in points],
        "s": {i: began.get(i, "") for i, p in enumerate(points) if i and p["segment"] != points[i - 1]["segment"]},
        "o": {i: str(p["left_out"]) for i, p in enumerate(points) if p.get("left_out")},
        "x": {i: str(p["absent"]) for i, p in enumerate(points) if p.get("absent")},
        "c": [[c["at"] - s["cut"], number(c["ratio"]), bool(c["worse"]), c.get("confirmed"), str(c.get("reason") or "")]
              for c in s["changes"] if c["at"] >= s["cut"]],
    }  # fmt: skip
    if out["r"] == list(range(len(points))):
        out["r"] = []
    for column in "vqn":  # a file's size, the number of runs: mostly one value all along
        if len(set(out[column])) == 1:
            out[column] = out[column][0]
    return out | {"k": len(points)}


def _short(value: Any, by: float, digits: int = 5) -> float | None:
    real = number(value)
    return None if real is None else float(f"{real * by:.{digits}g}")


def _changes(shown: View, series: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for index, s in enumerate(series):
        name = shown.labelled(s)
        for c in s["changes"]:
            ratio = number(c["ratio"])
            point = s["points"][c["at"]]
            before = s["points"][c["at"] - 1] if c["at"] else point
            told = [CONFIRMED.get(c.get("confirmed"), "not measured again"), str(c.get("reason") or "")]
            yield {
                "series": index,
                "label": name,
                "on": shown.on(s["device"]),
                "metric": shown.name(str(s["metric"])),
                "since": str(point["label"] if point["label"] is not None else templates.day(point["created_utc"])),
                "before": str(before["label"] if before["label"] is not None else templates.day(before["created_utc"])),
                "ratio": units.ABSENT if ratio is None else factor(ratio),
                "worse": bool(c["worse"]),
                "said": "; ".join(filter(None, told)),
                "when": c["at"] - len(s["points"]),
            }


def _first(shown: View, series: Sequence[Mapping[str, Any]], listed: Sequence[Mapping[str, Any]]) -> int:
    """The series to draw at first: the newest change for the worse, else the pick's, else any."""
    if listed and listed[0]["worse"]:
        return int(listed[0]["series"])
    picked = {row.index for row in shown.rows if row.pick}
    return next((i for i, s in enumerate(series) if any(row.index in picked for row in shown.find(s))), 0)


_: type[Section] = History
