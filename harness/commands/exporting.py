"""`export-runs`: every run as a row, for other tools and for `import-runs`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.commands.common import emit, names_of, refuse_folder, store_url
from harness.commands.hidden import hidden, teller
from harness.errors import UsageError
from harness.exchange import formats
from harness.exchange.row import Row, dumps, flat
from harness.exchange.session import record_of
from harness.screen import Screen
from harness.store import Store, exact
from harness.store.exact import Reader

#: below so many runs nobody waits
_LONG = 2_000


def export_runs(
    out: Path, form: str | None, samples: bool, experiment: str | None, label: str | None, store: str | None,
    identify: bool, json_out: bool,
) -> int:  # fmt: skip
    if form is None and (form := formats.by_name(out)) is None:
        if out.suffix or out.name == "-":
            raise UsageError(f"{out}: which format?", f"--format, or an ending: {', '.join(formats.NAMES)}")
        form = "csv"
    if form not in formats.NAMES:
        raise UsageError(f"unknown format {form!r}", f"one of: {', '.join(formats.NAMES)}")
    refuse_folder(out)
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} is no plain file", "name a file with -o")
    opened = Store.open(store_url(store))
    try:
        wanted = sessions_of(opened, experiment, label)
        with exact.reading(opened) as reader:
            rows = rows_of(opened, reader, [listed["id"] for listed in wanted], samples, identify)
            written = _write(rows, form, out, sum(listed["runs"] for listed in wanted))
    finally:
        opened.close()
    if json_out:
        emit({"schema": 1, "runs": written, "file": str(out)})
    else:
        print(f"{written} runs: {out}")
    return 0


def sessions_of(store: Store, experiment: str | None, label: str | None) -> list[dict[str, Any]]:
    """The sessions that are asked for, newest first. Raises UsageError where there is none, naming what there is."""
    found = [
        listed
        for listed in store.list_sessions()
        if (experiment is None or listed["experiment"] == experiment) and (label is None or listed["label"] == label)
    ]
    if not found:
        store.latest(experiment, label)
    return found


def rows_of(store: Store, reader: Reader, sessions: Sequence[str], samples: bool, identify: bool) -> Iterator[Row]:
    for identity in sessions:
        head = reader.head(identity)
        names = {} if identify else names_of(store.session(identity))
        record = record_of(head, runs=reader.count(identity), samples=samples, identified=identify)
        text: str | None = dumps(record if identify else hidden(record, names), f"session {identity}")
        tell = teller(names)
        for portion in reader.runs(identity, samples):
            for run, arrays in portion:
                held = arrays if samples else None
                yield flat(head.session, run, held, text) if identify else flat(head.session, run, held, text, tell)
                text = None


def _write(rows: Iterator[Row], form: str, out: Path, total: int) -> int:
    """Beside the file and then in its place, so that what is there stays until the new one is whole."""
    target = Path(os.path.realpath(out))
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    written, began = 0, time.monotonic()
    try:
        with Screen(quiet=total < _LONG) as screen:
            for written in formats.write(form, rows, partial):
                if written % 500 == 0:
                    left_s = (time.monotonic() - began) / written * (total - written)
                    screen.show("export", "exporting", f"runs to {out.name}", written, total, left_s)
        partial.replace(target)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror or error}", "name a writable place with -o") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    return written
