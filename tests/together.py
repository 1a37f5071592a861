"""`make test`: first what measures nothing, two tests at a time, then what measures for real, one at a time and alone.

A test waits more than it computes, so that two at once take little more than half the time. What is judged by its
time must not be disturbed: the files in MEASURING are marked `measuring`, and `make test` gives each half its turn."""

from __future__ import annotations

import os

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


def one_thread() -> None:
    """Before torch is imported: two workers with two threads each would be in each other's way."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in MEASURING:
            item.add_marker("measuring")
