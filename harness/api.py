"""The Python API: what `import harness` offers. Everything here is also a command; errors are harness.errors'.

`harness/__init__.py` imports this file when the first of its names is used, so that `import harness` stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.answers import CONFIDENCE, Result

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import torch

__all__ = ["Outcome", "compare", "latest", "ondevice", "results", "run", "runs"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A session's answer: `document` is what `harness run --json` writes. `page` is the HTML report's file."""

    document: Mapping[str, Any]
    page: Path | None

    @property
    def results(self) -> tuple[Result, ...]:
        raise NotImplementedError

    def __getitem__(self, variant: str) -> Result:
        """The one result of this variant. Raises UsageError for an unknown one, and where there are several."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    @property
    def pick(self) -> Mapping[str, Any] | None:
        """The variant to ship, with its `probability`; None where the experiment asks for none or nothing fits."""
        raise NotImplementedError

    def frame(self) -> pandas.DataFrame:
        """One row per result; see `results`."""
        raise NotImplementedError

    def show(self) -> None:
        """In a notebook: the page, below the cell. Elsewhere: the table that `harness run` prints."""
        raise NotImplementedError


def run(
    source: str | Path,
    *,
    devices: Sequence[str] = (),
    variants: Sequence[str] = (),
    label: str | None = None,
    store: str | None = None,
    devices_file: str | Path | None = None,
    fresh: bool = False,
    quick: bool = False,
    max_minutes: float | None = None,
    profile: bool = False,
    page: str | Path | None = None,
    identify: bool = False,
    quiet: bool = False,
) -> Outcome:
    """`harness run`: builds every variant of an experiment file (or takes a package's), measures, writes the page."""
    raise NotImplementedError


def ondevice(
    what: str | Path | torch.nn.Module,
    *,
    device: str = "local",
    inputs: Sequence[Any] | None = None,
    expect: Sequence[np.ndarray[Any, Any]] | None = None,
    backend: str = "xnnpack",
    threads: int = 1,
    repeats: int = 5,
    min_sqnr_db: float | None = None,
    confidence: float = CONFIDENCE,
    store: str | None = None,
    devices_file: str | Path | None = None,
    identify: bool = False,
    quiet: bool = True,
) -> Result:
    """One finished file (.pte, .ptl), or a module that is exported for it, measured on one device.

    Raises NotMeasured where the result is not `ok`: a fast wrong answer is no result."""
    raise NotImplementedError


def latest(experiment: str | None = None, label: str | None = None, *, store: str | None = None) -> Outcome:
    """The newest stored session, concluded anew from its raw runs; `page` is None."""
    raise NotImplementedError


def results(
    experiment: str | None = None,
    label: str | None = None,
    *,
    store: str | None = None,
    every: bool = False,
    quick: bool = False,
    identify: bool = False,
) -> pandas.DataFrame:
    """Stored results, one row each, of the newest session (`every`: of all that fit)."""
    raise NotImplementedError


def runs(
    experiment: str | None = None, label: str | None = None, *, store: str | None = None, identify: bool = False
) -> pandas.DataFrame:
    """Stored runs, one row per process that was started: what `harness export-runs` writes, without the samples."""
    raise NotImplementedError


def compare(
    base: str, head: str, *, experiment: str | None = None, store: str | None = None, across: Sequence[str] = ()
) -> Mapping[str, Any]:
    """Two labels (or run:ID), as `harness compare --json` has it."""
    raise NotImplementedError
