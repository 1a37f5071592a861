"""Which row another is compared with: the reference's, or its control's, measured in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analyze.rows import Row
from harness.types import Status

Verdict = tuple[Status, str | None]


@dataclass(frozen=True, kw_only=True)
class Peers:
    """`found`: variant and comparable cell (format, input, device, threads, cpus) -> seed -> index of the row."""

    rows: Sequence[Row]
    verdicts: Sequence[Verdict]
    found: Mapping[tuple[Any, ...], Mapping[int, int]]

    @classmethod
    def of(cls, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> Peers:
        found: dict[tuple[Any, ...], dict[int, int]] = {}
        for i, row in enumerate(rows):
            place = row.device.spec.name if row.device else None, row.threads, row.cpus
            found.setdefault((row.build.variant, row.build.exporter, row.build.input, *place), {})[row.build.seed] = i
        return cls(rows=rows, verdicts=verdicts, found=found)

    def beside(self, i: int, variant: str) -> int | None:
        """The variant's row of the same seed, else of its first; one that did not build has a single row for all
        devices."""
        row = self.rows[i]
        file = variant, row.build.exporter, row.build.input
        place = row.device.spec.name if row.device else None, row.threads, row.cpus
        seeds = self.found.get((*file, *place)) or self.found.get((*file, None, None, None)) or {}
        return seeds.get(row.build.seed, next(iter(seeds.values()), None))

    def usable(self, i: int | None) -> bool:
        return i is not None and self.verdicts[i][0] == "ok"

    def why_not(self, i: int | None, what: str) -> str:
        """Why there is nothing to compare with; `what` names it: `the reference fp32`."""
        if i is None:
            return f"{what} has no result of this format, threads and cpus"
        status, reason = self.verdicts[i]
        return f"{what} is {status}" + (f": {reason}" if reason else "")
