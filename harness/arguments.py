"""What callers of the Python API may pass, looked at before anything is done: every mistake is a UsageError."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.commands.measuring import Asked


def asked_run(source: Any, *, devices: Any, variants: Any, max_minutes: Any, **more: Any) -> Asked:
    """The options of `run`. Raises UsageError."""
    from harness.commands.measuring import Asked

    place = path("source", source)
    if place is None:
        raise UsageError("source: None is not a path", "an experiment file, or a package's folder")
    if not place.exists():
        raise UsageError(f"{source}: no such file", "an experiment file, or a package's folder")
    text("label", more["label"], none=True)
    for name in ("fresh", "quick", "profile", "identify"):
        if not isinstance(more[name], bool):
            raise UsageError(f"{name}: {_shown(more[name])} is neither True nor False")
    return Asked(
        source=place, devices=names("devices", devices), variants=names("variants", variants),
        max_minutes=minutes(max_minutes),
        **more | {"store": url(more["store"]), "devices_file": path("devices_file", more["devices_file"])},
    )  # fmt: skip


def names(name: str, value: Any) -> tuple[str, ...]:
    """Several names, or one as it is."""
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, Sequence) or not all(isinstance(one, str) and one for one in value):
        raise UsageError(f"{name}: {_shown(value)} is not a list of names", f'{name}=["…", "…"], or {name}="…"')
    return tuple(value)


def text(name: str, value: Any, none: bool = False) -> Any:
    if (value is None and none) or (isinstance(value, str) and value):
        return value
    raise UsageError(f"{name}: {_shown(value)} is not a name", f'{name}="…"')


def path(name: str, value: Any) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value) or "\0" in str(value):
        raise UsageError(f"{name}: {_shown(value)} is not a path", f'{name}="…", or a pathlib.Path')
    return Path(value)


def page(value: Any) -> Path | None:
    """Raises UsageError for a folder: before an hour of measuring, not after it."""
    found = path("page", value)
    if found is not None and (found.is_dir() or not found.name):
        raise UsageError(f"page: {found} is a folder", 'name a file: page="report.html"')
    return found


def url(value: Any) -> str | None:
    if isinstance(value, os.PathLike):
        raise UsageError(f"store: {value} is a path", f"a store is named by its URL: sqlite:///{value}")
    if value is not None and not (isinstance(value, str) and value):
        raise UsageError(f"store: {_shown(value)} is not a URL", "sqlite:///runs.db, or postgresql+psycopg://…")
    return value


def minutes(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise UsageError(f"max_minutes: {_shown(value)} is no number of minutes", "0 or more")
    return float(value)


def confidence(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.5 < value < 1:
        raise UsageError(f"confidence: {_shown(value)} is not between 0.5 and 1", "0.95 is the default")


def _shown(value: Any) -> str:
    told = repr(value)
    return told if len(told) <= 80 else f"{told[:79]}…"
