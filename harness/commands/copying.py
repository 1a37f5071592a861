"""`store copy`: a store's sessions into another."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.commands.common import artifacts_folder, emit
from harness.screen import Screen
from harness.store import Store
from harness.store.copy import Copied, copy
from harness.store.reading import open_unchanged, refuse_target
from harness.store.url import shown


def store_copy(source: str, target: str, json_out: bool) -> int:
    """Raises UsageError where FROM is not there, or is TO."""
    theirs = open_unchanged(source)
    try:
        refuse_target(theirs, target)
        mine = Store.open(target, create=True)
        try:
            with Screen() as screen:
                copied = copy(theirs, mine, _Shown(screen))
                _tell_more(copied, source, target, screen)
        finally:
            mine.close()
    finally:
        theirs.close()
    if json_out:
        emit({"schema": 1, "new": copied.new, "there": copied.there, "filled": copied.filled, "kept": copied.kept})
    else:
        print(_sentence(copied, target))
    return 0


class _Shown:
    """Progress with the time left, by what the rows have taken so far."""

    def __init__(self, screen: Screen) -> None:
        self.screen = screen
        self.began: float | None = None

    def __call__(self, done: int, total: int, what: str) -> None:
        stage, _, of = what.partition(" ")
        left_s = None
        if stage == "copying":
            self.began = self.began or time.monotonic()
            spent_s = time.monotonic() - self.began
            left_s = spent_s / done * (total - done) if spent_s > 1 else None
        self.screen.show(stage, stage, of if stage == "checking" else f"rows of {of}", done, total, left_s)


def _tell_more(copied: Copied, source: str, target: str, screen: Screen) -> None:
    for sentence in copied.kept:
        screen.say(f"kept: {sentence}")
    if os.environ.get("HARNESS_ARTIFACTS"):
        return
    here, there = artifacts_folder(source), artifacts_folder(target)
    if here != there and here.is_dir():
        screen.say(
            f"artifact files are in no store: they stay in {_near(here)} (copy them to {_near(there)}, or let "
            "HARNESS_ARTIFACTS name a place that both use)"
        )


def _near(folder: Path) -> Path:
    """Relative to the working folder where it is inside."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _sentence(copied: Copied, target: str) -> str:
    new, there = copied.new, copied.there
    said = f"{shown(target)}: {new['sessions']} sessions and {new['runs']} runs are new"
    filled = sum(copied.filled.values())
    said += f", {there['sessions']} sessions and {there['runs']} runs were there"
    return said + (f", {filled} of their rows were filled in" if filled else "")
