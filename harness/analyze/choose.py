"""Front, picks and dropped objectives of a session's results: the lower half of the results document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analyze.draws import Raw
from harness.analyze.objectives import Ranking, ranking
from harness.analyze.pick import decide
from harness.analyze.places import cell, labels
from harness.analyze.robust_front import NO_PROBABILITY, robust_front
from harness.analyze.seeds import represented
from harness.analyze.selection import judged_by, selected_on
from harness.analyze.ties import standing
from harness.metrics import constraint
from harness.types import Constraint, Session


def choose(results: Sequence[dict[str, Any]], raw: Sequence[Raw], session: Session) -> dict[str, Any]:
    """`selected_on`, fronts, picks and dropped objectives. Writes into `results` why one that is ok is not ranked.

    Fronts and picks are made per device and input case; `robust_front` and `pick` over several devices. Quick sessions
    have no picks. Of a variant with several seeds one result is ranked (seeds.py)."""
    experiment, on = session.package.experiment, selected_on(session)
    objectives = list(dict.fromkeys(judged_by(o, on) for o in experiment.get("objectives", ())))
    spoken_for = represented(results)
    for i, seed in spoken_for.items():
        results[i]["reason"] = f"represented by seed {seed}"
    fronts: list[dict[str, Any]] = []
    near: list[dict[str, Any]] = []
    dropped: dict[str, dict[str, str]] = {}
    everywhere: list[int] = []
    for device in _distinct(r["device"] for r in results):
        indices = [i for i, r in enumerate(results) if r["device"] == device and i not in spoken_for]
        ranked = ranking(results, indices, objectives)
        everywhere += ranked.ranked
        for i, why in ranked.unranked.items():
            results[i]["reason"] = why
        if ranked.dropped:
            dropped[device] = dict(ranked.dropped)
        for case in _distinct(results[i]["input"] for i in ranked.ranked):
            on_it, beside = _front(results, raw, ranked, case)
            fronts += on_it
            near += beside
    kept = [o for o in objectives if not any(o in lacking for lacking in dropped.values())]
    found: dict[str, Any] = {
        "selected_on": on, "front": fronts, "near_front": near,
        "robust_front": robust_front(results, raw, everywhere, kept), "picks": None, "pick": None,
    }  # fmt: skip
    if not session.quick:
        found |= picks(results, raw, experiment.get("pick") or {}, on)
    return found | {"objectives_dropped": dropped}


def _front(
    results: Sequence[dict[str, Any]], raw: Sequence[Raw], ranked: Ranking, case: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The front of one device and input case, the first objective's best first; and what may belong to it as well, the
    most probable first."""
    chosen = [(i, f) for i, f in zip(ranked.ranked, ranked.figures, strict=True) if results[i]["input"] == case]
    table = [figures for _, figures in chosen]
    found = standing(table, ranked.objectives, [raw[i] for i, _ in chosen])
    cells = [cell(results[i]) for i, _ in chosen]
    said = labels(cells)
    on = [
        cells[k] | {
            "probability": {"absent": NO_PROBABILITY} if p is None else p,
            "tied_with": [said[other] for other in found.tied.get(k, ())],
        }
        for k, p in sorted(found.on.items(), key=lambda item: table[item[0]][0].oriented(table[item[0]][0].value))
    ]  # fmt: skip
    near = [cells[k] | {"probability": p} for k, p in sorted(found.near.items(), key=lambda item: -item[1])]
    return on, near


def picks(results: Sequence[dict[str, Any]], raw: Sequence[Raw], rule: Mapping[str, Any], on: str) -> dict[str, Any]:
    """`picks`: one per device for which something fits. `pick`: that one, or the robust one over all devices.

    `on`: the split that decides, `test` or `validation`."""
    asked: dict[str, Any] = {
        "minimize": rule.get("minimize", "latency_ms"), "confidence": rule.get("confidence", 0.9),
        "where": [_constraint(c) for c in rule.get("where", ())], "selected_on": on,
    }  # fmt: skip
    devices = _distinct(r["device"] for r in results)
    per_device = []
    for device in devices:
        mine = [i for i, r in enumerate(results) if r["device"] == device]
        own, own_raw = [results[i] for i in mine], [raw[i] for i in mine]
        decision = decide(own, raw=own_raw, **asked)
        per_device.append(decision.pick)
    found = [p for p in per_device if p is not None]
    if len(devices) == 1:
        return {"picks": found, "pick": found[0] if found else None}
    robust = decide(results, raw=raw, **asked).pick if devices else None
    return {"picks": found, "pick": robust}


def _distinct(values: Any) -> list[str]:
    return list(dict.fromkeys(v for v in values if v is not None))


def _constraint(text: str | Constraint) -> Constraint:
    return text if isinstance(text, Constraint) else constraint(text)
