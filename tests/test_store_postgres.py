"""The store on a server: what goes wrong there is one message, tells no password, and loses nothing."""

from __future__ import annotations

import builtins
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from sqlalchemy.engine import make_url

from harness.commands import looking
from harness.errors import HarnessError, StoreError, UsageError
from harness.store import Store, patience
from harness.store.engine import engine_for, shown, sqlite_path
from tests.standins.postgres import OWNER, PASSWORD, TELLTALES, Postgres, database_of
from tests.test_store import CELL, PACKAGE, at, begin, contents, make_run, raw, tables_of


def told(error: HarnessError) -> str:
    """Everything that can be seen of an error, also by --debug; it must not have the password in it."""
    import traceback

    said = "".join(traceback.format_exception(error)) + str(error) + repr(error)
    assert not [one for one in TELLTALES if one in said]
    return str(error)


def refused(url: str, create: bool = True) -> HarnessError:
    with pytest.raises(HarnessError) as found:
        Store.open(url, create=create)
    told(found.value)
    return found.value


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres()


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url, create=True)
    yield opened
    opened.close()


# -- URLs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_each_way_to_write_the_scheme_is_the_same_store(url: str, scheme: str) -> None:
    session = begin(Store.open(url, create=True))
    other = Store.open(f"{scheme}://" + url.partition("://")[2])
    assert other.matching(session[:6]) == session
    other.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("postgres://me:secret@host/db?sslmode=require", "postgres://me:***@host/db?sslmode=require"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?password=***&user=me"),
        ("postgresql:///?service=team", "postgresql:///?service=team"),
        ("sqlite:///a/b.db", "sqlite:///a/b.db"),
    ],
)
def test_a_password_is_not_shown(url: str, says: str) -> None:
    assert shown(url).replace("%2A", "*") == says


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://me:secret@host:abc/db", "postgresql://… is not a URL"),
        ("postgresql://me:secret@word@host/db", "more than one @"),
        ("postgresql://me:secret@word/x@host/db", "more than one @"),
        ("me:secret@host/db", "is not a URL"),
        ("host=db password=secret", "is not a URL"),
        ("secret@host", "is not a URL"),
        ("harness.db", "store 'harness.db' is not a URL"),
        ("/home/me/harness.db", "store '/home/me/harness.db' is not a URL"),
        ("", "is not a URL"),
        ("mysql://me:secret@host/db", "mysql://…: stores are on SQLite or PostgreSQL"),
        ("nonsense://me:secret@host/db", "nonsense://…: stores are on SQLite or PostgreSQL"),
        ("postgresql+psycopg2://me:secret@host/db", "by the driver psycopg"),
        ("sqlite:///x.db?key=secret", "takes no parameters"),
    ],
)
def test_what_is_no_store_url_is_one_message(url: str, says: str) -> None:
    for ask in (shown, sqlite_path, Store.open):
        with pytest.raises(UsageError) as refusal:
            ask(url)
        assert says in refusal.value.what
        assert "secret" not in told(refusal.value)
        assert "word" not in refusal.value.what.replace("password", "")
        assert refusal.value.hint


def test_without_the_driver_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any, **named: Any) -> Any:
        if name.startswith("psycopg"):
            raise ImportError(f"No module named {name!r}")
        return real(name, *more, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    error = refused(f"postgresql://me:{quote(PASSWORD, safe='')}@127.0.0.1/db")
    assert isinstance(error, StoreError)
    assert error.hint == 'pip install "ondevice-harness[postgres]"'


@pytest.mark.parametrize(
    ("query", "environment", "expected"),
    [
        ("", {}, ("harness", 10)),
        ("?application_name=ci&connect_timeout=3", {}, ("ci", 3)),
        ("", {"PGAPPNAME": "nightly", "PGCONNECT_TIMEOUT": "4"}, ("nightly", 4)),
    ],
)
def test_a_connection_names_itself_and_does_not_wait_for_ever(
    url: str, query: str, environment: dict[str, str], expected: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    engine = engine_for(url + query)
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        timeout = driver.info.get_parameters().get("connect_timeout") or os.environ["PGCONNECT_TIMEOUT"]
        assert (driver.info.parameter_status("application_name"), int(timeout)) == expected
    engine.dispose()


def test_the_password_may_come_from_elsewhere(url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = make_url(url)
    bare = f"postgresql://{OWNER}@127.0.0.1:{known.port}/{known.database}"
    assert "password" in refused(bare).what
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    Store.open(bare, create=True).close()
    monkeypatch.delenv("PGPASSWORD")
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    (tmp_path / "pgpass").write_text(f"127.0.0.1:{known.port}:{known.database}:{OWNER}:{escaped}\n")
    (tmp_path / "pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    Store.open(bare).close()
    service = f"[team]\nhost=127.0.0.1\nport={known.port}\nuser={OWNER}\ndbname={known.database}\n"
    (tmp_path / "services").write_text(service)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    Store.open("postgresql:///?service=team").close()


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says", "try_"),
    [
        (lambda u: u.set(port=1), "refused", "is the server running"),
        (lambda u: u.set(host="no.such.host.invalid"), "no.such.host.invalid", "host's name"),
        (lambda u: u.set(password="s3cret-wrong"), "password authentication failed", "~/.pgpass"),
        (lambda u: u.set(username="nobody_here"), "nobody_here", "check user and password"),
        (lambda u: u.set(database="no_such"), 'database "no_such" does not exist', "createdb no_such"),
        (lambda u: u.update_query_dict({"nonsense": "1"}), "nonsense", "sslmode=require"),
        (lambda u: u.update_query_dict({"sslmode": "s3cret?"}), "sslmode", "parameters of libpq"),
        (lambda u: u.update_query_dict({"sslmode": "require"}), "SSL", "switch TLS on"),
        (lambda u: u.update_query_dict({"connect_timeout": "soon"}), "connect_timeout", "parameters of libpq"),
        (lambda u: u.update_query_dict({"service": "no_such"}), "no_such", "pg_service.conf"),
        (lambda u: u.update_query_dict({"target_session_attrs": "standby"}), "standby", "which of the servers"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_what_cannot_be_reached_is_one_message_at_once(
    url: str, change: Callable[[Any], Any], says: str, try_: str, create: bool
) -> None:
    with pytest.raises(StoreError) as refusal:
        Store.open(change(make_url(url)).render_as_string(hide_password=False), create=create)
    assert says in refusal.value.what
    assert try_ in (refusal.value.hint or "")
    assert "\n" not in refusal.value.what
    assert PASSWORD not in str(refusal.value)
    assert "s3cret-wrong" not in str(refusal.value)
    assert tables_of(url) == []


def test_a_port_that_is_none_is_refused_without_the_password() -> None:
    error = refused("postgresql://me:s3cret@host/db?port=abc")
    assert isinstance(error, UsageError) and "non-integer port" in error.what
    assert "s3cret@" not in told(error)


def test_a_server_without_a_free_connection_says_so(postgres: Postgres, url: str) -> None:
    role = f"few_{database_of(url)}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0")
    error = refused(postgres.url(database_of(url), role))
    assert "too many connections" in error.what
    assert "max_connections" in str(error.hint)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres: Postgres) -> None:
    postgres.execute(
        f"CREATE DATABASE latin OWNER {OWNER} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0 LOCALE_PROVIDER libc"
    )
    error = refused(postgres.url("latin"))
    assert "LATIN1" in error.what
    assert "createdb -E UTF8" in str(error.hint)
    assert tables_of(postgres.url("latin")) == []


def write(store: Store, session: str) -> list[Callable[[], object]]:
    spec = store.session(session).devices[0]
    return [
        lambda: begin(store),
        lambda: store.append(make_run(session, id="another", repeat=7)),
        lambda: store.finish(session),
        lambda: store.put_device(session, spec),
        lambda: store.set_baseline("exp", "r9"),
        lambda: store.put_digest(session, "x", b""),
    ]


def test_a_role_that_may_only_read_reads_and_is_told_so_when_it_writes(
    postgres: Postgres, url: str, store: Store
) -> None:
    session = begin(store)
    store.append(make_run(session))
    before = contents(url)
    reading = Store.open(postgres.reader(url))
    assert len(reading.runs(session, arrays=True)) == 1
    assert reading.list_sessions() == store.list_sessions()
    for attempt in write(reading, session):
        with pytest.raises(StoreError, match="permission denied for table") as refusal:
            attempt()
        assert "its owner allows it" in told(refusal.value)
    reading.close()
    error = refused(reading.url)  # before anything is built and measured
    assert "may not INSERT in table sessions" in error.what
    assert "GRANT" in str(error.hint)
    assert contents(url) == before


def test_a_database_that_is_read_only_is_read_and_says_so_when_it_is_to_be_written(
    postgres: Postgres, url: str, store: Store
) -> None:
    session = begin(store)
    store.close()
    postgres.execute(f"ALTER DATABASE {database_of(url)} SET default_transaction_read_only = on")
    before = contents(url)
    reading = Store.open(url)
    assert reading.session(session).id == session
    for attempt in write(reading, session):
        with pytest.raises(StoreError, match="read-only transaction") as refusal:
            attempt()
        assert "only be read" in told(refusal.value)
    reading.close()
    assert "read-only" in refused(url).what
    assert contents(url) == before


@pytest.mark.parametrize("version", [None, "0001"])
def test_who_may_not_make_tables_is_told_what_they_were_for(
    postgres: Postgres, url: str, version: str | None
) -> None:
    if version:
        at(url, version)
    before = contents(url)
    error = refused(postgres.reader(url))
    assert "permission denied" in error.what
    assert ("is empty" if version is None else "has schema 0001") in error.what
    assert contents(url) == before


def test_who_may_not_even_read_is_told_so(postgres: Postgres, url: str, store: Store) -> None:
    role = f"stranger_{database_of(url)}"
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    error = refused(postgres.url(database_of(url), role), create=False)
    assert "permission denied" in error.what
    assert "its owner allows it" in str(error.hint)


def test_tables_that_somebody_dropped_are_one_message(url: str, store: Store) -> None:
    begin(store)
    with raw(url) as connection:
        connection.exec_driver_sql("DROP TABLE samples")
    with pytest.raises(StoreError, match="samples") as refusal:
        store.runs(arrays=True)
    assert "restore" in str(refusal.value.hint)


# -- schemas -------------------------------------------------------------------------------------------------------


def test_a_schema_of_its_own_beside_somebody_elses_tables(url: str) -> None:
    with raw(url) as connection:
        connection.exec_driver_sql("CREATE TABLE theirs (a INTEGER)")
    assert "options=-csearch_path" in str(refused(url).hint)
    own = f"{url}?options=-csearch_path%3Down"
    assert "CREATE SCHEMA" in str(refused(own).hint)
    with raw(url) as connection:
        connection.exec_driver_sql("CREATE SCHEMA own")
    session = begin(Store.open(own, create=True))
    assert Store.open(own).latest() == session
    assert tables_of(url) == ["theirs"]


def test_a_store_in_a_schema_is_not_mixed_with_the_one_behind_it(url: str, store: Store) -> None:
    """search_path shows the public store's tables too, and its version."""
    begin(store)
    with raw(url) as connection:
        connection.exec_driver_sql("CREATE SCHEMA own")
    before = contents(url)
    both = Store.open(f"{url}?options=-csearch_path%3Down,public", create=True)
    assert both.list_sessions() == []
    session = begin(both)
    assert session not in str(contents(url))
    assert contents(url) == before
    both.close()


def test_while_another_process_makes_the_store_it_is_waited_for(url: str) -> None:
    from sqlalchemy import func, select

    from harness.store import engine as engines

    with raw(url) as connection:
        connection.execute(select(func.pg_advisory_xact_lock(engines._MIGRATING)))
        opening = threading.Thread(target=lambda: Store.open(url, create=True).close())
        opening.start()
        opening.join(timeout=1)
        assert opening.is_alive()
        assert tables_of(url) == []
    opening.join(timeout=30)
    assert "runs" in tables_of(url)


def test_who_waits_too_long_for_the_making_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import func, select

    from harness.store import engine as engines

    monkeypatch.setattr(engines, "_LONGEST_LOCK", "100ms")
    with raw(url) as connection:
        connection.execute(select(func.pg_advisory_xact_lock(engines._MIGRATING)))
        error = refused(url)
    assert "lock timeout" in error.what
    assert "another process" in str(error.hint)


# -- a server that goes away ---------------------------------------------------------------------------------------


@pytest.fixture
def running(store: Store) -> tuple[Store, str]:
    """A store with a session, connected."""
    session = begin(store)
    assert store.append(make_run(session))
    return store, session


def test_a_restart_between_two_calls_loses_none(postgres: Postgres, running: tuple[Store, str]) -> None:
    store, session = running
    spec = store.session(session).devices[0]
    with postgres.restarted(0.7):
        assert store.append(make_run(session, id="during", repeat=1))
    with postgres.restarted(0.3):
        other = begin(store)
    with postgres.restarted(0.3):
        store.finish(session)
    with postgres.restarted(0.3):
        store.put_device(other, spec)
    with postgres.restarted(0.3):
        store.set_baseline("exp", "r1")
    with postgres.restarted(0.3):
        assert [run.id for run in store.runs()] == ["during", "run-1"]
    assert store.session(session).finished_utc is not None
    assert len(store.list_sessions()) == 2
    assert store.baseline("exp") == "r1"


def test_restarts_during_appends_lose_and_double_no_run(postgres: Postgres, running: tuple[Store, str]) -> None:
    store, session = running
    done: list[bool] = []
    samples = {"latency_ns": np.arange(20_000, dtype=np.uint64)}

    def measure() -> None:
        for repeat in range(1, 200):
            done.append(store.append(make_run(session, id=f"r{repeat:03}", repeat=repeat, arrays=samples)))

    measuring = threading.Thread(target=measure)
    measuring.start()
    for mode in ("fast", "immediate", "fast"):
        seen = len(done)
        while measuring.is_alive() and len(done) < seen + 40:
            time.sleep(0.005)
        with postgres.restarted(0.2, mode):
            pass
    measuring.join(timeout=60)
    assert done == [True] * 199
    runs = store.runs(session, arrays=True)
    assert [run.id for run in runs] == [*(f"r{repeat:03}" for repeat in range(1, 200)), "run-1"]
    assert all(run.arrays["latency_ns"].size == 20_000 for run in runs[:-1])


@pytest.mark.parametrize("what", ["append", "begin", "put_digest", "set_baseline"])
def test_a_commit_whose_answer_is_lost_is_not_made_twice(
    running: tuple[Store, str], what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The server has committed, and the connection ends before it can say so."""
    from sqlalchemy import event

    store, session = running
    lost: list[bool] = []

    def cut(connection: Any) -> None:
        if not lost:
            driver = connection.connection.dbapi_connection
            driver.commit()
            driver.close()
            lost.append(True)

    before = len(store.list_sessions()), len(store.runs())
    event.listen(store.engine, "commit", cut)
    if what == "append":
        assert store.append(make_run(session, id="once", repeat=5))
    elif what == "begin":
        begin(store)
    elif what == "put_digest":
        store.put_digest(session, "m", b"1")
    else:
        store.set_baseline("exp", "r1")
    assert lost
    event.remove(store.engine, "commit", cut)
    after = len(store.list_sessions()), len(store.runs())
    assert after == (before[0] + (what == "begin"), before[1] + (what == "append"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_many_who_wait_for_one_database_say_it_once(
    postgres: Postgres, running: tuple[Store, str], caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = running
    for outage in (1, 2):
        with ThreadPoolExecutor(4) as pool:
            with postgres.stopped():
                waiting = [pool.submit(store.list_sessions) for _ in range(4)]
                time.sleep(1)  # all have found it away
            assert all(one.result() for one in waiting)
        assert [record.levelname for record in caplog.records] == ["WARNING"] * outage


def test_patience_ends_in_one_message_that_says_how_to_go_on(
    postgres: Postgres, running: tuple[Store, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, session = running
    monkeypatch.setattr(patience, "PATIENCE_S", 0.5)
    with postgres.stopped():
        with pytest.raises(StoreError) as refusal:
            store.append(make_run(session, id="x", repeat=1))
        with pytest.raises(StoreError):
            Store.open(store.url)  # a command that begins does not wait
    assert "start the database, then run again: it continues" in told(refusal.value)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert store.append(make_run(session, id="x", repeat=1))


def test_work_in_progress_waits_while_opening_and_ends_when_it_is_told_to(postgres: Postgres, store: Store) -> None:
    stop = threading.Event()
    with postgres.restarted(0.5):
        again = Store.open(store.url, stop=stop)
    assert again.list_sessions() == []
    with postgres.stopped():
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        with pytest.raises(StoreError):
            again.list_sessions()
        assert time.monotonic() - began < patience.PATIENCE_S / 2
    again.close()


def test_a_refusal_is_not_waited_for(postgres: Postgres, url: str, store: Store, monkeypatch: Any) -> None:
    """A password that was changed, a database or a table that was dropped do not come back by waiting."""
    session = begin(store)
    monkeypatch.setattr(patience.Patience, "_wait", lambda *_: pytest.fail("it waits"))
    for wrong in (postgres.url(database_of(url), password="s3cret"), postgres(exists=False)):
        with pytest.raises(StoreError, match=r"authentication failed|does not exist"):
            Store.open(wrong, stop=threading.Event())
    with raw(url) as connection:
        connection.exec_driver_sql("ALTER TABLE runs RENAME TO others")
    with pytest.raises(StoreError, match='relation "runs" does not exist'):
        store.append(make_run(session))


# -- the same answers ----------------------------------------------------------------------------------------------


def test_both_databases_answer_alike(url: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every query, on the same rows, made by chance of awkward names, labels and stamps."""
    answers = [filled_and_asked(one, monkeypatch) for one in (f"sqlite:///{tmp_path}/h.db", url)]
    assert answers[0] == answers[1]
    assert len(answers[0]) > 150


NAMES = ["exp", "Exp", "EXP", "éxp", "e_p", "e%p", "ex-p", "ex p", "", "ß", "2", "10"]


def filled_and_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    import dataclasses

    chance = np.random.default_rng(7)
    ids = iter(f"{NAMES[i % 7]}{i:03}" for i in range(1000))
    ticks = iter(f"2026-01-{1 + i // 9:02}T{'+-zZ'[i % 4]}{i % 5}" for i in range(1000))
    monkeypatch.setattr("harness.store.store.uuid.uuid4", lambda: type("U", (), {"hex": next(ids)}))
    monkeypatch.setattr("harness.store.store.utc_now", lambda: next(ticks))
    store = Store.open(url, create=True)

    def any_of(values: Any) -> Any:
        return values[int(chance.integers(len(values)))]

    made = []
    for _ in range(30):
        package = dataclasses.replace(PACKAGE, experiment={"name": any_of(NAMES)})
        made.append(
            store.begin(
                package=package, plan={"x": 1.5, "y": None}, plan_key=any_of("abC"), label=any_of([None, *NAMES[:4]]),
                quick=bool(chance.integers(2)), devices=[], kind=any_of(["experiment", "measure", "paired"]),
            )
        )  # fmt: skip
        if chance.integers(2):
            store.finish(made[-1])
    cells = [dataclasses.replace(CELL, variant=name, threads=threads) for name in NAMES[:4] for threads in (None, 2)]
    out: list[Any] = []
    for number in range(300):
        run = make_run(
            any_of(made[:8]), id=f"{any_of(NAMES)}{number}", cell=any_of(cells), repeat=int(chance.integers(3)),
            attempt=int(chance.integers(1, 4)), counts=bool(chance.integers(2)),
            purpose=any_of(["latency", "accuracy"]), status=any_of(["ok", "failed", "skipped"]),
            started_utc=f"2026-01-01T00:00:00{any_of(['', 'Z', '+', '.5'])}",
            arrays={} if chance.integers(2) else {"score": np.array([number % 2], np.uint8)},
        )  # fmt: skip
        out.append(store.append(run))
    for session in made:
        out += [store.session(session), store.counted(session), store.broken(session)]
        out += [[(r.id, dict(r.summary), sorted(r.arrays)) for r in store.runs(session, arrays=True)]]
        out += [[r.id for r in store.scored(session)]]
        out += [store.next_attempt(session, cell, "latency", 0) for cell in cells[:2]]
        out += [answer(store.matching, session[:3])]
    out += [[r.id for r in store.runs(purpose="latency")], store.list_sessions()]
    for name in [None, *NAMES, "none"]:
        out += [answer(store.latest, name, label, quick) for label in (None, "Exp", "exp") for quick in (None, False)]
        out += [store.unfinished(key, name) for key in "abCc"]
    store.close()
    return out


def answer(ask: Callable[..., object], *given: object) -> object:
    try:
        return ask(*given)
    except UsageError as error:
        return str(error)


# -- doctor --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "state", "says"),
    [
        ("there", "ok", "postgresql+psycopg://harness:***@"),
        ("empty", "ok", "made by the first run"),
        ("reader", "ok", "it can only be read"),
        ("wrong", "missing", "password authentication failed"),
        ("nothing", "missing", "createdb"),
        ("malformed", "missing", "is not a URL"),
    ],
)
def test_doctor_says_what_is_the_matter_with_the_store(
    postgres: Postgres, url: str, which: str, state: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "look", lambda names: [])
    if which in ("there", "reader"):
        Store.open(url, create=True).close()
    ask = {
        "wrong": postgres.url(database_of(url), password="s3cret"),
        "nothing": postgres(exists=False),
        "malformed": "postgresql://me:s3cret@h:x/db",
    }.get(which, url)
    ask = postgres.reader(url) if which == "reader" else ask
    (found,) = [check for check in looking._checks(ask) if check["what"] == "store"]
    assert found["state"] == state
    assert says in str(found)
    assert not [one for one in TELLTALES if one in str(found)]
