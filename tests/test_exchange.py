"""export-runs and import-runs: what goes out in each format comes back the same, and other tools can read it."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cli import _guarded
from harness.commands.exporting import export_runs
from harness.errors import StoreError, UsageError
from harness.exchange.row import ARRAYS, COLUMNS
from harness.store import Store
from tests import release_kit
from tests.exchange_kit import (
    CARRIED,
    FORMS,
    NASTY,
    SECRETS,
    exported,
    filled,
    imported,
    of_every_kind,
    rows_of,
    tables,
)
from tests.release_kit import Lab

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of two made-up sessions, one of them unfinished and without a label."""
    url = f"sqlite:///{tmp_path_factory.mktemp('store')}/h.db"
    filled(url)
    filled(url, label=None, finished=False)
    return url


@pytest.mark.parametrize("form", FORMS)
def test_an_identified_file_gives_back_every_column_of_every_row(form: str, url: str, tmp_path: Path) -> None:
    file, other = exported(url, tmp_path / f"runs.{form}"), f"sqlite:///{tmp_path}/other.db"
    imported(file, other)
    ours, theirs = tables(url), tables(other)
    for name in CARRIED:
        assert theirs[name] == ours[name], name
    assert ours["samples"] and len(theirs["imports"]) == 2
    assert {(row[1], row[0]) for row in theirs["imports"]} == {(file.name, row[0]) for row in ours["sessions"]}


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_names_nobody_gives_back_the_same_ids_numbers_and_samples(
    form: str, url: str, tmp_path: Path
) -> None:
    file, other = exported(url, tmp_path / f"runs.{form}", identify=False), f"sqlite:///{tmp_path}/other.db"
    imported(file, other)
    ours, theirs = Store.open(url), Store.open(other)
    try:
        for listed in ours.list_sessions():
            one, two = (store.runs(listed["id"], arrays=True) for store in (ours, theirs))
            for a, b in zip(one, two, strict=True):
                told = ("reason", "conditions", "arrays")
                assert {k: v for k, v in vars(a).items() if k not in told} == {
                    k: v for k, v in vars(b).items() if k not in told
                }
                assert a.arrays.keys() == b.arrays.keys()
                assert all(np.array_equal(a.arrays[k], b.arrays[k], equal_nan=k == "score") for k in a.arrays)
                assert all(a.arrays[k].dtype == b.arrays[k].dtype for k in a.arrays)
            assert theirs.session(listed["id"]).devices[0].spec.name == "adb://3f9a01c2"
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("form", FORMS)
def test_without_identify_no_file_tells_who_where_or_which(form: str, url: str, tmp_path: Path) -> None:
    told = repr(rows_of(exported(url, tmp_path / f"x.{form}", identify=False)))
    assert not [secret for secret in SECRETS if secret in told]
    identified = repr(rows_of(exported(url, tmp_path / f"y.{form}")))
    assert all(secret in identified for secret in SECRETS)


@pytest.mark.parametrize("form", FORMS)
def test_pandas_reads_it_as_it_is(form: str, url: str, tmp_path: Path) -> None:
    import pandas

    file = exported(url, tmp_path / f"runs.{form}")
    frame: Any = getattr(pandas, f"read_{form}")(file)
    assert list(frame.columns) == [column.name for column in COLUMNS]
    assert len(frame) == 2 * len(of_every_kind("x"))
    timed = frame[(frame.purpose == "latency") & (frame.repeat == 0)].iloc[0]
    samples = json.loads(timed.latency_ns) if form == "csv" else list(timed.latency_ns)
    assert len(samples) == 400
    assert timed.latency_p50_ms == pytest.approx(float(np.median(samples)) / 1e6)
    assert timed.load_ms == pytest.approx(0.3)
    assert frame.counts.dtype == bool
    assert frame.session_record.notna().sum() == 2


def test_json_is_strict_and_its_json_columns_are_values(url: str, tmp_path: Path) -> None:
    def refused(word: str) -> None:
        raise AssertionError(word)

    rows = json.loads(exported(url, tmp_path / "runs.json").read_text(), parse_constant=refused)
    assert isinstance(rows[0]["conditions"], dict) and isinstance(rows[0]["session_record"], dict)
    assert [row["reason"] for row in rows].count(NASTY) == 2


def test_a_parquet_file_has_types(url: str, tmp_path: Path) -> None:
    import pyarrow.parquet as parquet

    file = parquet.ParquetFile(exported(url, tmp_path / "runs.parquet"))
    kinds = {field.name: str(field.type) for field in file.schema_arrow}
    assert kinds["repeat"] == "int64" and kinds["counts"] == "bool" and kinds["etdump"] == "binary"
    assert "uint64" in kinds["latency_ns"] and "double" in kinds["score"]
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_parquet_file_that_another_program_wrote_anew_is_read(url: str, tmp_path: Path) -> None:
    """With offsets of 64 bits, and columns of nulls without a type, as pandas 3 and polars write them."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    def anew(column: Any) -> Any:
        kind = str(column.type)
        if column.null_count == len(column):
            return arrow.nulls(len(column))
        if kind.startswith("list"):
            return column.cast(arrow.large_list(column.type.value_type))
        return column.cast(f"large_{kind}") if kind in ("string", "binary") else column

    table = parquet.read_table(exported(url, tmp_path / "runs.parquet"))
    made = arrow.table({name: anew(table[name]) for name in table.column_names})
    kinds = {str(field.type) for field in made.schema}
    assert {"null", "large_string", "large_binary"} <= kinds and not {"string", "binary"} & kinds
    parquet.write_table(made, tmp_path / "anew.parquet")
    imported(tmp_path / "anew.parquet", other := f"sqlite:///{tmp_path}/other.db")
    assert all(tables(other)[name] == tables(url)[name] for name in CARRIED)


def test_no_cell_of_a_csv_file_is_a_formula_to_a_spreadsheet(url: str, tmp_path: Path) -> None:
    with exported(url, tmp_path / "runs.csv").open(newline="", encoding="utf-8") as stream:
        cells = [cell for row in list(csv.reader(stream))[1:] for cell in row]
    begins = [cell for cell in cells if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
    assert begins == [] or all(_is_number(cell) for cell in begins)
    assert [cell for cell in cells if "calc" in cell] == [f"'{NASTY}"] * 2


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def test_what_is_there_is_counted_and_never_written_again(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tables(url)
    imported(exported(url, tmp_path / "runs.parquet"), url)
    assert "0 sessions and 0 runs of runs.parquet are new, 2 sessions and 16 runs were there" in capsys.readouterr().out
    assert tables(url) == before


def test_a_dry_run_says_what_would_be_new_and_writes_nothing(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, other = exported(url, tmp_path / "runs.csv"), tmp_path / "other.db"
    imported(file, f"sqlite:///{other}", dry_run=True)
    assert "2 sessions and 16 runs of runs.csv would be new" in capsys.readouterr().out
    assert not other.exists()
    filled(f"sqlite:///{other}")
    before = tables(f"sqlite:///{other}")
    imported(file, f"sqlite:///{other}", dry_run=True)
    assert "2 sessions and 16 runs of runs.csv would be new" in capsys.readouterr().out
    assert tables(f"sqlite:///{other}") == before


def test_a_session_that_went_on_is_completed_by_the_next_file(tmp_path: Path) -> None:
    url, other = f"sqlite:///{tmp_path}/h.db", f"sqlite:///{tmp_path}/other.db"
    session = filled(url, finished=False)
    imported(exported(url, tmp_path / "first.json"), other)
    assert tables(other)["sessions"][0][5] is None  # finished_utc
    store = Store.open(url)
    assert store.append(dataclasses.replace(of_every_kind(session)[1], id="0" * 32, repeat=2))
    store.finish(session)
    store.close()
    imported(exported(url, tmp_path / "second.json"), other)
    for name in CARRIED:
        assert tables(other)[name] == tables(url)[name]


def test_another_run_of_the_same_id_is_refused_and_nothing_written(url: str, tmp_path: Path) -> None:
    from sqlalchemy import update

    from harness.store.tables import runs

    file, other = exported(url, tmp_path / "runs.json"), f"sqlite:///{tmp_path}/other.db"
    imported(file, other)
    store = Store.open(other)
    with store.engine.begin() as connection:
        connection.execute(update(runs).where(runs.c.purpose == "memory").values(block=99))
    store.close()
    before = tables(other)
    with pytest.raises(StoreError, match="differs in block; nothing was written"):
        imported(file, other)
    assert tables(other) == before


def test_a_session_of_other_devices_is_another(url: str, tmp_path: Path) -> None:
    from sqlalchemy import delete

    from harness.store.tables import session_devices

    file, other = exported(url, tmp_path / "runs.json"), f"sqlite:///{tmp_path}/other.db"
    imported(file, other)
    store = Store.open(other)
    with store.engine.begin() as connection:
        connection.execute(delete(session_devices).where(session_devices.c.position == 1))
    store.close()
    with pytest.raises(StoreError, match="other devices"):
        imported(file, other)
    assert len(tables(other)["session_devices"]) == 2


def test_what_was_made_discreet_does_not_come_back_into_its_own_store(url: str, tmp_path: Path) -> None:
    before = tables(url)
    with pytest.raises(StoreError, match="exported without --identify"):
        imported(exported(url, tmp_path / "runs.csv", identify=False), url)
    assert tables(url) == before


def test_samples_that_another_version_packed_otherwise_are_the_same_samples(tmp_path: Path) -> None:
    import zstandard
    from sqlalchemy import select, update

    from harness.store.tables import samples

    url = f"sqlite:///{tmp_path}/h.db"
    filled(url)
    store = Store.open(url)
    with store.engine.begin() as connection:
        for row in connection.execute(select(samples)).all():
            raw = zstandard.ZstdDecompressor().decompress(row.blob)
            packed = zstandard.ZstdCompressor(level=19).compress(raw)
            connection.execute(update(samples).where(samples.c.run_id == row.run_id).values(blob=packed))
    store.close()
    before = tables(url)
    imported(exported(url, tmp_path / "runs.json"), url)
    assert tables(url) == before


@pytest.mark.parametrize("form", FORMS)
def test_without_samples_it_is_for_readers_only(form: str, url: str, tmp_path: Path) -> None:
    file = exported(url, tmp_path / f"runs.{form}", samples=False)
    assert all(row[name] is None for row in rows_of(file) for name in (*ARRAYS, "content_sha256"))
    with pytest.raises(UsageError, match=r"row 1.*--no-samples"):
        imported(file, f"sqlite:///{tmp_path}/other.db")
    assert not (tmp_path / "other.db").exists()


def test_an_import_never_changes_a_baseline(url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    filled(other, label="mine")
    store = Store.open(other)
    store.set_baseline("made-up", "mine")
    store.close()
    imported(exported(url, tmp_path / "runs.csv"), other)
    store = Store.open(other)
    assert store.baseline("made-up") == "mine"
    store.close()


@pytest.mark.parametrize("form", FORMS)
def test_into_postgresql_and_out_of_it(form: str, url: str, tmp_path: Path, postgres: Any) -> None:
    other = postgres()
    imported(exported(url, tmp_path / f"runs.{form}"), other)
    exported(other, tmp_path / f"again.{form}")
    imported(tmp_path / f"again.{form}", f"sqlite:///{tmp_path}/back.db")
    for name in CARRIED:
        assert tables(f"sqlite:///{tmp_path}/back.db")[name] == tables(url)[name]


# -- the commands, on what was measured ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder whose store has two releases and a quick session of a simulated device."""
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        release_kit.enter(folder, patch)
        lab = Lab(folder)
        lab.release("1.0", release_kit.SAME, plan={"memory": True})
        lab.release("1.1", {"fp32": 10.0, "int8": 9.0}, plan={"memory": True})
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_report_pick_compare_and_history_answer_the_same_of_an_imported_store(
    form: str, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_kit.enter(tmp_path, monkeypatch)
    ours, here = Lab(measured), Lab(tmp_path)
    assert ours("export-runs", "-o", str(tmp_path / f"runs.{form}")) == 0, ours.stderr
    assert here.json("import-runs", f"runs.{form}")[1]["new"] == {"sessions": 2, "runs": _runs(measured)}
    for words in (
        ["report"], ["pick", "--minimize", "latency_ms"], ["compare", "1.0", "1.1"], ["history"],
    ):  # fmt: skip
        monkeypatch.chdir(measured)
        expected = ours.json(*words)
        monkeypatch.chdir(tmp_path)
        code, answer = here.json(*words)
        if words == ["report"]:  # which says that it came out of a file
            assert answer.pop("imported") is not None and expected[1].pop("imported") is None
            page = (tmp_path / answer["report"]).read_text()
            assert "IMPORTED on" in page and "IMPORTED on" not in (measured / answer["report"]).read_text()
        assert (code, answer) == expected, words
    assert here("pick", "--minimize", "latency_ms") == 0 and here.stdout.count("IMPORTED on ") == 1
    [_, second] = here.json("runs")[1]
    assert second["imported_utc"] is not None
    assert here("runs") == 0 and here.stdout.count("imported ") == 2
    assert ours.json("runs")[1][0]["imported_utc"] is None


def _runs(folder: Path) -> int:
    store = Store.open(f"sqlite:///{folder}/h.db")
    try:
        return sum(int(listed["runs"]) for listed in store.list_sessions())
    finally:
        store.close()


def test_nothing_of_an_imported_session_is_measured_by_what_it_says_of_its_devices(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_kit.enter(tmp_path, monkeypatch)
    here = Lab(tmp_path)
    assert Lab(measured)("export-runs", "-o", str(tmp_path / "runs.csv"), "--identify") == 0
    assert here("import-runs", "runs.csv") == 0
    code, document = here.json("compare", "1.0", "1.1", "--confirm")
    assert here("compare", "1.0", "1.1") == 1
    assert code == 1
    assert "imported" in json.dumps(document)
    here.says(2, "pick", "--minimize", "latency_ms", "--where", "latency_ms < 9", "--measure-more", names="imported")
    assert len(here.json("runs")[1]) == 2


# -- the documentation --------------------------------------------------------------------------------------------


def test_the_examples_of_the_documentation(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "exchange.md").read_text().partition("\n## MLflow")[0]
    release_kit.enter(tmp_path, monkeypatch)
    commands = [line.split()[1:] for line in page.splitlines() if line.startswith("harness ")]
    assert len(commands) == 2
    assert Lab(measured)(*commands[0]) == 0  # writes to the working folder
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "docs/exchange.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "fp32" in shown and shown.splitlines()[-1] == "demo 5"
    assert _guarded([*commands[1]]) == 0
    assert capsys.readouterr().out.startswith("sqlite:///all.db: 2 sessions and ")


def test_every_column_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "exchange.md").read_text()
    for column in COLUMNS:
        if column.kind != "float" and not column.name.startswith(("sustained_", "energy_", "untraced_")):
            assert f"`{column.name}`" in page, column.name


@pytest.mark.parametrize("name", ["runs.xlsx", "runs.txt", "-"])
def test_which_format_an_unknown_ending_means_is_asked(name: str, url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which format"):
        export_runs(tmp_path / name, None, True, None, None, url, False, False)
    assert not (tmp_path / name).exists()


def test_a_mark_that_a_spreadsheet_puts_before_a_csv_file_is_none_of_it(url: str, tmp_path: Path) -> None:
    file = exported(url, tmp_path / "runs.csv")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    imported(file, f"sqlite:///{tmp_path}/other.db")
