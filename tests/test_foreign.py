"""`measure FILE` with arrays and shapes that cannot be used: one refusal that says what to do."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import foreign
from harness.errors import UsageError
from harness.types import INPUT_DTYPES


def _npz(*arrays: np.ndarray[Any, Any]) -> bytes:
    out = io.BytesIO()
    np.savez(out, *arrays)
    return out.getvalue()


def _npy() -> bytes:
    out = io.BytesIO()
    np.save(out, np.zeros(3, np.float32))
    return out.getvalue()


def _flipped() -> bytes:
    content = bytearray(_npz(np.zeros(1000, np.float32)))
    content[400] ^= 0xFF  # within the array: its checksum no longer holds
    return bytes(content)


UNUSABLE: dict[str, Callable[[], bytes]] = {
    "a bare array": _npy,
    "cut off": lambda: _npz(np.zeros(1000, np.float32))[:700],
    "a flipped byte": _flipped,
    "empty": lambda: b"",
    "text": lambda: b"name: x",
    "no arrays": lambda: _npz(),
    "an empty array": lambda: _npz(np.zeros((0, 3), np.float32)),
    "a dtype of outputs only": lambda: _npz(np.zeros(3, np.float64)),
    "pickled objects": lambda: _npz(np.array([{}], dtype=object)),
}


@pytest.mark.parametrize("content", [pytest.param(make, id=name) for name, make in UNUSABLE.items()])
def test_arrays_that_cannot_be_used_are_refused_with_a_way_to_make_them(
    tmp_path: Path, content: Callable[[], bytes]
) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content())
    with pytest.raises(UsageError, match=r"--inputs .*x\.npz: .+") as refused:
        foreign._from_npz(path, "--inputs", INPUT_DTYPES)
    assert "np.savez" in str(refused.value.hint)


def test_arrays_come_in_the_order_they_were_saved(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(_npz(np.zeros(3, np.float32), np.ones(2, np.int64)))
    assert [a.tolist() for a in foreign._from_npz(path, "--inputs", INPUT_DTYPES)] == [[0, 0, 0], [1, 1]]


@pytest.mark.parametrize(
    ("dtype", "shape", "says"),
    [
        ("bfloat16", [1, 3], "cannot be fed"),
        ("float32", [1 << 40], "impossible size"),
        ("float32", [1 << 21, 1 << 21, 1 << 22], "impossible size"),  # their product wraps around in 64 bits
        ("uint8", [0, 3], "impossible"),
        ("uint8", [-3], "impossible"),
        ("uint8", ["3"], "impossible"),
    ],
)
def test_an_input_that_a_file_describes_and_that_cannot_be_made_is_refused(
    dtype: str, shape: list[int], says: str
) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        foreign._possible(dtype, shape, "the file's input 0")
    assert refused.value.hint


def test_an_input_of_the_command_line_whose_size_wraps_around_is_refused() -> None:
    with pytest.raises(UsageError, match="impossible size"):
        foreign._parse("2097152,2097152,4194304:float32")
