"""Measuring base and head together, and again, on simulated devices whose truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest

from harness import confirm as confirming
from harness import lanes, pipeline, records, work
from harness import pairs as pairing
from harness.analyze.compare import Compared, Moved, compare
from harness.analyze.digest import Digest
from harness.analyze.history import Change, Point, Series
from harness.confirm import confirm
from harness.errors import Offline
from harness.package import Files
from harness.screen import Screen
from harness.settings import Settings
from harness.sim import world as worlds
from harness.sim.model import SimModel
from harness.sim.package import sim_device, sim_package
from harness.store import Store
from harness.types import BASE_SUFFIX, Cell, DeviceSpec, Package, Session

PI = "sim://pi5-fan?seed=4&run_sd=0.005"
QUIET = Screen(quiet=True)
Models = Mapping[str, SimModel]


def model(latency_ms: float, **more: Any) -> SimModel:
    return SimModel(latency_ms=latency_ms, power_w=0.5, **more)


@dataclasses.dataclass
class Bench:
    """A store with releases of one experiment, measured on one simulated device."""

    settings: Settings
    store: Store
    device: DeviceSpec = dataclasses.field(default_factory=lambda: sim_device(PI))

    @property
    def files(self) -> Files:
        return Files(self.settings.files)

    def package(self, models: Models, **plan: Any) -> Package:
        return sim_package(models, self.files, **({"repeats": 5, "memory": False} | plan))

    def release(self, label: str, models: Models, **plan: Any) -> Digest:
        settings = dataclasses.replace(self.settings, label=label)
        session = pipeline.run_package(self.package(models, **plan), self.files, [self.device], settings, QUIET)
        return records.digest_of(self.store, session.id)

    def pair(
        self, base: Models, head: Models, asked: int | None = None, **plan: Any
    ) -> tuple[Session, Digest, Digest]:
        pairs = pairing.merged(self.package(head, **plan), self.package(base, **plan), self.files)
        session = pairing.measure(pairs, self.files, [self.device], self.settings, QUIET, repeats=asked)
        return session, *pairing.digests(self.store, session, pairs)

    def confirm(self, rows: list[Compared], base: Digest, head: Digest) -> list[Compared]:
        return confirm(rows, [base], [head], self.store, self.settings, QUIET)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    worlds._worlds.clear()
    (tmp_path / "files").mkdir()
    url = f"sqlite:///{tmp_path}/h.db"
    store = Store.open(url, create=True)
    yield Bench(settings=Settings(store_url=url, files=tmp_path / "files"), store=store)
    store.close()
    worlds._worlds.clear()


def row(cell: Cell, metric: str = "latency_ms", **more: Any) -> Compared:
    """What was found worse from stored sessions."""
    said: dict[str, Any] = {
        "cell": cell, "device": PI, "metric": metric, "design": "unpaired", "base": 1.0, "head": 1.1, "ratio": 1.1,
        "ci95": (1.05, 1.15), "outcome": "worse", "n": 1, "threshold": 0.02,
    }  # fmt: skip
    return Compared(**(said | more))


def cell_of(digest: Digest, variant: str) -> Cell:
    return next(c.cell for c in digest.cells if c.cell.variant == variant)


def blocks(digest: Digest, variant: str, metric: str = "latency_ms") -> Mapping[int, float]:
    return next(c for c in digest.cells if c.cell.variant == variant).metrics[metric].blocks


# -- base and head in one session --------------------------------------------------------------------------------------


def test_a_fixed_number_of_pairs_is_made_and_taken_apart_again(bench: Bench) -> None:
    plan: dict[str, Any] = {"target_ci": 0.01, "cold_loads": 2}
    old, new = ({"fp32": model(10), "int8": model(ms)} for ms in (4, 5))
    session, base, head = bench.pair(old, new, **plan)
    assert session.kind == "paired" and not session.quick
    assert session.plan["target_ci"] is None and session.plan["repeats"] == session.plan["cold_loads"] == pairing.PAIRS
    assert {c.cell for c in base.cells} == {c.cell for c in head.cells}
    shared = blocks(base, "int8").keys() & blocks(head, "int8").keys()
    assert len(shared) == pairing.PAIRS
    ratio = mean(np.log(blocks(head, "int8")[b] / blocks(base, "int8")[b]) for b in shared)
    assert np.exp(ratio) == pytest.approx(5 / 4, rel=0.02)
    assert blocks(base, "fp32") == blocks(head, "fp32")  # the very same file, measured once
    runs = bench.store.runs(session.id, purpose="latency")
    assert {run.cell.variant for run in runs} == {"fp32", "int8", "int8" + BASE_SUFFIX}


@pytest.mark.parametrize(("asked", "plan", "made"), [(3, 5, 3), (None, 12, 12), (None, 3, pairing.PAIRS)])
def test_more_is_measured_where_the_plan_says_so_and_less_only_where_it_is_asked_for(
    bench: Bench, asked: int | None, plan: int, made: int
) -> None:
    session, base, _ = bench.pair({"a": model(10)}, {"a": model(11)}, asked, repeats=plan)
    assert session.plan["repeats"] == len(blocks(base, "a")) == made


def test_cut_short_it_goes_on_with_what_is_missing_and_counts_each_run_once(bench: Bench) -> None:
    pairs = pairing.merged(bench.package({"a": model(10)}), bench.package({"a": model(11)}), bench.files)
    hurried = dataclasses.replace(bench.settings, max_minutes=0.0)
    first = pairing.measure(pairs, bench.files, [bench.device], hurried, QUIET)
    assert first.finished_utc is None
    plain = pipeline.run_package(pairs.package, bench.files, [bench.device], bench.settings, QUIET)
    second = pairing.measure(pairs, bench.files, [bench.device], bench.settings, QUIET)
    assert second.id == first.id != plain.id and second.finished_utc is not None
    counted = [(r.cell.variant, r.purpose, r.repeat) for r in bench.store.runs(second.id) if r.counts]
    assert len(counted) == len(set(counted))
    assert sum(purpose == "latency" for _, purpose, _ in counted) == 2 * pairing.PAIRS


def test_the_same_files_again_are_a_new_session(bench: Bench) -> None:
    first, *_ = bench.pair({"a": model(10)}, {"a": model(10)})
    second, base, head = bench.pair({"a": model(10)}, {"a": model(10)})
    assert first.id != second.id
    assert base.cells == head.cells
    label = pairing.merged(bench.package({"a": model(10)}), bench.package({"a": model(11)}), bench.files)
    named = pairing.measure(label, bench.files, [bench.device], bench.settings, QUIET, label="v2")
    assert named.label == "v2" and bench.store.latest() == named.id


# -- measured again ----------------------------------------------------------------------------------------------------


def test_what_is_slower_is_confirmed_and_what_is_not_is_taken_back(bench: Bench) -> None:
    old = bench.release("v1", {"fp32": model(10, name="x"), "int8": model(4)})
    new = bench.release("v2", {"fp32": model(10, name="y"), "int8": model(5)})
    rows = [row(cell_of(new, "fp32")), row(cell_of(new, "int8")), row(cell_of(new, "int8"), "load_ms", outcome="same")]
    fp32, int8, load = bench.confirm(rows, old, new)
    assert (int8.outcome, int8.confirmed, int8.design) == ("worse", True, "paired")
    assert int8.ratio == pytest.approx(1.25, rel=0.02) and int8.n == pairing.PAIRS
    assert fp32.outcome in ("same", "inconclusive") and fp32.confirmed is False
    assert fp32.reason is not None and "not confirmed" in fp32.reason and "1.100x before" in fp32.reason
    assert load == rows[2]
    newest = bench.store.list_sessions()[0]
    assert newest["kind"] == "confirm" and newest["label"] is None
    assert bench.store.latest() != newest["id"]  # pages and picks are of releases


def test_one_and_the_same_file_is_not_measured_and_never_worse(bench: Bench) -> None:
    old, new = (bench.release(label, {"a": model(10)}) for label in ("v1", "v2"))
    before = len(bench.store.list_sessions())
    (found,) = bench.confirm([row(cell_of(new, "a"))], old, new)
    assert (found.outcome, found.confirmed) == ("same", False)
    assert "very same file" in str(found.reason)
    assert len(bench.store.list_sessions()) == before


@pytest.mark.parametrize("name", ["x", "y"])  # another file of the same truth, and the very same
def test_what_surrounded_it_cannot_be_brought_back_so_it_stays_worse(bench: Bench, name: str) -> None:
    old, new = bench.release("v1", {"a": model(10, name="x")}), bench.release("v2", {"a": model(10, name=name)})
    moved = (Moved(factor="os", base="12", head="13"), Moved(factor="load average", base="0", head="1"))
    (found,) = bench.confirm([row(cell_of(new, "a"), moved=moved)], old, new)
    assert (found.outcome, found.confirmed) == ("worse", None)
    assert "os: 12 -> 13" in str(found.reason) and "load average" not in str(found.reason)


def test_what_is_exact_or_of_the_same_answers_needs_no_second_measurement(bench: Bench) -> None:
    old, new = bench.release("v1", {"a": model(10)}), bench.release("v2", {"a": model(11)})
    before = len(bench.store.list_sessions())
    cell = cell_of(new, "a")
    rows = [row(cell, "size_bytes", design="exact"), row(cell, "accuracy", design="samples")]
    assert [(r.outcome, r.confirmed) for r in bench.confirm(rows, old, new)] == [("worse", True)] * 2
    assert len(bench.store.list_sessions()) == before


def test_a_file_that_is_gone_leaves_it_worse_and_says_so(bench: Bench) -> None:
    old, new = bench.release("v1", {"a": model(10)}), bench.release("v2", {"a": model(11)})
    artifact = bench.store.session(old.session).package.builds[0].artifact
    assert artifact is not None
    (bench.settings.files / artifact.file_name).unlink()
    (found,) = bench.confirm([row(cell_of(new, "a"), reason="from stored sessions")], old, new)
    assert (found.outcome, found.confirmed) == ("worse", None)
    assert str(found.reason).startswith("could not be confirmed: the base's file")
    assert str(found.reason).endswith("; from stored sessions")


def test_a_device_that_is_away_leaves_it_worse_and_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = bench.release("v1", {"a": model(10)}), bench.release("v2", {"a": model(11)})

    def away(spec: DeviceSpec) -> Any:
        raise Offline(f"{spec.name} is offline", "plug it in")

    monkeypatch.setattr(lanes, "look", away)
    (found,) = bench.confirm([row(cell_of(new, "a"))], old, new)
    assert (found.outcome, found.confirmed) == ("worse", None)
    assert "is offline" in str(found.reason)


def test_another_unit_at_its_address_is_no_confirmation(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = bench.release("v1", {"a": model(10)}), bench.release("v2", {"a": model(11)})
    another = lambda spec: dataclasses.replace(work.look(spec), device_id="another")  # noqa: E731
    monkeypatch.setattr(lanes, "look", another)
    (found,) = bench.confirm([row(cell_of(new, "a"))], old, new)
    assert (found.outcome, found.confirmed) == ("worse", None)


def test_only_what_the_rows_need_is_measured(bench: Bench) -> None:
    plan: dict[str, Any] = {"memory": True, "cold_loads": 2, "threads": [1, 2], "sustained_minutes": 1.0}
    old = bench.release("v1", {"a": model(10), "b": model(5)}, **plan)
    new = bench.release("v2", {"a": model(11), "b": model(6)}, **plan)
    cell = next(c.cell for c in new.cells if c.cell.variant == "a" and c.cell.threads == 2)
    (found,) = bench.confirm([row(cell)], old, new)
    assert found.confirmed is True
    made = bench.store.runs(bench.store.list_sessions()[0]["id"])
    assert {r.purpose for r in made} == {"sentinel", "burn_in", "latency"}
    timed = [r for r in made if r.purpose == "latency"]
    assert {(r.cell.variant, r.cell.threads) for r in timed} == {("a", 2), ("a" + BASE_SUFFIX, 2)}


def test_a_paired_verdict_is_measured_once_more(bench: Bench) -> None:
    _, base, head = bench.pair({"a": model(10)}, {"a": model(12)})
    rows = [r for r in compare([base], [head], []) if r.metric == "latency_ms"]
    assert [(r.outcome, r.design, r.confirmed) for r in rows] == [("worse", "paired", None)]
    (found,) = bench.confirm(rows, base, head)
    assert (found.outcome, found.confirmed) == ("worse", True)
    assert found.ratio != rows[0].ratio  # of a session of its own


# -- change points -----------------------------------------------------------------------------------------------------


def series(cell: Cell, sessions: list[str], metric: str = "latency_ms") -> Series:
    points = [
        Point(label=f"v{i}", sessions=(one,), created_utc=f"{i}", value=1.0, relative=1.0, runs=5, segment=0)
        for i, one in enumerate(sessions)
    ]
    return Series(cell=cell, device=PI, metric=metric, lower_is_better=True, points=tuple(points), changes=())


def alarm(worse: bool = True) -> Change:
    return Change(at=1, ratio=1.1, p_value=1e-6, worse=worse)


@pytest.mark.parametrize(
    ("truth", "worse", "confirmed"), [(12, True, True), (10, True, False), (8, False, True), (12, False, False)]
)
def test_a_change_point_is_measured_before_against_behind(
    bench: Bench, truth: float, worse: bool, confirmed: bool
) -> None:
    old, new = bench.release("v0", {"a": model(10, name="x")}), bench.release("v1", {"a": model(truth, name="y")})
    found = confirming.change(
        series(cell_of(new, "a"), [old.session, new.session]), alarm(worse), bench.store, bench.settings, QUIET
    )
    assert found.confirmed is confirmed
    assert (found.reason is None) == confirmed


def test_change_points_that_need_no_measurement_or_cannot_have_one(bench: Bench) -> None:
    one = bench.release("v0", {"a": model(10)})
    before = len(bench.store.list_sessions())
    cell = cell_of(one, "a")
    asked = [
        (series(cell, [one.session, one.session], "size_bytes"), alarm()),
        (series(cell, [one.session, one.session]), alarm()),
        (series(cell, ["gone", one.session]), alarm()),
    ]
    of_the_file, same, gone = confirming.changes(asked, bench.store, bench.settings, QUIET)
    assert of_the_file.confirmed is True
    assert same.confirmed is False
    assert gone.confirmed is None and "gone" in str(gone.reason)
    assert len(bench.store.list_sessions()) == before
