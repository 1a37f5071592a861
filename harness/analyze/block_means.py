"""What each variant's runs say when what shook whole blocks is taken out: least squares over variants and blocks.

Every run is its variant's level plus its block's: x_bv = m_v + c_b + noise, the c_b adding up to nothing. Where all
variants ran in the same blocks m_v is plainly the mean; where some got more repeats than others, or lost a run, the
blocks that they do not share would tilt a plain mean while the device drifts (Montgomery, Design and Analysis of
Experiments, on incomplete blocks). How sure the levels are is asked of the blocks, by leaving out one at a time:
the delete-one jackknife, which for equal blocks is exactly s²/n, with every covariance of the variants.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def levels(x: Floats) -> Floats:
    """(variants,): the level of each. `x` (blocks, variants), NaN where a variant did not run in a block; each ran at
    least once. Where groups of variants share no block at all each group's blocks add up to nothing of their own."""
    there = np.isfinite(x)
    runs = there.sum(axis=0)
    filled = np.where(there, x, 0.0)
    means: Floats = filled.sum(axis=0) / runs
    if there.all() or x.shape[1] == 1:
        return means
    # normal equations with the variants' levels eliminated: one unknown a block
    share = there / runs
    left = np.diag(there.sum(axis=1).astype(np.float64)) - there.astype(np.float64) @ share.T
    right = filled.sum(axis=1) - there.astype(np.float64) @ means
    shifts = np.linalg.lstsq(left, right, rcond=1e-9)[0]  # the shortest solution: its blocks add up to nothing
    found: Floats = means - share.T @ shifts
    return found


def errors(x: Floats) -> Floats:
    """(blocks, variants): with one standard normal z_b per block, Σ_b z_b errors_bv has the covariance of the levels.

    Every variant ran in at least two blocks."""
    runs = np.isfinite(x).sum(axis=0)
    if np.isfinite(x).all():
        n = len(x)
        plain: Floats = (x - x.mean(axis=0)) / math.sqrt(n * (n - 1))
        return plain
    whole = levels(x)
    without = np.stack([levels(np.delete(x, b, axis=0)) for b in range(len(x))])
    found: Floats = (whole - without) * np.sqrt((runs - 1) / runs)
    return found
