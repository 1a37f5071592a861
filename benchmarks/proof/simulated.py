"""Sessions on simulated devices through all of harness: schedule, gates, link, wire format, store. Time is theirs."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from harness.package import Files
from harness.pipeline import run_package
from harness.screen import Screen
from harness.settings import Settings
from harness.sim.model import SimModel
from harness.sim.package import sim_device, sim_package
from harness.store import Store
from harness.types import Run, Session

#: a store waits for the disk at each run, which tens of thousands of runs that nobody keeps need not
MEMORY = Path("/dev/shm")

Task = TypeVar("Task")
Answer = TypeVar("Answer")


def measured(
    uri: str, models: Mapping[str, SimModel], *, arrays: bool = False, sizes: Mapping[str, int] | None = None,
    pick: Mapping[str, Any] | None = None, **measure: Any,
) -> tuple[Session, list[Run]]:  # fmt: skip
    """A whole session of these models, stored in a folder that is gone afterwards, and all its runs.

    `measure`: keys of an experiment's `measure`. What harness says meanwhile is left out."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stderr(io.StringIO()):
        folder = Path(name)
        (folder / "files").mkdir()
        files = Files(folder / "files")
        package = sim_package(models, files, sizes=sizes, pick=pick, **measure)
        settings = Settings(store_url=f"sqlite:///{folder}/store.db", files=folder / "files", folder=folder)
        with Screen(quiet=True) as screen:
            session = run_package(package, files, [sim_device(uri)], settings, screen)
        store = Store.open(settings.store_url)
        try:
            return session, store.runs(session.id, arrays=arrays)
        finally:
            store.close()


def each(work: Callable[[Task], Answer], tasks: Iterable[Task], alone: bool = False) -> list[Answer]:
    """`work` of every task, in processes; `alone`: here, one after the other (few tasks do not pay for processes)."""
    if alone:
        return [work(task) for task in tasks]
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        workers = min(os.cpu_count() or 1, 8)
        with ProcessPoolExecutor(workers, get_context("spawn"), _in_worker, (folder,)) as pool:
            return list(pool.map(work, tasks))


def _in_worker(folder: str) -> None:
    """All that a worker writes stays in `folder`: locks of devices that do not exist are none of the user's."""
    os.environ["HARNESS_CACHE"] = f"{folder}/cache"
    tempfile.tempdir = folder
