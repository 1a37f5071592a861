"""`harness store copy` as a user types it, also with what is no store."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from harness.store import Store
from tests.copy_kit import Said, command, execute, fill, held
from tests.standins.postgres import TELLTALES

DOCS = Path(__file__).resolve().parent.parent / "docs" / "teams.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store in its usual place, and artifacts beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HARNESS_ARTIFACTS", raising=False)
    fill("sqlite:///.harness/harness.db")
    (tmp_path / ".harness" / "artifacts").mkdir()
    return tmp_path


def store_copy(*arguments: str) -> Said:
    return command("store", "copy", *arguments)


def test_it_says_what_was_new_and_what_was_there(folder: Path) -> None:
    done = store_copy("sqlite:///.harness/harness.db", "sqlite:///all.db")
    assert done.code == 0
    assert done.stdout == "sqlite:///all.db: 4 sessions and 24 runs are new, 0 sessions and 0 runs were there\n"
    assert "copying: " in done.stderr and "rows of session" in done.stderr
    assert "they stay in .harness/artifacts (copy them to artifacts, or let HARNESS_ARTIFACTS" in done.stderr
    assert "0 sessions and 0 runs are new, 4 sessions and 24 runs were there" in store_copy(
        "sqlite:///.harness/harness.db", "sqlite:///all.db"
    ).stdout


def test_json_is_the_only_thing_on_stdout(folder: Path) -> None:
    Store.open("sqlite:///all.db", create=True).set_baseline("exp", "other")
    document = json.loads(store_copy("sqlite:///.harness/harness.db", "sqlite:///all.db", "--json").stdout)
    assert document["schema"] == 1
    assert (document["new"]["runs"], document["new"]["baselines"], document["there"]["baselines"]) == (24, 0, 1)
    assert document["kept"] == ["the baseline of exp stays other (in the source it is r1)"]
    assert all(set(document[part]) == set(document["new"]) for part in ("there", "filled"))


def test_a_shared_place_of_artifacts_needs_no_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ARTIFACTS", str(folder))
    assert "artifact files" not in store_copy("sqlite:///.harness/harness.db", "sqlite:///all.db").stderr


@pytest.mark.parametrize(
    "spelled",
    ["sqlite:///{folder}/.harness/harness.db", "sqlite:///link.db", "sqlite:///x/../.harness/harness.db"],
)
def test_a_store_is_not_copied_into_itself(folder: Path, spelled: str) -> None:
    (folder / "link.db").symlink_to(".harness/harness.db")
    (folder / "x").mkdir()
    pair = ("sqlite:///.harness/harness.db", spelled.format(folder=folder))
    for source, target in (pair, pair[::-1]):
        done = store_copy(source, target)
        assert (done.code, done.stdout) == (2, "")
        assert "are the same store" in done.stderr


@pytest.mark.parametrize(
    "spelled", ["postgresql://{rest}", "postgres://{rest}", "postgresql+psycopg://{rest}?application_name=x"]
)
def test_a_database_is_not_copied_into_itself(folder: Path, postgres: Any, spelled: str) -> None:
    url = postgres()
    Store.open(url, create=True).close()
    done = store_copy(url, spelled.format(rest=url.partition("://")[2]))
    assert done.code == 2, done.stderr
    assert "are the same store" in done.stderr
    refuse_secrets(done)


def test_two_databases_of_a_server_are_two_stores(folder: Path, postgres: Any) -> None:
    first, second = postgres(), postgres()
    assert store_copy("sqlite:///.harness/harness.db", first).code == 0
    done = store_copy(first, second)
    assert done.code == 0, done.stderr
    assert held(second) == held("sqlite:///.harness/harness.db")
    refuse_secrets(done)


def refuse_secrets(done: Said) -> None:
    assert not any(secret in done.stdout + done.stderr for secret in TELLTALES)


NOTHING_THERE = [
    ("sqlite:///no.db", 2, "no store at no.db"),
    ("sqlite:///.", 2, "no store at"),
    ("sqlite://", 2, "no store at"),
    ("sqlite:///empty.db", 2, "no store at"),
    ("no-url", 2, "is not a URL"),
    ("sqlite:///text.txt", 3, "not a database"),
    ("sqlite:///theirs.db", 3, "not the harness's"),
    ("sqlite:///newer.db", 3, "made by a newer harness (schema 9999"),
    ("sqlite:///gone.db", 3, "made by an older harness (schema 0000"),
    ("sqlite:///torn.db", 3, "torn.db"),
    ("mysql://me:s3cret@host/db", None, "mysql"),
    ("postgresql+psycopg://me:s3cret@127.0.0.1:1/db", 3, "127.0.0.1"),
]


@pytest.mark.parametrize(("source", "code", "says"), NOTHING_THERE)
def test_what_is_no_store_is_one_message_and_makes_none(folder: Path, source: str, code: int | None, says: str) -> None:
    awkward(folder)
    before = content(folder)
    done = store_copy(source, "sqlite:///all.db")
    assert done.code in ((2, 3) if code is None else (code,)), done.stderr
    assert says in done.stderr and done.stdout == ""
    torn = source == "sqlite:///torn.db"  # what is seen only when the target is there already
    assert {path: b for path, b in content(folder).items() if not torn or path.stem != "all"} == before
    refuse_secrets(done)


def content(folder: Path) -> dict[Path, object]:
    return {path: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.suffix != ".lock"}


def awkward(folder: Path) -> None:
    (folder / "empty.db").touch()
    (folder / "text.txt").write_text("this is no database, it is a text file\n" * 100)
    with sqlite3.connect(folder / "theirs.db") as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # as any that we open becomes
        connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    whole = (folder / ".harness" / "harness.db").read_bytes()
    for name, version in (("newer.db", "9999"), ("gone.db", "0000")):
        (folder / name).write_bytes(whole)
        execute(f"sqlite:///{name}", f"UPDATE alembic_version SET version_num = '{version}'")
    (folder / "torn.db").write_bytes(whole[: 5 * 4096] + b"\xff" * (len(whole) - 5 * 4096))


@pytest.mark.parametrize(
    ("target", "code", "says"),
    [
        ("no-url", 2, "is not a URL"),
        ("sqlite://", 2, "in memory"),
        ("sqlite:///text.txt", 3, "not a database"),
        ("sqlite:///theirs.db", 3, "not the harness's"),
        ("sqlite:///newer.db", 3, "newer harness"),
        ("sqlite:////dev/null/x.db", 3, "writable place"),
        ("postgresql+psycopg://me:s3cret@127.0.0.1:1/db", 3, "127.0.0.1"),
    ],
)
def test_a_target_that_cannot_be_one_is_one_message_and_stays(folder: Path, target: str, code: int, says: str) -> None:
    awkward(folder)
    before = content(folder)
    done = store_copy("sqlite:///.harness/harness.db", target)
    assert (done.code, done.stdout) == (code, ""), done.stderr
    assert says in done.stderr
    assert content(folder) == before
    refuse_secrets(done)


def test_a_wrong_password_and_a_database_that_is_not_there_are_one_message(folder: Path, postgres: Any) -> None:
    url = postgres()
    for wrong, says in ((url.replace("w0rd", "wrong"), "password"), (postgres(exists=False), "does not exist")):
        for pair in ((wrong, "sqlite:///all.db"), ("sqlite:///.harness/harness.db", wrong)):
            done = store_copy(*pair)
            assert (done.code, done.stdout) == (3, "")
            assert says in done.stderr
            refuse_secrets(done)
    assert not (folder / "all.db").exists()


def test_an_empty_database_is_no_source_and_stays_empty(folder: Path, postgres: Any) -> None:
    url = postgres()
    done = store_copy(url, "sqlite:///all.db")
    assert (done.code, done.stdout) == (2, "")
    assert "the database is empty" in done.stderr
    assert held(url) == {}


def test_a_refusal_names_the_session_and_the_remedy(folder: Path) -> None:
    store_copy("sqlite:///.harness/harness.db", "sqlite:///all.db")
    execute("sqlite:///all.db", "UPDATE runs SET status = 'invalid' WHERE id = '0-1'")
    done = store_copy("sqlite:///.harness/harness.db", "sqlite:///all.db")
    assert (done.code, done.stdout) == (3, "")
    assert re.search(r"session \w{8} \(exp r1\): run 0-1 .* differs in status; nothing was written", done.stderr)
    assert "try: copy into another store" in done.stderr


def section() -> str:
    text = DOCS.read_text()
    start = text.index("## Copying a store")
    return text[start : text.find("\n## ", start + 5) if "\n## " in text[start + 5 :] else len(text)]


def test_the_examples_of_the_documentation_work(folder: Path, postgres: Any) -> None:
    examples = re.findall(r"^    harness (store copy .*)$", section(), re.MULTILINE)
    assert len(examples) >= 2
    shutil.copytree(folder / ".harness", folder / "laptop" / ".harness")
    url, before = postgres(), held("sqlite:///.harness/harness.db")
    for example in examples:
        done = command(*example.replace("postgresql://db.example/harness", url).split())
        assert done.code == 0, (example, done.stderr)
    assert held(url) == before
