"""import-runs believes nothing of a file: what is wrong is refused with its row, its column, what is expected there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.commands import exporting
from harness.errors import StoreError, UsageError
from harness.exchange import formats
from harness.exchange.row import COLUMNS, Row
from harness.exchange.wrong import Wrong
from tests.exchange_kit import FORMS, checked, exported, filled, imported, record, rows_of, sealed, tables

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('store')}/h.db"
    filled(url)
    return url


@pytest.fixture(scope="module")
def files(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    return {form: exported(url, folder / f"runs.{form}") for form in FORMS}


@pytest.fixture
def rows(files: dict[str, Path]) -> list[Row]:
    """As they are read from JSON; the first is a latency run, the last was skipped."""
    return rows_of(files["json"])


def refusal(rows: list[Row]) -> Wrong:
    with pytest.raises(Wrong) as told:
        checked(rows)
    return told.value


LATENCY = 1  # rows are by time: the memory run, which has none, is the first
VALUES: list[tuple[str, Any]] = [
    ("session", "x" * 32), ("session", None), ("experiment", "other"), ("label", "other"), ("label", "a\0b"),
    ("quick", True), ("quick", 0), ("run", "../../etc"), ("run", "A" * 32), ("variant", "other"),
    ("variant", "(null)"), ("seed", 1), ("seed", -1), ("seed", 1.0), ("seed", True), ("seed", "0"),
    ("exporter", "other"), ("backend", None), ("backend", "other"), ("input", "other"), ("device_id", "other"),
    ("threads", 0), ("threads", 2**31), ("threads", "1"), ("cpus", ""), ("cpus", "x" * 65), ("context", "moon"),
    ("purpose", "fun"), ("repeat", -1), ("repeat", 2**31), ("repeat", True), ("block", False),
    ("attempt", 0), ("counts", None), ("counts", 1),
    ("status", "fine"), ("status", "failed"), ("reason", "why"), ("caveats", "No Words!"), ("caveats", "a  b"),
    ("block", None), ("position", 2**40), ("started_utc", "yesterday"), ("started_utc", "2026-01-02T03:04:05"),
    ("artifact_sha256", "ab"), ("artifact_sha256", "00" * 32), ("load_ms", 1.5), ("load_ms", None),
    ("latency_p50_ms", 1.0), ("latency_p50_ms", float("nan")), ("accuracy", 0.5), ("boot_id", 5),
    ("boot_id", "\ud800"), ("start_boottime_ns", -1), ("end_boottime_ns", 2**63), ("measurements", "{}"),
    ("measurements", None), ("measurements", '[{"metric": "fun", "values": [1], "phase": "", "source": ""}]'),
    ("measurements", '[{"metric": "load_ms", "values": [], "phase": "", "source": ""}]'),
    ("measurements", '[{"metric": "load_ms", "values": [true], "phase": "", "source": ""}]'),
    ("measurements", '[{"metric": "load_ms", "values": [1e999], "phase": "", "source": ""}]'),
    ("measurements", '[{"metric": "load_ms", "values": [NaN], "phase": "", "source": ""}]'),
    ("summary", "[]"), ("summary", '{"n": 1, "n": 2}'), ("summary", '{"p50": "much"}'), ("summary", "{}}"),
    ("conditions", "[]"), ("conditions", "[" * 100_000), ("conditions", '{"a": ' * 40 + "1" + "}" * 40),
    ("conditions", '{"runner": []}'), ("conditions", '{"runner": {"loop_overhead_ns": "1"}}'),
    ("conditions", '{"runner": {"version": 1}}'), ("conditions", '{"a": "' + "x" * (5 << 20) + '"}'),
    ("provenance", "null"), ("latency_ns", [1.5]), ("latency_ns", [-1]), ("latency_ns", [True]), ("latency_ns", {}),
    ("latency_ns", [2**64]), ("latency_ns", None), ("latency_ns", []), ("latency_ns", [1, None]),
    ("score", ["1"]), ("score", [[1.0]]), ("etdump", [1]), ("etdump", "AAAA"), ("reason", "x" * 20_001),
    ("session_record", "{}"), ("session_record", "no"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "value"), VALUES, ids=lambda v: repr(v)[:40])
def test_a_value_that_cannot_be_is_refused_though_the_hash_fits(rows: list[Row], column: str, value: Any) -> None:
    changed = rows[LATENCY] | {column: value} | ({"load_ms": None} if column == "measurements" else {})
    if column != "session_record" and not (isinstance(value, str) and "\ud800" in value):
        changed = sealed(changed)
    rows[LATENCY] = changed
    wrong = refusal(rows)
    assert wrong.row == LATENCY + 1
    partners = {"variant", "seed", "exporter", "backend", "input"}  # one build
    related = {"summary": {"latency_ns"}, "latency_ns": {"summary"}, "status": {"counts"}, "attempt": {"run"},
               "session": {"session_record"}}  # fmt: skip
    assert wrong.column in {column, *related.get(column, ())} or {column, wrong.column} <= partners, str(wrong)


@pytest.mark.parametrize("column", [c.name for c in COLUMNS if c.name not in ("session_record",)])
def test_whatever_is_changed_in_a_row_is_seen(rows: list[Row], column: str) -> None:
    """By its own rule, by what says the same, or by the hash of it all."""
    was = rows[LATENCY][column]
    if isinstance(was, str) and was.startswith(("{", "[")):
        rows[LATENCY][column] = '{"a": 1}' if was.startswith("{") else "[]"
    else:
        rows[LATENCY][column] = {str: "other", int: 5, float: 1.25, bool: not was, list: [1]}.get(type(was), [1])
    assert refusal(rows).row == LATENCY + 1


def test_a_number_that_became_whole_on_its_way_is_the_same_number(rows: list[Row]) -> None:
    """JavaScript writes 1.0 as 1."""
    for row in rows:
        for column in COLUMNS:
            if column.kind == "float" and row[column.name] == int(row[column.name] or 0):
                row[column.name] = int(row[column.name])
    assert any(type(row[c.name]) is int for row in rows for c in COLUMNS if c.kind == "float")
    checked(rows)


@pytest.mark.parametrize("name", ["n", "p50", "mean", "sd", "quantiles", "outliers", "fun"])
def test_figures_that_the_samples_do_not_give_are_refused(rows: list[Row], name: str) -> None:
    """Though everything that follows from them was changed alike."""
    summary = json.loads(rows[LATENCY]["summary"])
    was = summary.get(name, 1)
    changed = [*was[:-1], was[-1] * 1.001] if isinstance(was, list) else was * 1.001 + 1
    rows[LATENCY]["summary"] = json.dumps(summary | {name: changed})
    if f"latency_{name}_ms" in rows[LATENCY]:
        rows[LATENCY][f"latency_{name}_ms"] = changed
    rows[LATENCY] = sealed(rows[LATENCY])
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (LATENCY + 1, "summary")
    assert name in wrong.expected


def test_figures_that_another_numpy_gives_are_taken(rows: list[Row]) -> None:
    summary = json.loads(rows[LATENCY]["summary"])
    summary["sd"] *= 1 + 1e-14
    rows[LATENCY]["summary"] = json.dumps(summary)
    checked([rows[0], sealed(rows[LATENCY])])


def repeated(rows: list[Row], **more: Any) -> list[Row]:
    return [*rows, sealed(rows[LATENCY] | more)]


@pytest.mark.parametrize(
    ("more", "column"),
    [
        ({}, "run"),
        ({"run": "0" * 32}, "attempt"),
        ({"run": "0" * 32, "attempt": 2}, "counts"),
    ],
)
def test_a_run_an_attempt_and_one_that_counts_are_there_once(rows: list[Row], more: Any, column: str) -> None:
    wrong = refusal(repeated(rows, **more))
    assert (wrong.row, wrong.column) == (len(rows) + 1, column)
    assert f"row {LATENCY + 1}" in str(wrong)
    checked(repeated(rows, run="0" * 32, attempt=2, counts=False, status="invalid", reason="why"))


def test_the_record_of_a_session_is_in_its_first_row_and_in_no_other(rows: list[Row]) -> None:
    assert refusal(rows[1:]).column == "session_record"
    again = [rows[0], rows[1] | {"session_record": rows[0]["session_record"]}]
    assert refusal([again[0], sealed(again[1])]).row == 2


def test_a_record_is_of_the_session_that_its_row_names(rows: list[Row]) -> None:
    wrong = refusal([sealed(rows[0] | {"session": "0" * 32})])
    assert (wrong.row, wrong.column) == (1, "session")


RECORDS: list[tuple[str, Callable[[Any], Any]]] = [
    ("newer", lambda r: r.update(schema=2)),
    ("lacks devices", lambda r: r.pop("devices")),
    ("'extra'", lambda r: r.update(extra=1)),
    ("--no-samples", lambda r: r.update(samples=False)),
    ("id", lambda r: r["session"].update(id="x")),
    ("lacks plan_key", lambda r: r["session"].pop("plan_key")),
    ("plan_key", lambda r: r["session"].update(plan_key="../..")),
    ("kind", lambda r: r["session"].update(kind="fun")),
    ("quick", lambda r: r["session"].update(quick="no")),
    ("created_utc", lambda r: r["session"].update(created_utc="now")),
    ("finished_utc", lambda r: r["session"].update(finished_utc="soon")),
    ("label", lambda r: r["session"].update(label="a\nb")),
    ("label", lambda r: r["session"].update(label="x" * 301)),
    ("run:", lambda r: r["session"].update(label="run:x")),
    ("plan", lambda r: r["session"].update(plan=[])),
    ("plan", lambda r: r["session"]["plan"].update(repeats=-5)),
    ("plan", lambda r: r["session"]["plan"].update(fun=1)),
    ("package", lambda r: r["session"].update(package="{}")),
    ("package", lambda r: r["session"].update(package=r["session"]["package"].replace('"schema":1', '"schema":9'))),
    ("suffix", lambda r: r["session"].update(package=r["session"]["package"].replace(".pte", "/../x"))),
    ("objectives", lambda r: r["session"].update(package=r["session"]["package"].replace("latency_ms", "fun"))),
    ("is of", lambda r: r["session"].update(experiment="other")),
    ("text", lambda r: r["session"].update(experiment=["other"])),
    ("devices", lambda r: r.update(devices=r["devices"] * 501)),
    ("place", lambda r: r["devices"][0].update(position=1)),
    ("position", lambda r: r["devices"][0].pop("position")),
    ("name", lambda r: r["devices"][0].update(spec={})),
    ("spec", lambda r: r["devices"][0]["spec"].update(root="yes")),
    ("spec", lambda r: r["devices"][0]["spec"].update(name="other")),
    ("spec", lambda r: r["devices"][0]["spec"].update(fun=1)),
    ("facts", lambda r: r["devices"][0]["facts"].update(cores="8")),
    ("cores", lambda r: r["devices"][0]["facts"].update(cores="many")),
    ("device_id", lambda r: r["devices"][0]["facts"].update(device_id="a\nb")),
    ("runners", lambda r: r["devices"][0].update(runners={"executorch": 1})),
    ("unreached", lambda r: r["devices"][1].update(unreached="x" * 1001)),
    ("one name", lambda r: r["devices"][1].update(name=r["devices"][0]["name"], spec=r["devices"][0]["spec"])),
]


@pytest.mark.parametrize(("said", "change"), RECORDS)
def test_a_record_that_no_store_writes_is_refused(rows: list[Row], said: str, change: Callable[[Any], Any]) -> None:
    first = rows[0]
    with record(first) as found:
        change(found)
    wrong = refusal([sealed(first), *rows[1:]])
    assert (wrong.row, wrong.column) == (1, "session_record")
    assert said in wrong.found


def test_more_rows_than_any_store_has_are_not_read(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.exchange.check.MOST_RUNS", 3)
    assert refusal(rows).row == 4


# -- the files ----------------------------------------------------------------------------------------------------


def said(file: Path, *words: str) -> None:
    """It is refused with one message that has these words, and nothing is made."""
    other = file.parent / "other.db"
    with pytest.raises(UsageError) as told:
        imported(file, f"sqlite:///{other}")
    assert str(file) in told.value.what
    for word in words:
        assert word in told.value.what, told.value.what
    assert not other.exists()
    assert told.value.exit_code == 2


@pytest.mark.parametrize("kept", [slice(0, 1), slice(0, -1), slice(0, 7)])
def test_a_file_that_lost_rows_is_not_the_story_that_was_exported(
    files: dict[str, Path], tmp_path: Path, kept: slice
) -> None:
    lines = files["json"].read_text().split("\n")  # one object each, between [ and ]
    (tmp_path / "runs.json").write_text("\n".join(["[", *(lines[1:-2][kept]), "]"]).replace(",\n]", "\n]"))
    with pytest.raises(UsageError, match=r"expected \d+ runs of session \w{8}, as its record says, found \d+"):
        imported(tmp_path / "runs.json", f"sqlite:///{tmp_path}/other.db")
    assert not (tmp_path / "other.db").exists()


def test_a_mark_of_its_encoding_before_a_file_is_no_matter(files: dict[str, Path], tmp_path: Path) -> None:
    for form in ("csv", "json"):
        (tmp_path / f"runs.{form}").write_bytes(b"\xef\xbb\xbf" + files[form].read_bytes())
        imported(tmp_path / f"runs.{form}", f"sqlite:///{tmp_path}/{form}.db")
        assert len(tables(f"sqlite:///{tmp_path}/{form}.db")["runs"]) == len(rows_of(files["json"]))


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("a.csv", b"", "an empty file"),
        ("a.parquet", b" \n", "an empty file"),
        ("a.csv", b"a,b\n1,2\n", "a column session"),
        ("a.csv", b"session,run\n1,2\n", "a column experiment"),
        ("a.csv", b"session;experiment\n1;2\n", "a comma between two cells"),
        ("a.csv", b"\xff\xfe\x00", "UTF-8"),
        ("a.csv", b"PK\x03\x04\0\0\0", "a column session"),
        ("a.json", b"{}", "an array of runs"),
        ("a.json", b"[", "JSON"),
        ("a.json", b"[\n", "JSON"),
        ("a.json", b'[\n{"session": 1}\n', "experiment"),
        ("a.json", b'[\n{"session": "\xff"}\n', "UTF-8"),
        ("a.json", b"[1]", "an object"),
        ("a.json", b"[\n{}\n]\n", "session"),
        ("a.json", b'[{"session": NaN}]', "NaN"),
        ("a.json", b"[" * 200_000, "very many"),
        ("a.json", b'[\n{"session": ' + b"[" * 200_000 + b"\n]\n", "very many"),
        ("a.db", b"SQLite format 3\0", "is a store"),
        ("a.parquet", b"PAR1", "a damaged one"),
        ("a.parquet", b"PAR1" + bytes(5000) + b"PAR1", "a damaged one"),
    ],
)
def test_what_is_no_export_is_said_to_be_none(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    said(file, word)


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    said(tmp_path / "none.csv", "No such file")
    said(tmp_path, "is a folder")
    os.mkfifo(tmp_path / "pipe")
    said(tmp_path / "pipe", "no plain file")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_off_is_refused(files: dict[str, Path], tmp_path: Path, form: str) -> None:
    whole = files[form].read_bytes()
    file = tmp_path / f"cut.{form}"
    for share in (0.3, 0.97):
        file.write_bytes(whole[: int(len(whole) * share)])
        said(file)


def test_a_csv_row_names_its_cell(files: dict[str, Path], tmp_path: Path) -> None:
    text = files["csv"].read_bytes().decode()
    file = tmp_path / "edited.csv"
    file.write_bytes(text.replace(",latency,1,1,True,", ",latency,one,1,True,").encode())
    said(file, "column repeat: expected a whole number, found 'one'")
    file.write_bytes(text.replace(",latency,1,1,True,", ",latency,1_0,1,True,").encode())
    said(file, "column repeat: expected a whole number")
    file.write_bytes(text.replace(",latency,1,1,True,", ",latency,1,1,yes,").encode())
    said(file, "column counts: expected True or False, found 'yes'")
    file.write_bytes(text.replace(",latency,1,1,True,", ",latency,1,1,").encode())
    said(file, "cells")


def test_json_that_another_program_laid_out_is_read(
    files: dict[str, Path], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pretty.json"
    again = json.dumps(json.loads(files["json"].read_text()), indent=2, ensure_ascii=False)
    file.write_text(again.replace("Infinity", "1e999"))  # Python's own word for it is no JSON
    assert [row["run"] for row in rows_of(file)] == [row["run"] for row in rows_of(files["json"])]
    imported(file, f"sqlite:///{tmp_path}/other.db")
    assert tables(f"sqlite:///{tmp_path}/other.db")["runs"] == tables(url)["runs"]
    monkeypatch.setattr("harness.exchange.json_file.MOST_WHOLE_BYTES", 1000)
    with pytest.raises(Wrong, match="one object a line"):
        rows_of(file)


@pytest.mark.parametrize(("end", "other"), [("\n]\n", "\n]\n[1]\n"), ("\n]\n", ",\n]\n"), ("\n]\n", "\n\n]\n")])
def test_json_ends_where_its_array_ends(files: dict[str, Path], tmp_path: Path, end: str, other: str) -> None:
    text = files["json"].read_text()
    assert text.endswith(end)
    file = tmp_path / "more.json"
    file.write_text(text.removesuffix(end) + other)
    with pytest.raises(Wrong, match="expected"):
        rows_of(file)


@pytest.mark.parametrize("form", ["csv", "json"])
def test_a_line_without_an_end_is_not_read_on(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(f"harness.exchange.{form}_file.MOST_LINE", 2000)
    with pytest.raises(Wrong, match="2000"):
        rows_of(files[form])


def test_parquet_of_other_types_or_of_a_bomb_is_not_read(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow
    import pyarrow.parquet as parquet

    table = parquet.read_table(files["parquet"])
    file = tmp_path / "other.parquet"
    position = table.schema.get_field_index("repeat")
    parquet.write_table(table.set_column(position, "repeat", table["repeat"].cast(pyarrow.string())), file)
    said(file, "column repeat: expected a column of int64, found string")
    parquet.write_table(table.append_column("more", table["repeat"]), file)
    said(file, "and no others")
    parquet.write_table(table.drop_columns(["seed"]), file)
    said(file, "a column seed")
    parquet.write_table(table, file, row_group_size=2)  # another program's groups
    imported(file, f"sqlite:///{tmp_path}/fine.db")
    for limit in ("MOST_GROUP_ROWS", "MOST_GROUP_BYTES", "MOST_RUNS", "MOST_SAMPLES"):
        with monkeypatch.context() as patch:
            patch.setattr(f"harness.exchange.parquet_file.{limit}", 1)
            said(files["parquet"])


# -- the export's own failures ------------------------------------------------------------------------------------


def test_the_old_file_stays_until_the_new_one_is_whole(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("mine")

    def full(form: str, rows: Iterator[Row], path: Path) -> Iterator[int]:
        path.write_text("half")
        yield 1
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(formats, "write", full)
    with pytest.raises(UsageError, match="No space left"):
        exported(url, file)
    assert file.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_takes_its_place_at_once(url: str, tmp_path: Path) -> None:
    """Who reads the old one meanwhile reads it to its end: it is another file that takes the name."""
    file = tmp_path / "runs.csv"
    file.write_text("mine")
    with file.open() as reader:
        exported(url, file)
        assert reader.read() == "mine"


def test_a_symlink_stays_one_and_its_file_is_replaced(url: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "runs.csv").symlink_to(tmp_path / "there" / "real.csv")
    exported(url, tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").is_symlink() and (tmp_path / "there" / "real.csv").stat().st_size > 1000


@pytest.mark.parametrize(("name", "word"), [("", "folder"), ("none/x.csv", "No such file"), ("pipe", "no plain file")])
def test_what_cannot_be_written_is_said(url: str, tmp_path: Path, name: str, word: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match=word):
        exported(url, tmp_path / name)


def test_a_store_with_samples_that_no_file_knows_is_not_exported_without_them(tmp_path: Path) -> None:
    import numpy as np

    from harness.store import Store
    from tests.exchange_kit import run

    url = f"sqlite:///{tmp_path}/h.db"
    session = filled(url)
    store = Store.open(url)
    store.append(run(session, repeat=9, purpose="load", arrays={"unheard_of": np.arange(3, dtype=np.uint64)}))
    store.close()
    with pytest.raises(StoreError, match="unheard_of"):
        exported(url, tmp_path / "runs.csv")


def test_rows_are_written_as_they_come(url: str, tmp_path: Path) -> None:
    """Not all of them are held at once."""
    taken = 0

    def endless() -> Iterator[Row]:
        nonlocal taken
        from harness.store import exact
        from harness.store.store import Store

        store = Store.open(url)
        with exact.reading(store) as reader:
            ids = [listed["id"] for listed in store.list_sessions()]
            [row, *_] = exporting.rows_of(store, reader, ids, True, True)
        store.close()
        while True:
            taken += 1
            yield row

    for form in ("csv", "json"):
        written = formats.write(form, endless(), tmp_path / f"x.{form}")
        taken = 0
        assert [next(written) for _ in range(5)] == [1, 2, 3, 4, 5]
        assert taken == 5
        written.close()  # type: ignore[attr-defined]
