"""`build`, `run` and `measure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import config, pipeline
from harness import package as packages
from harness.commands import profiling
from harness.commands.common import concluded, emit
from harness.commands.measuring import Asked, Work, measured, paged, work_of
from harness.commands.measuring import settings as settings_of
from harness.devices import catalog
from harness.devices.spec import resolve_all
from harness.quiet import stdout_to_stderr
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Package, Session


def build(source: Path, out: Path | None, variants: Sequence[str], store: str | None, json_out: bool) -> int:
    experiment, text = config.load(source)
    experiment = pipeline.narrowed(experiment, [], variants)
    settings = settings_of(store, Path(experiment.folder))
    with Screen() as screen:
        package, files = pipeline.build(experiment, text, settings, screen)
    if out is not None:
        packages.write(package, files, out)
    rows = [_build_row(build) for build in package.builds]
    if json_out:
        emit({"schema": 1, "experiment": experiment.name, "package": None if out is None else str(out), "builds": rows})
    else:
        for row in rows:
            size = row["artifact"].get("size_bytes")
            told = row["reason"] or f"{size} bytes{'' if row['artifact']['built'] else ', from the cache'}"
            print(f"{row['variant']:<24} {row['exporter']:<18} {row['status']:<8} {told}")
        if out is not None:
            print(out)
    return 3 if any(row["status"] == "failed" for row in rows) else 0


def _build_row(build: Any) -> dict[str, Any]:
    artifact = build.artifact
    return {
        "variant": build.variant,
        "seed": build.seed,
        "exporter": build.exporter,
        "backend": build.backend,
        "input": build.input,
        "status": build.status,
        "reason": build.reason,
        "notes": list(build.notes),
        "artifact": {"absent": build.reason or build.status}
        if artifact is None
        else {"sha256": artifact.sha256, "size_bytes": artifact.size_bytes, "built": build.built},
        "facts": dict(build.facts),
    }


def run(
    source: Path,
    devices: Sequence[str],
    devices_file: Path | None,
    variants: Sequence[str],
    label: str | None,
    fresh: bool,
    quick: bool,
    dry: bool,
    max_minutes: float | None,
    store: str | None,
    identify: bool,
    json_out: bool,
    profile: bool = False,
) -> int:
    asked = Asked(
        source=source, devices=devices, devices_file=devices_file, variants=variants, label=label, fresh=fresh,
        quick=quick, max_minutes=max_minutes, store=store, identify=identify, profile=profile,
    )  # fmt: skip
    work = work_of(asked)
    if dry:
        return _dry(work, quick, json_out)
    with stdout_to_stderr(), Screen() as screen:  # a user's metric may print
        session = measured(work, screen)
    return tell(session, work.settings, json_out)


def _dry(work: Work, quick: bool, json_out: bool) -> int:
    from harness.commands.dry import tell_plan

    if isinstance(work.plan, Package):
        return tell_plan(work.plan.experiment, None, work.devices, quick, json_out, builds=work.plan.builds)
    return tell_plan(work.plan.model_dump(mode="json"), work.plan, work.devices, quick, json_out)


def tell(session: Session, settings: Settings, json_out: bool) -> int:
    """Page, table, front, pick and the exit code of a session that was just measured."""
    store = Store.open(settings.store_url)
    try:
        document, why_not = paged(store, session, settings)
        profiling.tell(store, session, document, json_out)
    finally:
        store.close()
    if json_out:
        emit(document)
    else:
        show(document, why_not)
        print(document["report"])
    return exit_code(document, session)


def show(document: dict[str, Any], why_not: str | None = None) -> None:
    from rich.console import Console

    from harness.report.text import summary

    summary(document, Console(highlight=False), why_not)


def exit_code(document: dict[str, Any], session: Session) -> int:
    results = document["results"]
    if any(r["status"] == "failed" for r in results) or any(d.unreached for d in session.devices):
        return 3
    if session.finished_utc is None:  # --max-minutes cut it: something planned is missing
        return 3
    measured = [r for r in results if r["device"] is not None]
    if not any(r["status"] == "ok" for r in measured):
        return 3
    wants = session.package.experiment.get("pick") is not None and not session.quick
    return 1 if wants and document["pick"] is None else 0


def measure(
    file: Path,
    devices: Sequence[str],
    devices_file: Path | None,
    inputs: Sequence[str],
    arrays: Path | None,
    expect: Path | None,
    threads: int,
    repeats: int,
    store: str | None,
    identify: bool,
    json_out: bool,
    profile: bool = False,
) -> int:
    from harness.foreign import package_of

    settings = settings_of(store, Path.cwd(), identify=identify, kind="measure", fresh=True)
    with Screen() as screen:
        specs = resolve_all(devices or ["local"], catalog.load(devices_file, Path.cwd()))
        package, files = package_of(file, specs[0], inputs, arrays, expect, threads, repeats, settings, screen)
        if profile:
            package = profiling.asked_of_package(package)
        session = pipeline.run_package(package, files, specs, settings, screen)
    opened = Store.open(settings.store_url)
    try:
        document = concluded(session, opened.scored(session.id), settings.files, None, identify)
        profiling.tell(opened, session, document, json_out)
    finally:
        opened.close()
    if json_out:
        emit(document["results"][0] if len(document["results"]) == 1 else document["results"])
    else:
        show(document)
    return exit_code(document, session)
