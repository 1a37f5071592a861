"""A pair of model and format that cannot exist: a `skipped` row, not a failure."""

from __future__ import annotations

from harness.errors import HarnessError


class Refused(HarnessError):
    """`what` is the row's reason."""
