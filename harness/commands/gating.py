"""`gate`: the baseline beside what is new, budgets and history, in one answer for CI. Never green by silence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from harness import config, pairs, pipeline, records
from harness import package as packages
from harness.analyze import budgets as budgeting
from harness.analyze import compare as judging
from harness.analyze import history as tracking
from harness.analyze.budgets import Budgeted
from harness.analyze.compare import Compared
from harness.analyze.digest import Digest
from harness.analyze.judge import ONCE
from harness.commands import alarms as alarming
from harness.commands import beside, comparing, sides
from harness.commands.alarms import Raised
from harness.commands.common import Conclusion, artifacts_folder, conclusion, page_name, store_url, write_page
from harness.commands.comparing import Asked
from harness.commands.measuring import checked_label, narrow_package
from harness.commands.sides import Sides
from harness.devices import catalog
from harness.devices.spec import resolve_all
from harness.errors import HarnessError, UsageError
from harness.experiment import Experiment, Measure
from harness.metrics import METRICS, nearest
from harness.package import Files
from harness.quiet import stdout_to_stderr
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Cell, DeviceSpec, Package, Session


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a gate judges. `session`: the head's newest. `paired`: it was measured beside the baseline just now.
    `releases`: every stored session of the experiment."""

    of: Sides
    compared: list[Compared]
    session: Session
    paired: bool
    releases: list[Digest]
    notes: tuple[str, ...] = ()


def gate(
    source: Path | None,
    label: str | None,
    variants: Sequence[str],
    experiment: str | None,
    max_minutes: float | None,
    asked: Asked,
) -> int:
    across = asked.factors
    if source is not None and experiment is not None:
        raise UsageError("--experiment is for a gate of what is stored", f"{source} names its own")
    if source is None and max_minutes is not None:
        raise UsageError("--max-minutes: nothing is measured without a CONFIG", "harness gate CONFIG")
    if source is None and asked.repeats is not None and not asked.confirm:
        raise UsageError("--repeats: nothing is measured without a CONFIG or --confirm", "harness gate CONFIG")
    if source is not None and not source.is_dir() and (beside_it := source.resolve().parent / "devices.yaml").exists():
        asked = dataclasses.replace(asked, devices_file=asked.devices_file or beside_it)  # a --confirm finds it too
    found = (
        _stored(label, variants, experiment, asked, across)
        if source is None
        else _measured(source, checked_label(label, source), variants, max_minutes, asked, across)
    )
    return _told(found, asked)


# -- what is there ---------------------------------------------------------------------------------------------------


def _baseline(store: Store, experiment: str) -> str:
    """Raises HarnessError (exit 3): a gate that compares with nothing is never green."""
    if (label := store.baseline(experiment)) is not None:
        return label
    known = [s["label"] for s in store.list_sessions() if s["experiment"] == experiment and s["label"]]
    begin = f"harness baseline set {quote(known[0])}" if known else "harness run CONFIG --label v1.0, then "
    hint = begin if known else f"{begin}harness baseline set v1.0"
    raise HarnessError(f"experiment {experiment!r} has no baseline to compare with", hint)


def _stored(
    label: str | None, variants: Sequence[str], experiment: str | None, asked: Asked, across: frozenset[str]
) -> Evidence:
    """The newest label's sessions, or those of `label`, against the baseline's, as they are stored."""
    store = Store.open(store_url(asked.store))
    try:
        chosen = experiment or sides.of_labels(store.list_sessions(), [label] if label else [])
        baseline = _baseline(store, chosen)
        all_of = records.releases(store, chosen)
        given = label is not None
        if label is None and all_of:
            label = all_of[-1].label
        if label == baseline and given:
            raise UsageError(f"label {label!r} is the baseline itself", "name a newer label")
        if label == baseline:
            raise HarnessError(
                f"label {baseline!r} is the baseline itself, and nothing newer is stored",
                "measure a new one: harness run CONFIG --label NAME, or harness gate CONFIG",
            )
        head = records.labelled(store, chosen, label) if label else all_of[-1:]
        base = records.labelled(store, chosen, baseline)
        sides.refuse_unknown_devices([*base, *head], asked.devices)
        base, head = sides.narrowed(base, asked.devices), sides.narrowed(head, asked.devices)
        session = store.session(head[-1].session)
    finally:
        store.close()
    thresholds = session.package.thresholds
    compared = judging.compare(base, head, all_of, across=across, thresholds=thresholds)
    known = {row.cell.variant for row in compared}
    for name in variants:
        if name not in known:
            hint = nearest(name, known) if known else "nothing was compared"
            raise UsageError(f"nothing of a variant {name!r} is stored", hint)
    name = label or f"{sides.RUN}{session.id[:8]}"
    of = Sides(experiment=chosen, base=baseline, head=name, base_digests=tuple(base), head_digests=tuple(head))
    return Evidence(of=of, compared=_of_variants(compared, variants), session=session, paired=False, releases=all_of)


def _of_variants(compared: Sequence[Compared], variants: Sequence[str]) -> list[Compared]:
    return [row for row in compared if not variants or row.cell.variant in variants]


# -- measured just now -----------------------------------------------------------------------------------------------


def _measured(
    source: Path,
    label: str | None,
    variants: Sequence[str],
    max_minutes: float | None,
    asked: Asked,
    across: frozenset[str],
) -> Evidence:
    """What `source` builds, in the same blocks as the baseline's files."""
    packaged = source.is_dir()
    plan = packages.read(source) if packaged else config.load(source)
    name, devices = _named(plan[0])
    folder = Path.cwd() if packaged else Path(str(getattr(plan[0], "folder", ".")))
    settings = asked.settings(folder, label=label, max_minutes=max_minutes, carried=packaged)
    specs = resolve_all(asked.devices or devices, catalog.load(asked.devices_file, folder))
    pipeline.refuse_mixed(specs)
    baseline, base = _base(settings, name, label)
    with stdout_to_stderr(), Screen() as screen:
        head, files = _head(plan, variants, specs, settings, screen)
        both = pairs.merged(head, narrow_package(base.package, _known(base.package, variants)), files)
        session = pairs.measure(both, files, specs, settings, screen, repeats=asked.repeats)
    store = Store.open(settings.store_url)
    try:
        session = store.session(session.id)
        old, new = pairs.digests(store, session, both)
        all_of = records.releases(store, name)
        before = records.labelled(store, name, baseline)
    finally:
        store.close()
    thresholds = head.thresholds
    compared = judging.compare([old], [new], all_of, across=across, thresholds=thresholds)
    stored = judging.compare(before, [new], all_of, across=across, thresholds=thresholds)
    here = {device.facts.device_id for device in session.devices if device.facts}
    merged = comparing.with_apart(compared, both.apart, stored, here)
    named = {device.spec.name for device in session.devices}
    merged += [
        row
        for row in _lost(stored, merged)
        if row.cell.device_id in here or (not asked.devices and row.device not in named)
    ]
    merged = _of_variants(merged, variants)
    called = label or f"{sides.RUN}{session.id[:8]}"
    of = Sides(experiment=name, base=baseline, head=called, base_digests=(*before, old), head_digests=(new,))
    away = {c.device for d in before for c in d.cells if c.cell.device_id and c.cell.device_id not in here}
    notes = [f"the baseline was measured on {sides.label_of(d, '', asked.identify)} too; this gate was not"
             for d in sorted(away - {d.spec.name for d in session.devices})]  # fmt: skip
    return Evidence(of=of, compared=merged, session=session, paired=True, releases=all_of, notes=tuple(notes))


def _lost(stored: Sequence[Compared], merged: Sequence[Compared]) -> list[Compared]:
    """What was measured of the baseline and is on neither side now: a cell, or a metric that the plan no longer has."""
    cells, known = {row.cell for row in merged}, {(row.cell, row.metric) for row in merged}
    return [
        row
        for row in stored
        if row.outcome == "missing"
        and (row.cell not in cells if row.metric == judging.EVERY_METRIC else (row.cell, row.metric) not in known)
    ]


def _named(plan: Experiment | Package) -> tuple[str, list[str]]:
    if isinstance(plan, Experiment):
        return plan.name, list(plan.devices)
    return str(plan.experiment["name"]), list(plan.experiment["devices"])


def _base(settings: Settings, experiment: str, label: str | None) -> tuple[str, Session]:
    """The baseline's label and its newest session, asked for before anything is built."""
    store = Store.open(settings.store_url, create=True)
    try:
        baseline = _baseline(store, experiment)
        if label == baseline:
            raise UsageError(f"label {label!r} is the baseline itself", "give what is new a label of its own")
        newest = records.labelled(store, experiment, baseline)[-1]
        return baseline, records.head_of(store.session(newest.session))
    finally:
        store.close()


def _head(
    plan: tuple[Any, Any],
    variants: Sequence[str],
    specs: Sequence[DeviceSpec],
    settings: Settings,
    screen: Screen,
) -> tuple[Package, Files]:
    if isinstance(plan[0], Package):
        head = narrow_package(plan[0], variants)
        pipeline.refuse_impossible_threads(Measure.model_validate(head.experiment["measure"]), specs)
        return head, packages.keep(head, plan[1], settings.files)
    experiment = pipeline.narrowed(plan[0], [spec.name for spec in specs], variants)
    pipeline.refuse_impossible_threads(experiment.measure, specs)
    return pipeline.build(experiment, plan[1], settings, screen)


def _known(package: Package, variants: Sequence[str]) -> list[str]:
    """Those of `variants` that the package has; where it has none of them, all it has is left out by _of_variants."""
    return [name for name in variants if any(build.variant == name for build in package.builds)]


# -- the judgement ---------------------------------------------------------------------------------------------------


def _told(found: Evidence, asked: Asked) -> int:
    experiment, thresholds = found.session.package.experiment, found.session.package.thresholds
    store = Store.open(store_url(asked.store))
    try:
        compared = found.compared
        if asked.confirm:
            compared = comparing.confirmed(compared, found.of.base_digests, found.of.head_digests, store, asked)
        series = tracking.history(found.releases, thresholds=thresholds)
        alarms = alarming.raised(series, found.of.base, compared, found.paired)
        if asked.confirm:
            alarms = alarming.confirmed(alarms, store, asked, thresholds)
        shown = comparing.document(found.of, compared, [found.session], asked)
        past = beside.history(store, found.of.experiment, series, found.releases, asked.identify)
        out = Path("reports") / f"{page_name(found.session)}.html" if found.paired else None
        concluded = conclusion(store, found.session, artifacts_folder(store_url(asked.store)), out, asked.identify)
    finally:
        store.close()
    shipped = _shipped(concluded)
    cells = [cell for digest in found.of.head_digests[-1:] for cell in digest.cells]
    if shipped is not None and asked.devices:  # what is not asked about is not judged
        asked_for = {cell.cell.device_id for cell in cells}
        shipped = [cell for cell in shipped if cell.device_id in asked_for]
    budgets = budgeting.judged(cells, experiment.get("budgets") or {}, shipped)
    lost = comparing.short_of(found.session, asked.identify)
    failures = _failures(compared, budgets, alarms, asked)
    if shipped is not None and not shipped and not lost and any(cell.status == "ok" for cell in cells):
        failures.append("no variant fits the pick's constraints")
    gaps = [*lost, *_gaps(compared, budgets, asked)]
    shown |= {
        "passed": not failures and not gaps,
        "failures": [*failures, *gaps],
        "budgets": _budget_rows(budgets, experiment, asked),
        "alarms": [alarming.row(alarm, asked.identify) for alarm in alarms],
        "report": concluded.document["report"],
        "notes": list(found.notes),
    }
    if out is not None:
        write_page(concluded, out, asked.identify, shown, past)
    comparing.present(shown, asked)
    return 1 if failures else 3 if gaps else 0


def _shipped(found: Conclusion) -> list[Cell] | None:
    """What would ship; None where the experiment has no `pick`: then everything does."""
    if not found.session.package.experiment.get("pick"):
        return None
    fields = [f.name for f in dataclasses.fields(Cell)]
    return [Cell(**{name: entry[name] for name in fields}) for entry in found.document["picks"]]


def _failures(
    compared: Sequence[Compared], budgets: Sequence[Budgeted], alarms: Sequence[Raised], asked: Asked
) -> list[str]:
    counts = {
        "worse": sum(row.outcome == "worse" for row in compared),
        "inconclusive": comparing.open_questions(compared, asked),
        "over budget": sum(b.within is False for b in budgets),
        "worse since an earlier release": sum(a.change.confirmed is True and not a.compared for a in alarms),
    }
    return [f"{n} {what}" for what, n in counts.items() if n]


def _gaps(compared: Sequence[Compared], budgets: Sequence[Budgeted], asked: Asked) -> list[str]:
    """What keeps the gate from being green though nothing is known to be worse."""
    if not any(row.outcome in ("worse", "better", "same", "inconclusive") for row in compared):
        return ["nothing was compared"]
    blind = [row for row in compared if _tells_nothing(row)]
    told = [f"{len(blind)} without any interval: {blind[0].reason or 'one run has none'}"] if blind else []
    counts = {what: sum(row.outcome == what for row in compared) for what in ("missing", "incomparable")}
    beyond = sum(counts.values()) > asked.allow_missing
    unjudged = sum(b.within is None for b in budgets)
    budget = f"{unjudged} budget{'s' if unjudged > 1 else ''} cannot be judged"
    lacking = [f"{n} {what}" for what, n in counts.items() if n and beyond]
    return [*told, *lacking, *([budget] if unjudged else [])]


def _tells_nothing(row: Compared) -> bool:
    """What is measured by runs, and not often enough that anything could be seen. (A task metric without a score per
    sample never has an interval, and what is not positive no ratio.)"""
    open_still = row.outcome == "inconclusive" and row.metric not in (*ONCE, "accuracy")
    return open_still and row.ci95 is None and row.ratio is not None


def _budget_rows(budgets: Sequence[Budgeted], experiment: Mapping[str, Any], asked: Asked) -> list[dict[str, Any]]:
    """As `gate --json` tells them; `better` is the direction, which for the task metric is the experiment's."""
    task = dict((experiment.get("data") or {}).get("metric") or {})
    rows = budgeting.as_json(budgets)
    for row in rows:
        base = METRICS[row["metric"].partition(".")[0]]
        row["better"] = task.get("better", base.better) if base.name == "accuracy" else base.better
        if base.name == "accuracy" and task.get("name", "accuracy") != "accuracy":
            row["unit"] = "1"
        if row["device"] is not None:
            row["device"] = sides.label_of(row["device"], row["device_id"] or "", asked.identify)
    return rows
