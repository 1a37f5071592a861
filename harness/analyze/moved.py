"""What else is not the same where a figure changed: conditions that forbid a comparison, and facts that explain one.

Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.analyze.digest import CellDigest

#: conditions that any measured figure depends on; a new runner brings its runtime along
MEASURED = ("os", "runner", "runtime", "loader", "settings")
#: likeliest cause first; what is not named here stands between the tools and the device's state
_FIRST = ("artifact", "delegated_fraction", "macs", "parameters", "sparsity", "output_sqnr_db", "made by ")
_LAST = (
    "runtime", "os", "runner", "loader", "settings", "inputs", "energy source", "clock_khz", "temperature before, °C",
    "load average",
)  # fmt: skip
#: what is never twice the same: told from this difference on, in the fact's unit, where both sides know it
_NOISE = {"temperature before, °C": 2.0, "load average": 0.5}


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A factor that is not the same on both sides: a condition or a fact of digest.py, in words."""

    factor: str
    base: str | None
    head: str | None

    def __str__(self) -> str:
        return f"{self.factor}: {self.base or 'unknown'} -> {self.head or 'unknown'}"


def factors_of(metric: str) -> tuple[str, ...]:
    """The conditions that this metric's figures depend on. The size of a file depends on none."""
    if metric in ("size_bytes", "compressed_bytes"):
        return ()
    if metric == "peak_memory_bytes":
        return MEASURED
    return (*MEASURED, "inputs", "energy source") if metric == "energy_j" else (*MEASURED, "inputs")


def expanded(across: Iterable[str]) -> frozenset[str]:
    """The factors that may differ: who allows another runner allows the runtime in it."""
    named = frozenset(across)
    return named | {"runtime"} if "runner" in named else named


def differing(base: CellDigest, head: CellDigest, factors: Iterable[str]) -> tuple[Moved, ...]:
    """Of these conditions those that both know and that are not equal."""
    if base.conditions == head.conditions:
        return ()
    known = ((factor, base.conditions.get(factor), head.conditions.get(factor)) for factor in factors)
    return tuple(Moved(factor=f, base=b, head=h) for f, b, h in known if b is not None and h is not None and b != h)


def moved(base: CellDigest, head: CellDigest) -> tuple[Moved, ...]:
    """Every condition, fact and the artifact that is not the same; what is likely to explain a change comes first."""
    found = list(differing(base, head, sorted(base.conditions.keys() & head.conditions.keys())))
    if base.artifact_sha256 != head.artifact_sha256:
        found.append(Moved(factor="artifact", base=_short(base.artifact_sha256), head=_short(head.artifact_sha256)))
    found += [
        Moved(factor=fact, base=_text(one, two), head=_text(two, one))
        for fact in sorted(base.facts.keys() | head.facts.keys())
        if _told(fact, one := base.facts.get(fact), two := head.facts.get(fact))
    ]
    return tuple(sorted(found, key=lambda m: (_rank(m.factor), m.factor)))


def _told(fact: str, base: float | str | None, head: float | str | None) -> bool:
    if fact in _NOISE:
        return isinstance(base, int | float) and isinstance(head, int | float) and abs(head - base) >= _NOISE[fact]
    return base != head


def _rank(factor: str) -> int:
    for i, name in enumerate(_FIRST):
        if factor.startswith(name):
            return i
    return len(_FIRST) + (1 + _LAST.index(factor) if factor in _LAST else 0)


def _short(sha256: str | None) -> str | None:
    return sha256[:12] if sha256 else None


def _text(value: float | str | None, other: float | str | None) -> str | None:
    """A number with the digits that tell it from the other side's, and no more."""
    if value is None or isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return str(int(value))
    digits = (4, 7, 17)
    for n in digits:
        if not isinstance(other, int | float) or f"{value:.{n}g}" != f"{other:.{n}g}":
            return f"{value:.{n}g}"
    return f"{value:.{digits[-1]}g}"


def said(found: Iterable[Moved]) -> str:
    """In one line."""
    return "; ".join(map(str, found))
