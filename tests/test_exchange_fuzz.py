"""Whatever became of a file: it is refused with a reason, or gives the very runs that were written. Nothing else."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.exchange import formats
from harness.exchange.row import COLUMNS
from harness.exchange.wrong import Wrong
from tests.exchange_kit import FORMS, checked, exported, filled, rows_of

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    filled(f"sqlite:///{folder}/h.db")
    return {form: exported(f"sqlite:///{folder}/h.db", folder / f"runs.{form}") for form in FORMS}


def told(file: Path) -> list[Any]:
    """All that would be stored of it, to be compared."""
    return [
        (new and new.head, dict(run), {name: (values.dtype.str, values.tobytes()) for name, values in arrays.items()})
        for new, run, arrays in checked(rows_of(file))
    ]


def refused_or_the_same(content: bytes, whole: Path, folder: Path) -> None:
    file = folder / f"fuzzed{whole.suffix}"
    file.write_bytes(content)
    try:
        found = told(file)
    except Wrong as wrong:
        assert str(wrong)
        return
    assert found == told(whole)[: len(found)]  # whole rows may be missing: that is no damage but a shorter file
    assert len(found) == len(told(whole)) or whole.suffix != ".parquet"


PLACE = st.floats(0, 1, exclude_max=True)
EDIT = st.tuples(PLACE, st.sampled_from(["flip", "cut", "double", "put"]), st.integers(0, 255))


def edited(content: bytes, edits: list[tuple[float, str, int]]) -> bytes:
    found = bytearray(content)
    for place, how, value in edits:
        at = int(place * len(found))
        if how == "flip":
            found[at] ^= value or 1
        elif how == "cut":
            del found[at : at + 1 + value % 7]
        elif how == "double":
            found[at:at] = found[at : at + 1 + value]
        else:
            found[at:at] = bytes([value])
    return bytes(found)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(EDIT, min_size=1, max_size=3))
def test_bytes_that_changed(files: dict[str, Path], tmp_path: Path, form: str, edits: list[Any]) -> None:
    refused_or_the_same(edited(files[form].read_bytes(), edits), files[form], tmp_path)


@pytest.mark.parametrize("form", ["csv", "json"])
@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=PLACE, new=st.sampled_from("0123456789.-+eE,:[]{}\"' \n\rtfnNI\\u=\t"))
def test_a_character_in_place_of_another(
    files: dict[str, Path], tmp_path: Path, form: str, place: float, new: str
) -> None:
    found = bytearray(files[form].read_bytes())
    found[int(place * len(found))] = ord(new)
    refused_or_the_same(bytes(found), files[form], tmp_path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300), start=st.sampled_from([b"", b"PAR1", b"[\n", b'[\n{"session": ', b"session,"]))
def test_bytes_from_nowhere(tmp_path: Path, content: bytes, start: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(start + content)
    try:
        assert rows_of(file) == []  # as [] is: a file of no runs
    except Wrong as wrong:
        assert str(wrong)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
WHOLE = st.lists(st.integers(0, 2**64 - 1), max_size=5).map(lambda v: np.array(v, np.uint64))
REAL = st.lists(st.floats().map(lambda v: v if v == v else math.nan), max_size=5).map(np.float64)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXT, nothing=st.none() | TEXT, whole=WHOLE, real=REAL, raw=st.binary(max_size=9),
       number=st.floats(allow_nan=False, allow_infinity=False))  # fmt: skip
def test_every_text_and_number_comes_back(
    files: dict[str, Path], tmp_path: Path, form: str, text: str, nothing: str | None, whole: Any, real: Any,
    raw: bytes, number: float,
) -> None:  # fmt: skip
    """Of the containers alone: what a row may hold is for the check to say."""
    told: dict[str, Any] = {
        "text": text, "int": 2**62, "bool": True, "float": number, "json": '{"a": "\\u00fc\\n"}', "ns": whole,
        "f8": real, "bytes": np.frombuffer(raw, np.uint8),
    }  # fmt: skip
    row = {column.name: told[column.kind] for column in COLUMNS} | {"label": nothing, "score": None, "threads": None}
    file = tmp_path / f"one.{form}"
    assert list(formats.write(form, [row, row], file)) == [1, 2]
    for found in rows_of(file):
        for column in COLUMNS:
            back, value = found[column.name], row[column.name]
            if isinstance(value, np.ndarray):
                listed = list(back) if column.kind == "bytes" else [math.nan if v is None else v for v in back]
                assert np.array(listed, value.dtype).tobytes() == value.tobytes(), column.name
            else:
                assert (type(back), back) == (type(value), value), column.name
