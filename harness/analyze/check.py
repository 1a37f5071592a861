"""The output check: does the file on the device compute what the compressed eager model computes?

It gates every latency: a fast wrong answer is no answer. Compared is the compressed eager model, not the
reference: what compression costs is `accuracy_drop`; what the export and the device broke is seen here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.types import Precision

Array = NDArray[Any]

#: dB below which the check fails, with data
FLOORS_DB: dict[str, float] = {"fp32": 60.0, "fp16": 40.0, "dynamic": 40.0, "int4": 40.0, "static_int8": 25.0}
#: static int8 whose activation ranges come from example inputs (no data, or no calibration data)
UNCALIBRATED_FLOOR_DB = 5.0
LOW_SQNR_DB = 25.0
EQUAL_DB = 200.0
MIN_AGREEMENT = 0.99


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """`sqnr_db` and `max_abs` are of the worst leaf; None where they could not be computed (`reason` says why).

    `agreement`: share of samples with the same top-1 class, None where it does not apply."""

    ok: bool
    reason: str | None = None
    sqnr_db: float | None = None
    max_abs: float | None = None
    agreement: float | None = None
    caveats: tuple[str, ...] = ()


def output_check(
    expected: Sequence[Array],
    got: Sequence[Array],
    *,
    precision: Precision,
    has_data: bool,
    min_sqnr_db: float | None = None,
    top1: bool = False,
) -> CheckResult:
    """Compares outputs leaf by leaf; each array is (samples, *shape of one call's leaf).

    `has_data`: False also where PTQ used the example inputs. `min_sqnr_db` replaces the floor whatever the precision.
    `top1`: also ask for 99 % equal argmax over the last axis of the first leaf (the built-in `accuracy` with data).
    Integer and bool leaves are signals like any other. Never raises: what cannot be compared is a failed check."""
    if broken := _incomparable(expected, got):
        return CheckResult(ok=False, reason=broken)
    pairs = [(_signal_db(e, g), _max_abs(e, g)) for e, g in zip(expected, got, strict=True)]
    sqnr_db, max_abs = min(p[0] for p in pairs), max(p[1] for p in pairs)
    worst = [p[0] for p in pairs].index(sqnr_db)
    int8 = precision == "static_int8"
    floor = (
        min_sqnr_db
        if min_sqnr_db is not None
        else (UNCALIBRATED_FLOOR_DB if int8 and not has_data else FLOORS_DB[precision])
    )
    agreement = _agreement(expected[0], got[0]) if top1 and has_data else None
    caveats = ("low_sqnr",) if int8 and not has_data and sqnr_db < LOW_SQNR_DB else ()
    reason = None
    if sqnr_db < floor:
        where = f" in output {worst}" if len(pairs) > 1 else ""
        reason = f"{sqnr_db:.1f} dB{where}, {precision} must reach {floor:g} dB"
    elif agreement is not None and agreement < MIN_AGREEMENT:
        reason = f"top-1 agrees on {agreement:.1%} of the samples, at least {MIN_AGREEMENT:.0%} must"
    return CheckResult(
        ok=reason is None, reason=reason, sqnr_db=sqnr_db, max_abs=max_abs, agreement=agreement, caveats=caveats
    )


def _incomparable(expected: Sequence[Array], got: Sequence[Array]) -> str | None:
    if not expected:
        return "there is no expected output"
    if len(expected) != len(got):
        return f"{len(got)} outputs, the model has {len(expected)}"
    for index, (one, two) in enumerate(zip(expected, got, strict=True)):
        if one.shape != two.shape:
            return f"output {index} has the shape {list(two.shape)}, expected {list(one.shape)}"
        if one.size == 0:
            return f"output {index} is empty"
        for whose, values in (("", two), (" of the compressed model itself", one)):
            if bad := int((~np.isfinite(values)).sum()):
                return f"{bad} of {values.size} values in output {index}{whose} are not finite"
    return None


def _signal_db(expected: Array, got: Array) -> float:
    """10 log10(Σ e² / Σ (e - g)²) in dB, within ±200; exactly 200 only for equal outputs."""
    if np.array_equal(expected, got):
        return EQUAL_DB
    signal = expected.astype(np.float64).reshape(-1)
    error = signal - got.astype(np.float64).reshape(-1)
    scale = max(float(np.abs(signal).max()), float(np.abs(error).max())) or 1.0  # squares must not overflow
    power, noise = float(np.sum((signal / scale) ** 2)), float(np.sum((error / scale) ** 2))
    if noise == 0:  # int64 values that differ beyond float64, or a difference below its range
        return EQUAL_DB - 0.1
    if power == 0:
        return -EQUAL_DB
    return max(-EQUAL_DB, min(EQUAL_DB - 0.1, 10 * math.log10(power / noise)))


def _max_abs(expected: Array, got: Array) -> float:
    return float(np.abs(expected.astype(np.float64) - got.astype(np.float64)).max())


def _agreement(expected: Array, got: Array) -> float | None:
    """Share of equal argmax over the last axis; None where there are no classes to choose from."""
    if expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    return float(np.mean(expected.argmax(axis=-1) == got.argmax(axis=-1)))
