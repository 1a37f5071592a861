"""Base and head in the same blocks: a package that holds both, measured as one session.

What drifts on a device falls on both alike, an OS update too: only this design tells a change of 2 % from a day that
was different. The base's variants carry BASE_SUFFIX; `analyze/digest.split` takes them apart again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.package import Files
from harness.types import Build, Package

#: the fewest pairs of an A/B; a fixed amount, for a comparison must not end when it looks good
PAIRS = 10
Key = tuple[str, int, str, str, str]  # variant, seed, exporter, backend, input


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """`package`: head's builds, and beside each the base's where both can be measured. `same`: head builds whose base
    is the very same file, which is not measured twice. `apart`: why a build has no partner (of either side)."""

    package: Package
    same: frozenset[Key] = frozenset()
    apart: Mapping[Key, str] = field(default_factory=dict)


def merged(head: Package, base: Package, files: Files, only: Sequence[Key] | None = None) -> Pairs:
    """`files`: where the base's artifacts must be. `only`: pairs of these builds alone (for a confirmation)."""
    raise NotImplementedError


def key(build: Build) -> Key:
    return build.variant, build.seed, build.exporter, build.backend, build.input
