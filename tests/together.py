"""pytest-xdist: what measures for real is done by one worker, one test after the other; the others give way to it.

`make test JOBS=2` starts two workers, since a test waits more than it computes. What is judged by its time must still
not be disturbed: the files in MEASURING are done by one worker, from the start and in a row, and whatever else runs
meanwhile has the lowest priority and one thread. Of the rest, a file's tests stay together, for their fixtures.
Without xdist (plain `pytest`) nothing here does anything."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import pytest

#: files whose tests fail, or say less, when others' work disturbs what they measure on this computer
MEASURING = (
    "test_ci_workflow",
    "test_commands_measure",
    "test_everything_measured",
    "test_interrupted",
    "test_long_measures",
    "test_meters_live",
    "test_pairs_real",
    "test_pipeline",
    "test_real_devices",
    "test_tour",
)
USUAL, LOWEST = os.nice(0), 10  # priorities: a tenth is left to the others where both want one CPU
WORKER = "PYTEST_XDIST_WORKER" in os.environ


def one_thread() -> None:
    """Before torch is imported: two workers with two threads each would be in each other's way."""
    if WORKER:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if WORKER:
        items.sort(key=lambda item: item.path.stem not in MEASURING)  # stable: the rest keeps its order


def pytest_runtest_setup(item: pytest.Item) -> None:
    if WORKER:
        with suppress(PermissionError):  # only root may go back to the usual: hence what measures comes first
            os.setpriority(os.PRIO_PROCESS, 0, USUAL if item.path.stem in MEASURING else LOWEST)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole files to the workers, in the order of the collection; all that measures counts as one file."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "measuring" if os.path.basename(file).removesuffix(".py") in MEASURING else file

    config.option.loadscopereorder = False  # by how many tests they have, which says nothing of how long they take
    return Files(config, log)
