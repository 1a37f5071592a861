"""Live progress on stderr: what is being done on which variant, and the time left. Plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

_open: list[Screen] = []


def note(text: str) -> None:
    """A line from where no screen is at hand, a lane's thread: on the screen that was opened last, else on stderr."""
    if _open:
        _open[-1].say(text)
    else:
        print(text, file=sys.stderr)


class Screen:
    """A context manager; `quiet` shows nothing."""

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, quiet=quiet, highlight=False, emoji=False)
        self._live: Any = None
        self._tasks: dict[str, Any] = {}
        self._said: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> Screen:
        if self.console.is_terminal and not self.console.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.table import Column

            self._live = Progress(
                TextColumn("{task.fields[stage]:<9}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]:>10}"),
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
                console=self.console,
                refresh_per_second=2,  # seldom: the harness may share its cores with what it measures
            )
            self._live.start()
        _open.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ValueError):
            _open.remove(self)
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._tasks.clear()

    def say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def show(self, key: str, stage: str, what: str, done: int, total: int, left_s: float | None = None) -> None:
        """The state of one line (`key`): bars on a terminal, elsewhere a line when a quarter or 30 s have passed."""
        left = "" if left_s is None or done >= total else f"{duration(left_s)} left"
        if self._live is not None:
            if key not in self._tasks:
                self._tasks[key] = self._live.add_task(what, total=total, stage=stage, left=left)
            self._live.update(self._tasks[key], completed=done, total=total, description=what[:200], left=left)
            return
        mark = f"{stage}-{done * 4 // max(1, total)}"
        before, at = self._said.get(key, ("", 0.0))
        if mark != before or time.monotonic() - at > 30:
            self._said[key] = (mark, time.monotonic())
            self.say(f"{stage}: {done}/{total} {what} {left}".rstrip())


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
