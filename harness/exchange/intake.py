"""A file of another store's runs -> a store of its own, where every row has been checked."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.exchange import formats
from harness.exchange.check import Checker
from harness.exchange.row import JSONS
from harness.exchange.session import Known
from harness.exchange.wrong import Wrong
from harness.store import Store, exact
from harness.store.rows import utc_now
from harness.store.values import visible

_PORTION = 200
_PORTION_BYTES = 32 << 20
_HINT = "export it again where it was measured: harness export-runs -o FILE"


def take(file: Path, store: Store, tell: Callable[[int], None]) -> list[Known]:
    """Reads the whole file into `store`, which is empty; its sessions. `tell`: how many runs are read.

    Raises UsageError for what is no export of ours, naming row and column, and for what cannot be read."""
    check = Checker()
    try:
        if file.is_dir() or (file.exists() and not file.is_file()):
            kind = "a folder" if file.is_dir() else "no plain file"
            raise UsageError(f"{file} is {kind}", "name what export-runs wrote")
        form = formats.by_content(file)
        note = {"file": visible(file.name)[:300], "sha256": _sha256(file), "imported_utc": utc_now()}
        with exact.writing(store) as writer:
            held: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []
            size = 0
            for number, row in enumerate(formats.read(form, file), 1):
                new, run, arrays = check(number, row)
                if new is not None:
                    writer.runs(held)
                    held, size = [], 0
                    writer.head(dataclasses.replace(new.head, imported=note | {"session_id": new.id}))
                held.append((run, arrays))
                size += sum(values.nbytes for values in arrays.values()) + sum(len(run[name]) for name in JSONS)
                if len(held) >= _PORTION or size > _PORTION_BYTES:
                    writer.runs(held)
                    held, size = [], 0
                tell(number)
            writer.runs(held)
            check.whole()
    except Wrong as wrong:
        raise UsageError(f"{file}: {wrong}", _HINT) from wrong
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror or error}", "name what export-runs wrote") from error
    return list(check.sessions.values())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
