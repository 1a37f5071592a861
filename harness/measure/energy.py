"""A run with a meter beside it: started before, read over exactly the window that the runner names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.measure.session import Attempt


def metered(bench: Any, wanted: str, attempt: Callable[[], Attempt]) -> Attempt:
    """The attempt with the meter's trace in the run's arrays, and what is known of the meter in its conditions
    (`energy`). A meter that is unfit makes the run `failed`, with the reason."""
    return attempt()


def sources(bench: Any) -> list[Mapping[str, Any]]:
    """Every meter that is known here, with `source`, `usable` and `reason`, best first."""
    return []
