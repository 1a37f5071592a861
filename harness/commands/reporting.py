"""`report`, `pick` and `runs`: from the store, without torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import more, pipeline
from harness.analyze.selection import selected_on
from harness.commands import beside
from harness.commands.common import (
    artifacts_folder,
    concluded,
    decided,
    discreet,
    emit,
    names_of,
    page,
    page_name,
    store_url,
)
from harness.commands.shipping import refuse_file, ship
from harness.errors import UsageError
from harness.metrics import constraint, metric
from harness.more import Rule
from harness.package import Files
from harness.quiet import stdout_to_stderr
from harness.records import head_of
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Constraint, Session


def _latest(store: Store, experiment: str | None, label: str | None, quick: bool | None = None) -> Session:
    session = head_of(store.session(store.latest(experiment, label, quick)))
    if experiment is None or label is None:
        shown = f" label {session.label}" if session.label else ""
        print(f"{session.experiment}{shown}, session {session.id[:8]} of {session.created_utc[:16]}", file=sys.stderr)
    return session


def report(
    experiment: str | None, label: str | None, out: Path | None, store: str | None, identify: bool, json_out: bool
) -> int:
    url = store_url(store)
    opened = Store.open(url)
    try:
        session = _latest(opened, experiment, label)
        where = out or Path("reports") / f"{page_name(session)}.html"
        more = beside.of_session(opened, session, identify)
        document, _ = page(opened, session, artifacts_folder(url), where, identify, **more)
    finally:
        opened.close()
    if json_out:
        emit(document)
    else:
        print(document["report"])
    return 0


def pick(
    minimize: str | None,
    where: Sequence[str] | None,
    devices: Sequence[str],
    experiment: str | None,
    label: str | None,
    out: Path | None,
    store: str | None,
    identify: bool,
    json_out: bool,
    measure_more: bool = False,
    minutes: float | None = None,
) -> int:
    if minimize is not None:
        metric(minimize)
    given = None if where is None else [constraint(text) for text in where]
    if minutes is not None and not measure_more:
        raise UsageError("--minutes bounds what --measure-more does", "give both")
    if out is not None:
        refuse_file(out)
    url = store_url(store)
    files = artifacts_folder(url)
    opened = Store.open(url)
    try:
        session = _latest(opened, experiment, label, quick=False)  # quick ones never decide
        rule = _rule(session, minimize, given, devices, identify)
        found = _measured_more(opened, session, files, rule, minutes, identify) if measure_more else None
        runs = opened.scored(session.id)
    finally:
        opened.close()
    document = concluded(session, runs, files, None, identify)
    labels = {d.spec.name: pipeline.device_label(d.spec, d.facts, identify) for d in session.devices}
    decision = decided(session, runs, document, rule.minimize, rule.where, [labels[name] for name in rule.devices])
    if out is not None and decision.pick is not None:
        ship(decision.pick, document, session, Files(files), out, rule, identify)
    if json_out:
        more_said = None if found is None else discreet(found.as_json(), identify, names_of(session))
        told = {"reason": decision.reason, "closest": decision.closest, "nearest": list(decision.nearest)}
        emit({"pick": decision.pick, **told, "measured_more": more_said})
    else:
        from harness.report.text import pick_lines

        shown = document | {"pick": decision.pick}
        for line in pick_lines(shown, decision.reason, decision.closest, decision.nearest[1:]):
            print(line)
        if found is not None:
            print(discreet(found.line(), identify, names_of(session)))
        if out is not None and decision.pick is not None:
            print(out)
    return 0 if decision.pick is not None else 1


def _rule(
    session: Session, minimize: str | None, where: Sequence[Constraint] | None, devices: Sequence[str], identify: bool
) -> Rule:
    """What is asked, with the experiment's own rule where nothing is said; a device as it was written, or as it is
    told."""
    own = session.package.experiment.get("pick") or {}
    names = {pipeline.device_label(d.spec, d.facts, identify): d.spec.name for d in session.devices}
    known = {d.spec.name for d in session.devices}
    for name in devices:
        if name not in known and name not in names:
            raise UsageError(f"the session has no device {name!r}", f"it has: {', '.join(sorted(names))}")
    return Rule(
        minimize=minimize or own.get("minimize", "latency_ms"),
        where=[constraint(text) for text in own.get("where", [])] if where is None else where,
        confidence=own.get("confidence", 0.9),
        selected_on=selected_on(session),
        devices=[name if name in known else names[name] for name in devices],
    )


def _measured_more(
    store: Store, session: Session, files: Path, rule: Rule, minutes: float | None, identify: bool
) -> more.Measured:
    minutes = more.MINUTES if minutes is None else minutes
    settings = Settings(store_url=store.url, files=files, folder=Path.cwd(), identify=identify, carried=True)
    with stdout_to_stderr(), Screen() as screen:
        return more.measure_more(store, session, Files(files), rule, minutes, settings, screen)


def runs(store: str | None, json_out: bool) -> int:
    opened = Store.open(store_url(store))
    try:
        found = opened.list_sessions()
    finally:
        opened.close()
    if json_out:
        emit(found)
        return 0
    for session in found:
        state = "quick" if session["quick"] else "finished" if session["finished_utc"] else "unfinished"
        label = session["label"] or ""
        came = f"  imported {session['imported_utc'][:10]}" if session["imported_utc"] else ""
        print(
            f"{session['id'][:8]}  {session['created_utc'][:16]}  {session['experiment']:<24} {state:<10} "
            f"{session['runs']:>6} runs  {label}{came}"
        )
    return 0
