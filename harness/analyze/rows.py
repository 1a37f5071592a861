"""What was planned, beside what was run: one row per planned cell, whatever became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.types import NULL_VARIANT, Build, Cell, Purpose, Run, Session, SessionDevice


@dataclass(frozen=True, kw_only=True)
class Row:
    """One planned cell. `device` is None for a build that was skipped or failed: once for all devices.

    `runs`: all attempts of the cell, whether they count or not. `nulls`: counted null runs of the same device,
    threads, cpus and runtime. `idles`: every idle window of the same device, whatever became of it."""

    build: Build
    device: SessionDevice | None = None
    threads: int | None = None
    cpus: str | None = None
    context: str | None = None
    runs: tuple[Run, ...] = ()
    nulls: tuple[Run, ...] = ()
    idles: tuple[Run, ...] = ()

    def counted(self, *purposes: Purpose) -> list[Run]:
        """The runs that stand for a repeat, in the order of their repeats."""
        ok = [r for r in self.runs if r.purpose in purposes and r.counts and r.status == "ok"]
        return sorted(ok, key=lambda r: r.repeat)

    def troubles(self, *purposes: Purpose) -> list[Run]:
        """The attempts that came to nothing, whatever the reason."""
        return [r for r in self.runs if r.purpose in purposes and r.status != "ok"]

    def named(self, device: str | None) -> dict[str, Any]:
        """The cell as documents name it, with `device` as its label."""
        facts = self.device.facts if self.device else None
        return {
            "variant": self.build.variant, "seed": self.build.seed, "exporter": self.build.exporter,
            "backend": self.build.backend, "input": self.build.input, "device": device,
            "device_id": facts.device_id if facts else None, "threads": self.threads, "cpus": self.cpus,
            "context": self.context,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What each cell was to get: by the session's plan, and by the experiment's `measure` where that is silent.

    `seed`: of the order of the runs, None where none is stored. `quick`: no enrolment, burn-in, energy and the like."""

    threads: tuple[int | None, ...]
    cpus: tuple[str, ...]
    repeats: int
    memory: bool
    cold_loads: int = 0
    energy: str = "off"
    sustained_minutes: float | None = None
    profile: bool = False
    seed: int | None = None
    quick: bool = False

    @classmethod
    def of(cls, session: Session) -> Planned:
        said: Mapping[str, Any] = {**session.package.experiment.get("measure", {}), **session.plan}
        return cls(
            threads=tuple(said.get("threads") or (1,)),
            cpus=tuple(said.get("cpus") or ("any",)),
            repeats=1 if session.quick else int(said.get("repeats", 1)),
            memory=bool(said.get("memory", False)),
            cold_loads=int(said.get("cold_loads") or 0),
            energy=str(said.get("energy") or "off"),
            sustained_minutes=said.get("sustained_minutes"),
            profile=bool(said.get("profile", False)),
            seed=said.get("seed"),
            quick=session.quick,
        )


def rows(session: Session, runs: Sequence[Run]) -> list[Row]:
    """Every planned cell in the order builds × devices × threads × cpus, with its runs.

    A backend that ignores threads is known by its runs: their cells have `threads` None, and such a build has one
    row per device and cpus. A device that was never reached has no device_id, so no run can be its."""
    planned = Planned.of(session)
    by_place: dict[tuple[Any, ...], dict[tuple[int | None, str], list[Run]]] = {}
    for run in runs:
        by_place.setdefault(_place(run.cell), {}).setdefault((run.cell.threads, run.cell.cpus), []).append(run)
    out: list[Row] = []
    for build in session.package.builds:
        if build.status != "ok":
            out.append(Row(build=build))
            continue
        for device in session.devices:
            identity = device.facts.device_id if device.facts else None
            unit = (identity, device.spec.context)  # one unit may be measured in two contexts
            mine = by_place.get((build.variant, build.seed, build.exporter, build.backend, build.input, *unit), {})
            runtime = build.artifact.runtime if build.artifact else build.exporter
            null_runs = _nulls(by_place, (NULL_VARIANT, runtime, *unit))
            idles = _idles(by_place, unit)
            threadless = any(threads is None for threads, _ in mine)
            for threads in (None,) if threadless else planned.threads:
                for cpus in device.spec.cpus or planned.cpus:
                    own = tuple(mine.get((threads, cpus), ()))
                    out.append(Row(
                        build=build, device=device, threads=threads, cpus=cpus, runs=own,
                        context=device.spec.context,
                        nulls=tuple(null_runs.get((threads, cpus), ())), idles=idles,
                    ))  # fmt: skip
    return out


def _place(cell: Cell) -> tuple[Any, ...]:
    if cell.variant == NULL_VARIANT:
        return (NULL_VARIANT, cell.exporter, cell.device_id, cell.context)
    return (cell.variant, cell.seed, cell.exporter, cell.backend, cell.input, cell.device_id, cell.context)


def _nulls(
    by_place: Mapping[tuple[Any, ...], Mapping[tuple[int | None, str], list[Run]]], place: tuple[Any, ...]
) -> dict[tuple[int | None, str], list[Run]]:
    found = by_place.get(place, {})
    return {k: [r for r in v if r.purpose == "memory" and r.counts and r.status == "ok"] for k, v in found.items()}


def _idles(
    by_place: Mapping[tuple[Any, ...], Mapping[tuple[int | None, str], list[Run]]], unit: tuple[Any, ...]
) -> tuple[Run, ...]:
    """One for all cells of the device: what idles has no runtime, threads or cpus."""
    places = [found for place, found in by_place.items() if place[0] == NULL_VARIANT and place[2:] == unit]
    return tuple(run for found in places for runs in found.values() for run in runs if run.purpose == "idle")
