"""`import-runs`: runs out of a file into the store."""

from __future__ import annotations

from pathlib import Path


def import_runs(file: Path, dry_run: bool, store: str | None, json_out: bool) -> int:
    raise NotImplementedError
