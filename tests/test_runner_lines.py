"""What a runner may write: finite numbers, and nothing that a store refuses later."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import RunnerError
from harness.measure.runner import read


@pytest.mark.parametrize("number", ["Infinity", "-Infinity", "NaN", "1e999", "-1e999"])
def test_a_number_that_is_none_is_refused_where_the_line_is_read(tmp_path: Path, number: str) -> None:
    path = tmp_path / "lines"
    path.write_text(f'{{"type": "memory", "seq": 0, "t_ns": 1, "peak": {number}}}\n{{"type": "end", "seq": 1}}\n')
    with pytest.raises(RunnerError, match="line 1 of the runner's output is not understood"):
        read(path)
    path.write_text(path.read_text().replace(number, "1e9"))
    assert len(read(path).lines) == 2
