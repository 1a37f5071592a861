"""`compare`: two labels, two sessions, or two files measured on the spot."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness import confirm as confirming
from harness import pairs, pipeline, records
from harness.analyze import compare as judging
from harness.analyze.compare import Compared
from harness.analyze.counterparts import EVERY_DEVICE, nowhere
from harness.analyze.digest import Digest
from harness.analyze.judge import ONCE
from harness.analyze.judgement import threshold_of
from harness.commands import sides
from harness.commands.common import artifacts_folder, discreet, emit, names_of, store_url
from harness.commands.sides import Sides
from harness.devices import catalog
from harness.devices.spec import resolve_all
from harness.errors import UsageError
from harness.metrics import nearest
from harness.pairs import key_of
from harness.quiet import stdout_to_stderr
from harness.screen import Screen
from harness.settings import Settings
from harness.store import Store
from harness.types import Cell, Session

#: conditions that may be let differ, as analyze/digest.py names them
FACTORS = ("os", "runner", "runtime", "loader", "inputs", "settings", "energy source")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options that `compare` and `gate` share. `every`: list what is the same too."""

    across: str | None = None
    fail_on: Literal["worse", "inconclusive"] = "worse"
    allow_missing: int = 0
    confirm: bool = False
    every: bool = False
    format: Literal["text", "markdown", "json"] = "text"
    store: str | None = None
    identify: bool = False
    devices: tuple[str, ...] = ()
    devices_file: Path | None = None
    repeats: int | None = None

    @property
    def factors(self) -> frozenset[str]:
        """Raises UsageError for a factor that is none."""
        given = [f.strip().replace("-", " ") for f in (self.across or "").split(",") if f.strip()]
        for factor in given:
            if factor not in FACTORS:
                raise UsageError(f"--across {factor!r} is no factor", nearest(factor, FACTORS))
        return frozenset(given)

    def settings(self, folder: Path, **more: Any) -> Settings:
        url = store_url(self.store)
        return Settings(
            store_url=url, files=artifacts_folder(url), folder=folder, devices_file=self.devices_file,
            identify=self.identify, **more,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measured:
    """How two files are measured: as `harness measure` takes it."""

    inputs: tuple[str, ...] = ()
    arrays: Path | None = None
    threads: int = 1


def compare(base: str, head: str, experiment: str | None, given: Measured, asked: Asked) -> int:
    across = asked.factors
    if (found := sides.files(base, head)) is not None:
        return _files(*found, given, asked, across)
    if given != Measured():
        raise UsageError("--input, --inputs and --threads are for two files", "labels were measured already")
    shown, compared = of_stored(base, head, experiment, asked)
    present(shown, asked)
    return exit_code(compared, asked)


def of_stored(
    base: str, head: str, experiment: str | None, asked: Asked
) -> tuple[dict[str, Any], Sequence[Compared]]:
    """Two labels or sessions of the store: what `compare --json` holds, and its rows. Raises UsageError."""
    across = asked.factors
    store = Store.open(store_url(asked.store))
    try:
        of = sides.resolve(store, base, head, experiment)
        sides.refuse_unknown_devices([*of.base_digests, *of.head_digests], asked.devices)
        olds, news = (sides.narrowed(side, asked.devices) for side in (of.base_digests, of.head_digests))
        sessions = [store.session(one.session) for one in {d.session: d for d in (*olds, *news)}.values()]
        thresholds = sessions[-1].package.thresholds
        compared = judging.compare(
            olds, news, records.releases(store, of.experiment), across=across, thresholds=thresholds
        )
        if asked.confirm:
            compared = confirmed(compared, olds, news, store, asked)
    finally:
        store.close()
    shown = document(of, compared, sessions, asked)
    shown["notes"] = list(_unfinished(of))
    return shown, compared


def _files(base: Path, head: Path, given: Measured, asked: Asked, across: frozenset[str]) -> int:
    if not asked.devices:
        raise UsageError("two files are measured on the spot: on which device?", "--device local, or another")
    settings = asked.settings(Path.cwd())
    specs = resolve_all(asked.devices, catalog.load(asked.devices_file, Path.cwd()))
    with stdout_to_stderr(), Screen() as screen:
        both, kept = pairs.of_files(
            *(base, head, specs[0], given.inputs, given.arrays, given.threads, asked.repeats, settings, screen)
        )
        session = pairs.measure(both, kept, specs, settings, screen, repeats=asked.repeats)
    store = Store.open(settings.store_url)
    try:
        old, new = pairs.digests(store, session, both)
    finally:
        store.close()
    compared = judging.compare([old], [new], [], across=across)
    of = Sides(
        experiment=session.experiment, base=str(base), head=str(head), base_digests=(old,), head_digests=(new,)
    )
    shown = document(of, compared, [session], asked)
    lost = short_of(session, asked.identify)
    shown["notes"] = [*lost, *(f"not compared: {why}" for why in both.apart.values())]
    present(shown, asked)
    return exit_code(compared, asked) or (3 if lost else 0)


def confirmed(
    compared: Sequence[Compared], base: Sequence[Digest], head: Sequence[Digest], store: Store, asked: Asked
) -> list[Compared]:
    """The rows after what is worse was measured again, paired."""
    if not any(row.outcome == "worse" for row in compared):
        return list(compared)
    with stdout_to_stderr(), Screen() as screen:
        return confirming.confirm(compared, base, head, store, asked.settings(Path.cwd()), screen, asked.repeats)


def exit_code(compared: Sequence[Compared], asked: Asked) -> int:
    """1 what must not be, 3 what cannot be told or is missing beyond the allowance, else 0."""
    if any(row.outcome == "worse" for row in compared) or open_questions(compared, asked):
        return 1
    return 3 if judging.verdict(compared, asked.allow_missing) == "incomparable" else 0


def open_questions(compared: Sequence[Compared], asked: Asked) -> int:
    """How many `inconclusive` rows fail, where they are to; what is measured once a session is never conclusive."""
    if asked.fail_on != "inconclusive":
        return 0
    return sum(row.outcome == "inconclusive" and row.metric not in ONCE for row in compared)


def short_of(session: Session, identify: bool) -> list[str]:
    """What a session lacks that was to be measured, in words."""
    lost = [
        f"{pipeline.device_label(d.spec, d.facts, identify)} was not reached: "
        + str(discreet({"reason": d.unreached}, identify, names_of(session))["reason"])
        for d in session.devices
        if d.unreached
    ]
    unfinished = [] if session.finished_utc else [f"session {session.id[:8]} is not finished: run again to go on"]
    return lost + unfinished


def _unfinished(of: Sides) -> list[str]:
    return [
        f"session {one.session[:8]} of {name} is not finished: what it lacks is missing"
        for name, digests in ((of.base, of.base_digests), (of.head, of.head_digests))
        for one in digests
        if not one.finished
    ]


def with_apart(
    paired: Sequence[Compared], apart: Mapping[pairs.Key, str], stored: Sequence[Compared], here: set[str]
) -> list[Compared]:
    """The paired rows, and for what could not be paired those of the stored comparison; else the row that it lacks."""
    fallback = [r for r in stored if key_of(r.cell) in apart and (not r.cell.device_id or r.cell.device_id in here)]
    covered = {key_of(row.cell) for row in fallback}
    left = [r for r in paired if key_of(r.cell) in apart and key_of(r.cell) not in covered]

    def told(row: Compared) -> Compared:
        if row.outcome == "missing" and row.reason:
            return row  # the reason is the same
        why = f"not paired: {apart[key_of(row.cell)]}"
        return dataclasses.replace(row, reason=f"{why}; {row.reason}" if row.reason else why)

    lost = [gone(key, why) for key, why in apart.items() if key not in covered | {key_of(r.cell) for r in left}]
    known = {file_of(row.cell) for row in fallback}
    kept = [
        row
        for row in paired
        if key_of(row.cell) not in apart and not (row.device == EVERY_DEVICE and file_of(row.cell) in known)
    ]
    return [*kept, *(told(row) for row in (*fallback, *left)), *lost]


def file_of(cell: Cell) -> tuple[str, str, str]:
    """What is known of a build without a file."""
    return cell.variant, cell.exporter, cell.input


def gone(key: pairs.Key, why: str) -> Compared:
    """A build of one side alone, of which nothing is stored of the devices that were measured."""
    variant, seed, exporter, backend, case = key
    return Compared(
        cell=nowhere(variant, exporter, case, seed, backend), device=EVERY_DEVICE, metric=judging.EVERY_METRIC,
        design=None, base=None, head=None, outcome="missing", threshold=threshold_of(judging.EVERY_METRIC), reason=why,
    )  # fmt: skip


# -- the answer ------------------------------------------------------------------------------------------------------


def document(of: Sides, compared: Sequence[Compared], sessions: Sequence[Session], asked: Asked) -> dict[str, Any]:
    """What `compare --json` holds, as it may leave this computer."""
    called = [
        dataclasses.replace(row, device=sides.label_of(row.device, row.cell.device_id, asked.identify))
        for row in compared
    ]
    both = (*of.base_digests, *of.head_digests)
    names = {name: label for session in sessions for name, label in names_of(session).items()}
    found = {
        "schema": 1,
        "experiment": of.experiment,
        "sessions": {"base": [d.session for d in of.base_digests], "head": [d.session for d in of.head_digests]},
        "simulated": any(d.simulated for d in both),
        "verdict": judging.verdict(compared, asked.allow_missing),
        "comparisons": judging.as_json(called),
        "notes": [],
    }
    labels = {digest.label for digest in both}
    called_sides = {
        side: name if name in labels else discreet(name, asked.identify)  # a label such as 1.4.0.2 is no address
        for side, name in (("base", of.base), ("head", of.head))
    }
    return called_sides | dict(discreet(found, asked.identify, names))


def present(shown: Mapping[str, Any], asked: Asked) -> None:
    """The answer on stdout."""
    if asked.format == "json":
        emit(shown)
    elif asked.format == "markdown":
        from harness.report.compare_markdown import markdown

        sys.stdout.write(markdown(shown))
    else:
        from harness.report.compare_text import lines

        print("\n".join(lines(shown, asked.every)))
