"""The table of the proof: claim, target, measured, trials, Monte-Carlo error, held.

    python -m benchmarks.proof.run [SEED] [--short] [--points 1,2,…]

Exit 1 if a claim does not hold. Any seed will do: a claim that holds hardly misses one seed in five by chance.
`--short` has so few trials that it only refutes what is far off (4 standard errors); it runs in the tests."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from benchmarks.proof import (
    adaptive,
    choosing,
    comparing,
    coverage,
    energy,
    real,
    releases,
    statuses,
    through,
    tracking,
)
from benchmarks.proof.claims import Row, table

POINTS: Mapping[int, Callable[[int, bool], list[Row]]] = {
    1: coverage.rows,
    2: lambda seed, short: [*through.rows(seed, short), *comparing.rows(seed, short)],
    3: adaptive.rows,
    4: energy.rows,
    5: statuses.rows,
    6: real.rows,
    7: choosing.rows,
    8: tracking.rows,
    9: releases.rows,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof.run", description="The table of the proof.")
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="few trials: refutes only what is far off")
    parser.add_argument("--points", default=",".join(map(str, POINTS)), help="which of them, by number")
    asked = parser.parse_args(arguments)
    try:
        points = [int(text) for text in asked.points.split(",")]
    except ValueError:
        parser.error(f"--points: {asked.points!r} is no list of numbers")
    if unknown := set(points) - set(POINTS):
        parser.error(f"--points: there is no point {min(unknown)}; there are {', '.join(map(str, POINTS))}")
    if asked.seed < 0:
        parser.error("a seed is not negative")
    rows: list[Row] = []
    for point in points:
        began = time.monotonic()
        rows += POINTS[point](asked.seed, asked.short)
        print(f"point {point}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"seed {asked.seed}{', short form' if asked.short else ''}")
    print(table(rows))
    missed = sum(row.held is False for row in rows)
    claims = sum(row.held is not None for row in rows)
    print(f"{claims - missed} of {claims} claims held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
