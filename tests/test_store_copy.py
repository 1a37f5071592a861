"""`store copy`: whole, exact, never over what is there, and completed where it was cut off."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import StoreError
from harness.store import Store, side
from harness.store.copy import Copied, copy
from harness.store.raw import EXACT, TABLES, of_session
from harness.store.reading import READABLE, open_unchanged
from harness.types import SessionDevice
from tests.copy_kit import FACTS, append, execute, fill, held, older
from tests.test_store import make_run

Place = Callable[[str], str]
Pair = tuple[str, str, str]
KINDS = ("sqlite", "postgres")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """`place("sqlite")`, `place("postgres")`: the URL of a store that nobody has made yet."""
    made: list[str] = []

    def new(kind: str) -> str:
        made.append(kind)
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/{len(made)}.db"
        return str(request.getfixturevalue("postgres")())

    return new


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a store and its copy, and the session in them that goes on."""
    folder = tmp_path_factory.mktemp("made")
    *_, session = fill(f"sqlite:///{folder}/source.db")
    copied(f"sqlite:///{folder}/source.db", f"sqlite:///{folder}/target.db")
    return folder, session


@pytest.fixture
def pair(made: tuple[Path, str], tmp_path: Path) -> Pair:
    """The URLs of a store and of its copy, and the session in them that goes on."""
    for name in ("source.db", "target.db"):
        shutil.copy(made[0] / name, tmp_path / name)
    return f"sqlite:///{tmp_path}/source.db", f"sqlite:///{tmp_path}/target.db", made[1]


def copied(source: str, target: str, tell: Any = lambda done, total, what: None) -> Copied:
    theirs, mine = open_unchanged(source), Store.open(target, create=True)
    try:
        return copy(theirs, mine, tell)
    finally:
        theirs.close()
        mine.close()


# -- lossless --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "portion"), [(("sqlite", "sqlite"), 2), (("sqlite", "postgres", "postgres", "sqlite"), 500)]
)
def test_every_row_of_every_table_arrives_as_it_was(
    place: Place, way: tuple[str, ...], portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side, "MOST_ROWS", portion)
    urls = [place(kind) for kind in way]
    fill(urls[0])
    before = held(urls[0])
    assert all(before.values()), "a table that is empty shows nothing"
    for source, target in itertools.pairwise(urls):
        found = copied(source, target)
        assert held(target) == before
        assert held(source) == before
        assert found.new == {name: len(before[name]) for name in TABLES}
        again = copied(source, target)
        assert (again.there, set(again.new.values()), again.kept) == (found.new, {0}, ())
        assert held(target) == before


def test_a_copy_goes_beside_what_is_there(place: Place) -> None:
    source, target = place("sqlite"), place("sqlite")
    fill(source), fill(target, "other-")
    before, there = held(source), held(target)
    copied(source, target)
    after = held(target)
    assert {n: set(rows) for n, rows in after.items()} == {n: {*before[n], *there[n]} for n in after}


def test_every_table_hangs_on_a_session_or_is_known_to_hang_on_none() -> None:
    assert {name for name in TABLES if of_session(EXACT[name], "x") is None} == {"baselines"}


def test_only_runs_are_unique_by_more_than_their_key() -> None:
    """Else copy.py must look for such rows, too, before it writes: see _refuse_same_slots."""
    unique = {t.name for t in TABLES.values() if any(c.name and c.name.startswith("one_") for c in t.constraints)}
    unique |= {t.name for t in TABLES.values() if any(i.unique for i in t.indexes)}
    assert unique == {"runs"}


def test_samples_are_held_a_few_megabytes_at_a_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place("sqlite")
    session = fill(source)[0]
    monkeypatch.setattr(side, "MOST_BYTES", 900)
    sizes = {(row[0],): row[1] for row in execute(source, "SELECT run_id, length(blob) FROM samples")}
    store = Store.open(source)
    with store.engine.connect() as connection:
        portions = list(side.Side.of(connection, source).keys("samples", session))
    assert sorted(key for portion in portions for key in portion) == sorted(k for k in sizes if k[0].startswith("0-"))
    assert all(len(portion) == 1 or sum(sizes[key] for key in portion) <= 900 for portion in portions)
    assert any(len(portion) > 1 for portion in portions)


# -- what may be filled in -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_session_has_gained_since_is_brought_by_the_next_copy(place: Place, kind: str) -> None:
    source, target = place("sqlite"), place(kind)
    *_, session = fill(source)
    copied(source, target)
    store = Store.open(source)
    append(store, session, "later", 3, repeat=100)
    spec = store.session(session).devices[0].spec
    store.put_device(session, SessionDevice(spec=spec, facts=FACTS, runners={"executorch": "abc"}))
    store.finish(session)
    found = copied(source, target)
    assert held(target) == held(source)
    assert (found.new["runs"], found.new["samples"], found.new["sessions"]) == (4, 3, 0)
    assert (found.filled["sessions"], found.filled["session_devices"]) == (1, 1)


def test_a_target_that_is_further_on_stays_as_it_is(pair: Pair) -> None:
    source, target, session = pair
    store = Store.open(target)
    append(store, session, "later", 3, repeat=100)
    spec = store.session(session).devices[0].spec
    store.put_device(session, SessionDevice(spec=spec, facts=FACTS, runners={"executorch": "abc"}))
    store.finish(session)
    before = held(target)
    found = copied(source, target)
    assert held(target) == before
    assert (set(found.new.values()), found.kept) == ({0}, ())


@pytest.mark.parametrize("where", ["source", "target"])
def test_what_is_known_of_a_device_where_the_session_ended_is_the_newer(place: Place, where: str) -> None:
    urls = {"source": place("sqlite"), "target": place("sqlite")}
    *_, session = fill(urls["source"])
    spec = Store.open(urls["source"]).session(session).devices[0].spec
    Store.open(urls["source"]).put_device(session, SessionDevice(spec=spec, facts=FACTS))
    copied(urls["source"], urls["target"])
    store = Store.open(urls[where])
    store.put_device(session, SessionDevice(spec=spec, facts=dataclasses.replace(FACTS, memory_bytes=7)))
    store.finish(session)
    after = held(urls[where])
    assert copied(urls["source"], urls["target"]).kept == ()
    assert held(urls["target"]) == after


def test_a_session_measured_in_both_on_other_cells_is_put_together(pair: Pair) -> None:
    source, target, session = pair
    append(Store.open(source), session, "there", 2, repeat=100)
    append(Store.open(target), session, "here", 2, repeat=200)
    copied(source, target)
    copied(target, source)
    assert held(source)["runs"] == held(target)["runs"]
    assert {"there-0", "here-0"} < {row[0] for row in held(target)["runs"]}


def test_a_digest_of_other_runs_does_not_stay(pair: Pair) -> None:
    source, target, session = pair
    Store.open(target).put_digest(session, "1 8 None", b"of 8 runs")
    append(Store.open(source), session, "later", 1, repeat=100)
    copied(source, target)
    assert Store.open(target).digests({session: "1 8 None"}) == {}
    Store.open(source).put_digest(session, "1 10 None", b"of 10 runs")
    copied(source, target)
    assert Store.open(target).digests({session: "1 10 None"}) == {session: b"of 10 runs"}
    append(Store.open(target), session, "mine", 1, repeat=200)
    execute(target, "DELETE FROM digests")
    copied(source, target)
    assert Store.open(target).digests({session: "1 10 None"}) == {}  # there are twelve here


def test_a_digest_that_both_have_is_the_targets_own(place: Place) -> None:
    source, target = place("sqlite"), place("sqlite")
    session = fill(source)[0]
    copied(source, target)
    Store.open(target).put_digest(session, "made anew", b"by a newer harness")
    copied(source, target)
    assert Store.open(target).digests({session: "made anew"}) == {session: b"by a newer harness"}


def test_the_targets_own_baseline_and_note_of_an_import_stay(place: Place) -> None:
    source, target = place("sqlite"), place("sqlite")
    _, _, imported, measured = fill(source)
    copied(source, target)
    Store.open(target).set_baseline("exp", "r2")
    execute(target, "UPDATE imports SET file = 'mine.csv'")
    execute(source, f"INSERT INTO imports VALUES ('{measured}', 'f', 'a', 'b')")
    before = held(target)
    found = copied(source, target)
    assert held(target) == before
    assert any("baseline of exp stays r2 (in the source it is r1)" in sentence for sentence in found.kept)
    assert any(imported[:8] in sentence for sentence in found.kept)


# -- conflicts -------------------------------------------------------------------------------------------------------


def edited(statement: str) -> Callable[[str, str, str], None]:
    return lambda source, target, session: execute(target, statement, s=session) and None


def both_went_on(purpose: str = "latency", **changes: object) -> Callable[[str, str, str], None]:
    def change(source: str, target: str, session: str) -> None:
        for url, name in ((source, "there"), (target, "here")):
            run = make_run(session, id=name, repeat=100, purpose=purpose, **changes)
            assert Store.open(url).append(run)

    return change


def both_finished(source: str, target: str, session: str) -> None:
    execute(source, "UPDATE sessions SET finished_utc = '2026-01-02' WHERE id = :s", s=session)
    execute(target, "UPDATE sessions SET finished_utc = '2026-01-03' WHERE id = :s", s=session)


def two_units(column: str, here: str, there: str) -> Callable[[str, str, str], None]:
    def change(source: str, target: str, session: str) -> None:
        for url, value in ((source, there), (target, here)):
            store = Store.open(url)
            spec = store.session(session).devices[0].spec
            facts = dataclasses.replace(FACTS, **{column: value}) if column != "runners" else FACTS
            runners = {"executorch": value if column == "runners" else "abc"}
            store.put_device(session, SessionDevice(spec=spec, facts=facts, runners=runners))

    return change


def moved_run(source: str, target: str, session: str) -> None:
    execute(target, "UPDATE runs SET session_id = :s, repeat = 77 WHERE id = '0-1'", s=session)


def more_out_of_a_file(source: str, target: str, session: str) -> None:
    note = f"INSERT INTO imports VALUES ('{session}', 'runs.csv', '{'a' * 64}', '2026-01-01T00:00:00.000+00:00')"
    execute(source, note)
    Store.open(source).append(make_run(session, id="made up", repeat=100))


CONFLICTS = [
    ("samples of a run that has none", edited("DELETE FROM samples WHERE run_id = '2-3'"), "run 2-3 .*samples in"),
    ("more of a session, out of a file", more_out_of_a_file, "was measured into the target"),
    ("a run's number", edited("UPDATE runs SET summary = '{}' WHERE id = '2-3'"), "run 2-3 .*differs in summary"),
    ("a status", edited("UPDATE runs SET status = 'failed' WHERE id = '2-3'"), "run 2-3 .*differs in status"),
    ("an integer", edited("UPDATE runs SET start_boottime_ns = 7 WHERE id = '2-3'"), "run 2-3 .*start_boottime_ns"),
    ("samples", edited("UPDATE samples SET blob = CAST(:s AS BLOB) WHERE run_id = '2-3'"), "run 2-3 .*differs in blob"),
    ("a plan", edited("UPDATE sessions SET plan = '{\"seed\": 1.0}' WHERE id = :s"), "exp r2.*differs in plan"),
    ("a label", edited("UPDATE sessions SET label = NULL WHERE id = :s"), "differs in label"),
    ("a device", edited("UPDATE session_devices SET spec = '{}' WHERE session_id = :s"), "device local .*in spec"),
    ("a run of another session", moved_run, "run 0-1 .*differs in session_id, repeat"),
    ("a slot", both_went_on(), "went on in both stores: latency, repeat 100 .*run there .*run here"),
    ("a slot of another attempt", both_went_on(attempt=1), "run there .*run here"),
    ("an attempt", both_went_on(counts=False, status="failed"), "run there .*run here"),
    ("two ends", both_finished, "finished in each"),
    ("another unit", two_units("device_id", "aaaaaaaa", "bbbbbbbb"), "device_id bbbbbbbb, in the target aaaaaaaa"),
    ("another system", two_units("os", "L 1", "L 2"), "os L 2, in the target L 1"),
    ("another runner", two_units("runners", "abc", "def"), "two different runners"),
]


@pytest.mark.parametrize(("change", "says"), [pytest.param(*c[1:], id=c[0]) for c in CONFLICTS])
def test_what_is_there_and_differs_is_refused_before_anything_is_written(
    pair: Pair, change: Callable[[str, str, str], None], says: str
) -> None:
    source, target, session = pair
    change(source, target, session)
    fill(source, "a-new-")  # sorted after, and looked at after; it must not come either
    execute(source, "UPDATE sessions SET created_utc = '2020' WHERE label LIKE 'a-new-%'")  # nor when before
    before, theirs = held(target), held(source)
    with pytest.raises(StoreError, match=f"(?s){says}.*nothing was written"):
        copied(source, target)
    assert held(target) == before
    assert held(source) == theirs


def test_two_attempts_of_one_slot_that_both_count_are_refused(pair: Pair) -> None:
    source, target, session = pair
    Store.open(source).append(make_run(session, id="there", repeat=100, attempt=1))
    Store.open(target).append(make_run(session, id="here", repeat=100, attempt=2))
    with pytest.raises(StoreError, match=r"run there .*run here"):
        copied(source, target)


def test_a_refusal_on_postgres_is_the_same(place: Place) -> None:
    source, target = place("sqlite"), place("postgres")
    *_, session = fill(source)
    copied(source, target)
    both_went_on()(source, target, session)
    before = held(target)
    with pytest.raises(StoreError, match=r"run there .*run here.*nothing was written"):
        copied(source, target)
    assert held(target) == before


def test_json_that_is_only_written_otherwise_is_no_difference(pair: Pair) -> None:
    source, target, session = pair
    (plan,) = execute(source, "SELECT plan FROM sessions WHERE id = :s", s=session)[0]
    execute(target, "UPDATE sessions SET plan = :p WHERE id = :s", p=json.dumps(json.loads(plan), indent=3), s=session)
    before = held(target)
    copied(source, target)
    assert held(target) == before


# -- in company, and cut off -----------------------------------------------------------------------------------------

PROGRAM = """
import os, signal, sys
from harness.store import Store
from harness.store.copy import copy
from harness.store.reading import open_unchanged
calls = 0
def tell(done, total, what):
    global calls
    calls += what.startswith("copying")
    if calls and calls == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
copied = copy(open_unchanged(sys.argv[1]), Store.open(sys.argv[2], create=True), tell)
print(sum(copied.new.values()))
"""


def started(source: str, target: str, kill_at: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source, target, str(kill_at)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_that_was_killed_is_completed_by_the_next(place: Place, kind: str) -> None:
    source, target = place("sqlite"), place(kind)
    fill(source)
    before = held(source)
    seen = set()
    for kill_at in (1, 3, 6):  # in the first session, and further on
        process = started(source, target, kill_at)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == -signal.SIGKILL, said
        there = held(target)
        seen.add(len(there["sessions"]))
        for session in {row[0] for row in there["sessions"]}:  # whole sessions only
            assert [r for r in there["runs"] if session in r] == [r for r in before["runs"] if session in r]
    assert seen != {0} and max(seen) < len(before["sessions"])
    copied(source, target)
    assert held(target) == before


@pytest.mark.parametrize("kind", KINDS)
def test_copies_at_once_into_one_target_lose_and_double_nothing(place: Place, kind: str) -> None:
    source, other, target = place("sqlite"), place("sqlite"), place(kind)
    fill(source)
    copied(source, other)
    fill(other, "other-")
    Store.open(target, create=True).close()
    processes = [started(url, target) for url in (source, other, source, other)]
    said = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert held(target) == held(other)
    assert sum(int(out) for out, _ in said) == sum(len(rows) for name, rows in held(other).items() if name in TABLES)


@pytest.mark.parametrize("kind", KINDS)
def test_runs_measured_meanwhile_are_left_to_the_next_copy(place: Place, kind: str) -> None:
    """The source is one moment's: never the end of a session without the runs that came before it."""
    source, target = place(kind), place("sqlite")
    *_, session = fill(source)
    before, told = held(source), []

    def tell(done: int, total: int, what: str) -> None:
        if not told:
            store = Store.open(source)
            append(store, session, "meanwhile", 3, repeat=100)
            store.finish(session)
            store.close()
        told.append((done, total, what))

    copied(source, target, tell)
    assert held(target) == before
    copied(source, target)
    assert held(target) == held(source) != before


def meanwhile(target: str, change: Callable[[], None]) -> Callable[[int, int, str], None]:
    """`change` once, after all was checked and before the first session is written."""
    checked: list[str] = []

    def tell(done: int, total: int, what: str) -> None:
        if what == "checking baselines" and not checked:
            checked.append(what)
            change()

    return tell


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_into_the_target_meanwhile_is_seen(place: Place, kind: str) -> None:
    source, target = place("sqlite"), place(kind)
    *_, session = fill(source)
    copied(source, target)
    Store.open(source).append(make_run(session, id="both", repeat=100))
    same = meanwhile(target, lambda: Store.open(target).append(make_run(session, id="both", repeat=100)) and None)
    assert copied(source, target, same).new["runs"] == 0
    Store.open(source).append(make_run(session, id="there", repeat=101))
    other = meanwhile(target, lambda: Store.open(target).append(make_run(session, id="here", repeat=101)) and None)
    with pytest.raises(StoreError, match=r"run there .*run here.*during this copy"):
        copied(source, target, other)
    assert [row[0] for row in held(target)["runs"] if row[0] in ("both", "here", "there")] == ["both", "here"]


def test_a_run_that_another_writer_stores_first_is_looked_at_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server measurements go on while a session is written."""
    source, target = place("sqlite"), place("postgres")
    *_, session = fill(source)
    copied(source, target)
    runs = [make_run(session, id=f"new-{n}", repeat=100 + n) for n in range(3)]
    assert all(Store.open(source).append(run) for run in runs)
    monkeypatch.setattr(side, "MOST_ROWS", 1)
    told: list[str] = []

    def tell(done: int, total: int, what: str) -> None:
        told.append(what)
        if what.startswith("copying") and sum(t.startswith("copying") for t in told) == 1:
            mine = Store.open(target)
            assert not any(run.id.startswith("new") for run in mine.runs(session)), "what is not committed is unseen"
            assert mine.append(runs[-1])
            mine.close()

    assert copied(source, target, tell).new["runs"] == 2
    assert held(target)["runs"] == held(source)["runs"]


def test_where_it_cannot_be_seen_which_device_is_the_newer_that_is_told(pair: Pair) -> None:
    source, target, session = pair
    for url, size in ((source, 7), (target, 8)):
        store = Store.open(url)
        spec = store.session(session).devices[0].spec
        store.put_device(session, SessionDevice(spec=spec, facts=dataclasses.replace(FACTS, memory_bytes=size)))
    before = held(target)
    (kept,) = copied(source, target).kept
    assert "device local: the target's facts" in kept
    assert held(target) == before


def test_a_dry_run_says_what_would_be_new_and_writes_nothing(place: Place) -> None:
    source, target = place("sqlite"), place("sqlite")
    *_, session = fill(source)
    fill(target, "other-")
    before = held(target)
    expected = copy(open_unchanged(source), Store.open(target), dry_run=True)
    assert held(target) == before
    assert expected == copied(source, target) and expected.new["runs"] == 24
    both_went_on()(source, target, session)
    with pytest.raises(StoreError, match="went on in both"):
        copy(open_unchanged(source), Store.open(target), dry_run=True)


@pytest.mark.parametrize("lost", ["source", "target"])
def test_a_connection_that_is_lost_is_one_message_or_none(
    place: Place, lost: str, request: pytest.FixtureRequest
) -> None:
    server, urls = request.getfixturevalue("postgres"), {"source": place("postgres"), "target": place("postgres")}
    fill(urls["source"])
    ended: list[str] = []

    def tell(done: int, total: int, what: str) -> None:
        if what.startswith("copying") and not ended:
            ended.append(what)
            name = urls[lost].rpartition("/")[2]
            server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    if lost == "source":  # of which another moment would be read
        with pytest.raises(StoreError, match=r"terminat|closed|lost"):
            copied(urls["source"], urls["target"], tell)
    copied(urls["source"], urls["target"], tell)
    assert ended and held(urls["target"]) == held(urls["source"])


def test_a_target_that_alters_what_it_is_given_is_found_out(place: Place) -> None:
    source, target = place("sqlite"), place("sqlite")
    fill(source)
    Store.open(target, create=True).close()
    change = "UPDATE samples SET blob = x'00' WHERE run_id = new.run_id"
    execute(target, f"CREATE TRIGGER alters AFTER INSERT ON samples BEGIN {change}; END")
    with pytest.raises(StoreError, match=r"samples .* came back otherwise"):
        copied(source, target)
    assert not any(rows for name, rows in held(target).items() if name in TABLES)


# -- stores that are only read, older, newer, or none ----------------------------------------------------------------


@pytest.mark.parametrize("version", READABLE)
def test_an_older_store_is_read_and_stays_older(tmp_path: Path, version: str) -> None:
    source = older(tmp_path / "old.db", version)
    before, content = held(source), (tmp_path / "old.db").read_bytes()
    copied(source, f"sqlite:///{tmp_path}/new.db")
    after = held(f"sqlite:///{tmp_path}/new.db")
    assert {name: rows for name, rows in after.items() if name in before} | {"alembic_version": [(version,)]} == before
    assert (tmp_path / "old.db").read_bytes() == content


@pytest.mark.parametrize("version", READABLE)
def test_a_schema_that_is_read_as_it_is_has_todays_columns(tmp_path: Path, version: str) -> None:
    from sqlalchemy import create_engine, inspect

    found = inspect(create_engine(older(tmp_path / "old.db", version)))
    for name in set(found.get_table_names()) - {"alembic_version"}:
        assert [c["name"] for c in found.get_columns(name)] == [c.name for c in TABLES[name].c]


def test_a_role_that_can_only_read_is_enough_for_the_source(place: Place, request: pytest.FixtureRequest) -> None:
    server, source, target = request.getfixturevalue("postgres"), place("postgres"), place("sqlite")
    fill(source)
    copied(server.reader(source), target)
    assert held(target) == held(source)


def test_a_target_that_can_only_be_read_is_refused(place: Place, request: pytest.FixtureRequest) -> None:
    server, source, target = request.getfixturevalue("postgres"), place("sqlite"), place("postgres")
    fill(source)
    Store.open(target, create=True).close()
    with pytest.raises(StoreError, match="may not INSERT"):
        copied(source, server.reader(target))
    assert not any(rows for name, rows in held(target).items() if name in TABLES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE samples SET blob = 'text' WHERE run_id = '0-1'",
        "UPDATE runs SET repeat = 'text' WHERE id = '0-1'",
        "UPDATE runs SET id = x'ff' WHERE id = '0-no'",
        "UPDATE runs SET summary = x'ff' WHERE id = '0-1'",
    ],
)
def test_what_is_no_value_of_its_column_is_one_message(place: Place, kind: str, damage: str) -> None:
    """SQLite keeps any value in any column."""
    source, target = place("sqlite"), place(kind)
    fill(source)
    execute(source, damage)
    with pytest.raises(StoreError, match=source):
        copied(source, target)
    assert "r1" not in str(held(target)["sessions"])


@pytest.mark.skipif(os.getuid() != 0, reason="needs a file system of its own: sudo make test")
def test_a_file_that_can_only_be_read_is_enough_for_the_source(tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir()
    source, target = f"sqlite:///{tmp_path}/ro/h.db", f"sqlite:///{tmp_path}/t.db"
    fill(source)
    mount = f'mount --bind "{tmp_path}/ro" "{tmp_path}/ro" && mount -o remount,ro,bind "{tmp_path}/ro" && exec "$@"'
    program = [sys.executable, "-m", "harness", "store", "copy", source, target]
    done = subprocess.run(["unshare", "-m", "sh", "-c", mount, "sh", *program], capture_output=True, text=True)
    if "mount:" in done.stderr:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert held(target) == held(source)


def test_a_text_that_no_server_keeps_becomes_what_stands_for_it(place: Place) -> None:
    source, target = place("sqlite"), place("postgres")
    fill(source)
    execute(source, "UPDATE runs SET reason = 'a' || char(0) || 'b' WHERE id = '0-1'")  # as older harnesses did
    copied(source, target)
    assert execute(target, "SELECT reason FROM runs WHERE id = '0-1'") == [("a\u2400b",)]
    assert set(copied(source, target).new.values()) == {0}
