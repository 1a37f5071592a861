"""What a file may say at most: beyond it, an import refuses the row, and no report or read comes to grief later."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.exchange import formats, parquet_file, session, strict
from harness.exchange.row import ARRAYS, BY_NAME, JSONS, Row
from harness.exchange.wrong import MOST_TEXT, Wrong
from harness.store.rows import utc_now
from tests.exchange_kit import FORMS, checked, exported, filled, record, rows_of, sealed

pyarrow = pytest.importorskip("pyarrow")
LATENCY, SUSTAINED = 1, 3  # rows of the store below
HUGE = 10**400


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("limits")
    filled(f"sqlite:///{folder}/h.db")
    return {form: exported(f"sqlite:///{folder}/h.db", folder / f"runs.{form}") for form in FORMS}


@pytest.fixture
def rows(files: dict[str, Path]) -> list[Row]:
    return rows_of(files["json"])


def refusal(rows: list[Row]) -> Wrong:
    with pytest.raises(Wrong) as told:
        checked(rows)
    return told.value


def measured(row: Row, metric: str, value: Any) -> Row:
    """The row with one value of this metric in place of its own, and with all that follows from it."""
    said = json.dumps([{"metric": metric, "values": [value], "phase": "load", "source": "runner"}])
    single = {name: None for name in ("load_ms", "peak_memory_bytes")}
    follows = {metric: float(value) if abs(value) < 1e308 else None} if metric in BY_NAME else {}
    return sealed(row | single | {"measurements": said} | follows)


@pytest.mark.parametrize(
    ("metric", "value"),
    [("load_ms", -5), ("load_ms", -1e-9), ("load_ms", 1e18), ("load_ms", 1e308), ("load_ms", -1e308), ("load_ms", HUGE),
     ("peak_memory_bytes", 2**63), ("energy_j", -1), ("output_sqnr_db", -1e18), ("output_sqnr_db", 1e18),
     ("accuracy", 1e300), ("accuracy_drop", -1e300), ("output_max_abs", 1e40), ("output_max_abs", -1)],
    ids=lambda v: str(v)[:20],
)  # fmt: skip
def test_a_value_that_no_device_measures_is_refused(rows: list[Row], metric: str, value: Any) -> None:
    rows[LATENCY] = measured(rows[LATENCY], metric, value)
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (LATENCY + 1, "measurements")


@pytest.mark.parametrize(
    ("metric", "value"),
    [("load_ms", 0), ("load_ms", 9e17), ("output_sqnr_db", -30.5), ("accuracy", -0.25), ("accuracy_drop", -0.01),
     ("validation_drop", -3), ("output_max_abs", 3e38)],
)  # fmt: skip
def test_a_value_that_may_be_is_taken(rows: list[Row], metric: str, value: Any) -> None:
    rows[LATENCY] = measured(rows[LATENCY], metric, value)
    checked(rows)


@pytest.mark.parametrize("column", ["load_ms", "latency_p50_ms"])
@pytest.mark.parametrize("value", [HUGE, -HUGE])
def test_a_figure_of_400_digits_names_its_column(rows: list[Row], column: str, value: int) -> None:
    rows[LATENCY][column] = value
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (LATENCY + 1, column)


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("column", ["load_ms", "measurements", "latency_ns", "score"])
def test_400_digits_are_refused_where_they_are(rows: list[Row], tmp_path: Path, form: str, column: str) -> None:
    """As somebody has it who edits the file."""
    file = tmp_path / f"edited.{form}"
    whole = rows[LATENCY] | {name: np.array(rows[LATENCY][name] or [], "u4" if kind == "ns" else "f8")
                             for name, kind in ARRAYS.items() if kind != "bytes"} | {"load_ms": 0.125}  # fmt: skip
    whole |= {"measurements": '[{"metric": "load_ms", "values": [0.125], "phase": "load", "source": "runner"}]'}
    whole |= {"latency_ns": np.array([987654], "u4"), "score": np.array([0.375])}
    first = rows[0] | {name: None for name in ARRAYS}
    assert list(formats.write(form, [first, whole], file)) == [1, 2]
    was = {"load_ms": "0.125", "measurements": "0.125", "latency_ns": "987654", "score": "0.375"}[column]
    text = file.read_text()
    before, behind = text.split(was, 1) if column == "load_ms" else text.rsplit(was, 1)
    file.write_text(before + str(HUGE) + behind)
    wrong = refusal(rows_of(file))
    assert (wrong.row, wrong.column) == (2, column)


@pytest.mark.parametrize("column", JSONS)
@pytest.mark.parametrize("value", [2**63, -(2**63), HUGE])
def test_whole_numbers_of_json_have_64_bits(rows: list[Row], column: str, value: int) -> None:
    found = json.loads(rows[SUSTAINED][column])
    changed = [*found, value] if isinstance(found, list) else found | {"more": {"deep": [value]}}
    rows[SUSTAINED] = sealed(rows[SUSTAINED] | {column: json.dumps(changed)})
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (SUSTAINED + 1, column)
    assert "64 bits" in wrong.found


def test_whole_numbers_of_64_bits_are_taken() -> None:
    assert strict.parsed(f"[{2**63 - 1}, {1 - 2**63}, -0, 1e308]", 1000) == [2**63 - 1, 1 - 2**63, 0, 1e308]


@pytest.mark.parametrize("value", [1e18, -1e308, [1.0, 1e300], 2**62])
def test_a_figure_beyond_bounds_is_refused(rows: list[Row], value: Any) -> None:
    rows[SUSTAINED] = sealed(rows[SUSTAINED] | {"summary": json.dumps({"drift": value})})
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (SUSTAINED + 1, "summary")


@pytest.mark.parametrize("value", [-1, 1e9, 1e308, True])
def test_the_overhead_of_a_loop_is_a_time(rows: list[Row], value: Any) -> None:
    rows[SUSTAINED] = sealed(rows[SUSTAINED] | {"conditions": json.dumps({"runner": {"loop_overhead_ns": value}})})
    wrong = refusal(rows)
    assert (wrong.row, wrong.column) == (SUSTAINED + 1, "conditions")


# -- moments, texts and plans -------------------------------------------------------------------------------------


def ahead(**more: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(**more)
    return moment.isoformat(timespec="milliseconds")


NO_MOMENTS = [
    "9999-01-01T00:00:00.000+00:00", ahead(days=1, hours=8), "2026-W01-1T00:00:00.000+00:00",
    "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05.678901+00:00", "2026-01-02T03:04:05.678Z",
    "2026-01-02T03:04:05.678+01:00", "2026-01-02 03:04:05.678+00:00", "2026-02-30T03:04:05.678+00:00",
    "2026-01-02T03:04:05.678+00:00\n", "٢٠٢٦-01-02T03:04:05.678+00:00", 5,
]  # fmt: skip


@pytest.mark.parametrize("text", NO_MOMENTS, ids=range(len(NO_MOMENTS)))  # the same in every process
def test_a_moment_that_harness_does_not_write_or_that_has_not_come_is_refused(rows: list[Row], text: Any) -> None:
    assert not session.utc(text)
    for name in ("created_utc", "finished_utc"):
        first = dict(rows[0])
        with record(first) as found:
            found["session"][name] = text
        assert refusal([sealed(first)]).column == "session_record"
    note = {"file": "a.csv", "sha256": "ab" * 32, "imported_utc": text}
    assert "imported_utc" in refusal([told(rows[0], lambda r: r.update(imported=note))]).found
    if isinstance(text, str):
        assert refusal([sealed(rows[0] | {"started_utc": text})]).column == "started_utc"


def test_moments_as_harness_writes_them_are_taken(rows: list[Row]) -> None:
    assert session.utc(utc_now())
    assert session.utc(ahead(hours=23))
    note = {"file": "a.csv", "sha256": "ab" * 32, "imported_utc": utc_now()}
    checked([told(rows[0], lambda r: r.update(imported=note))])


def told(first: Row, change: Callable[[Any], Any]) -> Row:
    first = dict(first)
    with record(first) as found:
        change(found)
    return sealed(first)


RECORDS: list[tuple[str, Callable[[Any], Any]]] = [
    *[(name, lambda r, n=name, v=value: r["session"].update({n: v}))
      for name in ("id", "experiment", "kind", "label", "plan_key", "package", "created_utc", "finished_utc")
      for value in (5, True)],
    *[(name, lambda r, n=name, v=value: r["devices"][1].update({n: v}))
      for name in ("name", "unreached") for value in (5, True)],
    ("quick", lambda r: r["session"].update(quick=1)),
    ("quick", lambda r: r["session"].update(quick=None)),
    ("place", lambda r: r["devices"][1].update(position=True)),
    ("plan_key", lambda r: r["session"].update(plan_key="EF" * 32)),
    ("plan_key", lambda r: r["session"].update(plan_key="ef" * 32 + "\n")),
    ("20000 threads", lambda r: r["session"]["plan"].update(threads=list(range(1, 20_001)))),
    ("65 threads", lambda r: r["session"]["plan"].update(threads=list(range(1, 66)))),
    ("65 cpus", lambda r: r["session"]["plan"].update(cpus=[hex(n) for n in range(1, 66)])),
    ("65 cpus", lambda r: r["devices"][0]["spec"].update(cpus=[hex(n) for n in range(1, 66)])),
    ("plan", lambda r: r["session"]["plan"].update(seed=-1)),
    ("64 bits", lambda r: r["session"]["plan"].update(seed=2**63)),
    ("64 bits", lambda r: r["devices"][0]["facts"].update(cores=HUGE)),
    ("no object", lambda r: r.update(imported=[])),
    ("lacks sha256", lambda r: r.update(imported={"file": "a", "imported_utc": utc_now()})),
    ("sha256", lambda r: r.update(imported={"file": "a", "imported_utc": utc_now(), "sha256": "x"})),
    ("file", lambda r: r.update(imported={"file": 1, "imported_utc": utc_now(), "sha256": "ab" * 32})),
]  # fmt: skip


@pytest.mark.parametrize(("said", "change"), RECORDS)
def test_a_record_beyond_bounds_is_refused(rows: list[Row], said: str, change: Callable[[Any], Any]) -> None:
    wrong = refusal([told(rows[0], change)])
    assert (wrong.row, wrong.column) == (1, "session_record")
    assert said in wrong.found


def test_a_plan_of_more_cells_than_a_report_can_show_is_refused(
    rows: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build, two devices, 64 numbers of threads; three choices of CPUs on one device, two on the other."""

    def planned(r: Any) -> None:
        r["session"]["plan"].update(threads=list(range(1, 65)), cpus=["any", "big", "0x1"])
        r["devices"][1]["spec"].update(cpus=["any", "big"])

    checked([told(rows[0], planned)])
    monkeypatch.setattr("harness.exchange.session.MOST_CELLS", 319)
    assert "320 cells" in refusal([told(rows[0], planned)]).found
    monkeypatch.setattr("harness.exchange.session.MOST_CELLS", 320)
    checked([told(rows[0], planned)])


# -- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\n=1+1", "\r=1+1", "\t=1+1", "+1", "-1", "@a", "=1", "'a", "\n"])
def test_csv_guards_what_a_spreadsheet_computes(rows: list[Row], tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.csv"
    row = rows[0] | dict.fromkeys(ARRAYS) | {"reason": text, "etdump": np.frombuffer(b"\xfb\xff", np.uint8)}
    assert list(formats.write("csv", [row], file)) == [1]
    content = file.read_bytes().decode()
    assert f"'{text}" in content
    assert ",'+/8=," in content  # base64 may begin with a plus
    [back] = rows_of(file)
    assert (back["reason"], back["etdump"]) == (text, b"\xfb\xff")


def bomb(files: dict[str, Path], file: Path, count: int, **long: Any) -> None:
    """`count` times the first row, and in these columns a value that the file holds once."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(files["parquet"]).slice(0, 1)
    columns = {}
    for field in table.schema:
        values = table[field.name].combine_chunks()
        if field.name in long:
            values = pyarrow.array([long[field.name]], field.type)
        zeros = pyarrow.array(np.zeros(count, np.int32))
        once = field.name in long and not pyarrow.types.is_list(field.type)
        columns[field.name] = pyarrow.DictionaryArray.from_arrays(zeros, values) if once else values.take(zeros)
    parquet.write_table(pyarrow.table(columns), file, compression="zstd", store_schema=False)
    assert file.stat().st_size < 60_000


@pytest.mark.parametrize(
    ("column", "value"), [("reason", "x" * (4 * MOST_TEXT + 1)), ("conditions", '"' + "x" * (17 << 20) + '"'),
                          ("etdump", bytes(16_000_001))],
    ids=["text", "json", "bytes"],
)  # fmt: skip
def test_a_value_beyond_bounds_is_refused_where_it_is_read(
    files: dict[str, Path], tmp_path: Path, column: str, value: Any
) -> None:
    file = tmp_path / "bomb.parquet"
    bomb(files, file, 200, **{column: value})
    with pytest.raises(Wrong) as told:
        next(formats.read("parquet", file))
    assert (told.value.row, told.value.column) == (1, column)


def test_a_long_text_that_all_rows_share_is_held_once(files: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "bomb.parquet"
    bomb(files, file, 1000, conditions='"' + "x" * (4 << 20) + '"')
    before = pyarrow.total_allocated_bytes()
    found = formats.read("parquet", file)
    for _ in range(3):
        assert len(next(found)["conditions"]) == (4 << 20) + 2
        assert pyarrow.total_allocated_bytes() - before < 64 << 20
    found.close()  # type: ignore[attr-defined]


def test_samples_are_bounded_over_the_columns_of_a_row_group(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "bomb.parquet"
    half = [0] * 100_000
    bomb(files, file, 10, latency_ns=half, input_ns=half)
    monkeypatch.setattr(parquet_file, "MOST_GROUP_BYTES", 15_000_000)
    with pytest.raises(Wrong, match="row group 0 of 10 rows and 160") as told:
        next(formats.read("parquet", file))
    assert told.value.row == 0
    monkeypatch.setattr(parquet_file, "MOST_GROUP_BYTES", 17_000_000)
    monkeypatch.setattr(parquet_file, "READ_BYTES", 4_000_000)
    before = pyarrow.total_allocated_bytes()
    found = formats.read("parquet", file)
    assert len(next(found)["latency_ns"]) == 100_000
    assert pyarrow.total_allocated_bytes() - before < 10_000_000  # not all of the group
    assert len(list(found)) == 9


def test_row_groups_are_read_one_by_one(files: dict[str, Path], tmp_path: Path) -> None:
    """Else a batch would be of many groups, each within its bounds; the rows are numbered through."""
    import pyarrow.parquet as parquet

    file = tmp_path / "groups.parquet"
    table = parquet.read_table(files["parquet"])
    position = table.schema.get_field_index("reason")
    reasons = pyarrow.array([*[None] * (len(table) - 1), "x" * 90_000])
    parquet.write_table(table.set_column(position, table.schema.field("reason"), reasons), file, row_group_size=2)
    with pytest.raises(Wrong) as told:
        rows_of(file)
    assert (told.value.row, told.value.column) == (len(table), "reason")
