"""The same series through Apache Otava: false alarms and steps found, by its defaults and by harness.

    python benchmarks/otava.py [SEED] [--series N]

The series are those of benchmarks/proof/tracking.py. Otava is no dependency of the project: it lives in an environment
of its own, .venv-otava, which is made at the first time (300 MB: it brings clients of a few services along). Its
defaults are a window of 50, p = 0.001 and no least magnitude; beside them the same with one of 2 %, as harness has it.
Each series is looked at after each release, an alarm at any of these looks is one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv-otava"
VERSION = "0.8.0"
#: name -> least magnitude
SETTINGS = {"Otava": 0.0, "Otava, 2 %": 0.02}

Found = list[tuple[int, float]]


def environment() -> Path:
    """Otava's own Python, made where it is not there yet."""
    python = ENVIRONMENT / "bin" / "python"
    finished = ENVIRONMENT / f".otava-{VERSION}"
    if not finished.exists():
        print(f"making {ENVIRONMENT.name} with apache-otava {VERSION}", file=sys.stderr)
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, f"apache-otava=={VERSION}"], check=True)
        finished.touch()
    return python


def inside() -> None:
    """Runs in that environment: series and their looks come in, change points as (index, ratio) of each look go out."""
    from otava.analysis import compute_change_points  # type: ignore[import-not-found]

    def at(values: Sequence[float], least: float) -> Found:
        points, _ = compute_change_points(values, window_len=50, max_pvalue=0.001, min_magnitude=least)
        return [(int(p.index), float(1 + p.stats.forward_rel_change())) for p in points]

    asked = json.load(sys.stdin)
    json.dump([[at(values[:n], asked["least"]) for n in looks] for values, looks in asked["series"]], sys.stdout)


def by_otava(series: Sequence[tuple[Any, range]], least: float) -> list[dict[int, Found]]:
    """Of each series: length at a look -> what Otava finds in that much of it."""
    asked = json.dumps({"least": least, "series": [(values.tolist(), list(looks)) for values, looks in series]})
    done = subprocess.run(
        [str(environment()), "-P", str(Path(__file__).resolve()), "--inside"],  # -P: this file has the package's name
        input=asked, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    return [
        {n: [(at, ratio) for at, ratio in one] for n, one in zip(looks, told, strict=True)}
        for (_, looks), told in zip(series, found, strict=True)
    ]


def compare(seed: int, count: int) -> None:
    import numpy as np

    sys.path.insert(0, str(ROOT))
    from benchmarks.proof import tracking

    print(f"seed {seed}, {count} series of {tracking.RELEASES} releases of each kind; shares in %, ± 1 standard error")
    print(f"{'':34}{'':12}{'an alarm':>14}{'or better':>14}{'step found':>14}{'seconds':>10}")
    for number, (kind, name) in enumerate(tracking.KINDS.items()):
        rng = np.random.default_rng((seed, tracking.POINT, number))
        flat = [tracking.flat(kind, rng) for _ in range(count)]
        steps = [tracking.stepped(kind, rng) for _ in range(count)]
        looks = [(one, range(tracking.FIRST_LOOK, one.size + 1)) for one in flat]
        looks += [(one, range(at + 1, at + 1 + tracking.WITHIN)) for one, at in steps]
        for tool, least in {"harness": None, **SETTINGS}.items():
            began = time.monotonic()
            if least is None:
                finders = [tracking.ours] * len(looks)
            else:
                finders = [lambda values, told=told: told[values.size] for told in by_otava(looks, least)]
            alarms = [tracking.alarmed(one, find) for one, find in zip(flat, finders, strict=False)]
            noticed = [tracking.noticed(*one, find) for one, find in zip(steps, finders[count:], strict=True)]
            shares = [sum(worse for worse, _ in alarms), sum(found for _, found in alarms), sum(noticed)]
            told = "".join(f"{_share(hits, count):>14}" for hits in shares)
            print(f"{name:34}{tool:12}{told}{time.monotonic() - began:>10.0f}", flush=True)
            name = ""


def _share(hits: int, count: int) -> str:
    p = hits / count
    return f"{100 * p:.1f} ± {100 * (p * (1 - p) / count) ** 0.5:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="False alarms and steps found, by Apache Otava and by harness.")
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--series", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        inside()
    elif asked.seed < 0 or asked.series < 1:
        parser.error("a seed is not negative, and there is at least one series")
    else:
        compare(asked.seed, asked.series)


if __name__ == "__main__":
    main()
