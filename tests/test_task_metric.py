"""The task metric over arrays: which rows it sees, and that it needs no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserCodeError
from harness.task_metric import TaskMetric, true_rows


@pytest.mark.parametrize(("call", "batch", "rows", "row"), [
    ((8, 10), 8, 13, (10,)),  # 2 calls, the last one padded
    ((1, 10), 1, 13, (10,)),
    ((100, 4), 1, 3, (100, 4)),  # boxes of the one sample of the call
    ((10,), 1, 3, (10,)),  # no batch dimension
    ((1,), 1, 3, ()),
    ((16, 4), 8, 13, (2, 4)),
])
def test_each_sample_keeps_all_that_its_call_gave_for_it(
        call: tuple[int, ...], batch: int, rows: int, row: tuple[int, ...]) -> None:
    calls = -(-rows // batch)
    flat = np.arange(calls * np.prod(call)).reshape(calls * call[0], *call[1:])
    found = true_rows(flat, rows, batch)
    assert found.shape == (rows, *row)
    assert np.array_equal(found.reshape(-1), flat.reshape(-1)[: found.size])


def test_an_output_that_no_sample_owns_is_refused() -> None:
    with pytest.raises(UserCodeError, match="output 1 has 10 entries for 8 samples"):
        true_rows(np.zeros((10, 4)), 6, 8, 1)


def test_the_built_in_accuracy_takes_scores_without_a_batch_dimension() -> None:
    metric = TaskMetric(name="accuracy", better="higher", folder=Path())
    scores = np.eye(3)[[0, 1, 1]].reshape(-1)  # three calls that gave [3]
    assert metric.score([scores], 0, np.array([0, 1, 2])).value == pytest.approx(2 / 3)


def test_a_metric_and_data_in_numpy_alone_score_where_there_is_no_torch(tmp_path: Path) -> None:
    (tmp_path / "usernumpy.py").write_text(
        "import numpy\ndef data():\n    items = [(numpy.zeros(2), 1)] * 4\n"
        "    metric = lambda out, target: float((out.mean(1) == target).mean())\n"
        "    return {'test': items, 'train': items, 'metric': metric}\n")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy; from pathlib import Path; from harness.config import parse\n"
        "from harness.task_metric import task_metric\n"
        "of = parse('name: x\\nmodel: {factory: \"usernumpy:data\", example_inputs: {shape: [1, 2]}}\\n'\n"
        "           'data: {factory: \"usernumpy:data\", metric: custom}\\nvariants: [{name: fp32}]',\n"
        "           'a.yaml', Path('.'))\n"
        "print(task_metric(of).score([numpy.ones((4, 2))], 0, numpy.array([1, 1, 1, 0])).value)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("0.75", 0), done.stderr
