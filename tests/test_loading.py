"""The user's code and weights: what is taken, and how what is wrong is told."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.config import parse
from harness.errors import UserCodeError
from harness.experiment import Experiment, Inputs
from harness.loading import check_forward, example_inputs, flatten, import_factory, load_model, unflatten

MODEL = """
import torch
class Net(torch.nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.fc = torch.nn.Linear(3, width)
    def forward(self, x):
        return self.fc(x)
def make(width=4):
    return Net(width)
def broken():
    raise RuntimeError("no such file: weights.bin")
def wrong():
    return {"not": "a model"}
def pair():
    return torch.ones(1, 3), torch.zeros(1, 2, dtype=torch.int64)
def text():
    return "inputs"
"""


def experiment(folder: Path, model: str = 'factory: "usernet:make"', shape: str = "[1, 3]") -> Experiment:
    (folder / "usernet.py").write_text(MODEL)
    yaml = f"name: x\nmodel: {{{model}, example_inputs: {{shape: {shape}}}}}\nvariants: [{{name: fp32}}]\n"
    return parse(yaml, "a.yaml", folder)


def test_a_model_beside_the_yaml_loads_in_eval_mode_and_the_same_each_time(tmp_path: Path) -> None:
    first, second = (load_model(experiment(tmp_path)) for _ in range(2))
    assert not first.training
    assert torch.equal(first.get_parameter("fc.weight"), second.get_parameter("fc.weight"))
    assert not list(tmp_path.glob("__pycache__"))


def test_two_folders_with_a_module_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "usersame.py").write_text(f"def f():\n    return {value}\n")
    assert [import_factory("usersame:f", tmp_path / n)() for n in ("a", "b", "a")] == [1, 2, 1]


def test_an_edited_module_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "useredit.py").write_text("def f():\n    return 1\n")
    assert import_factory("useredit:f", tmp_path)() == 1
    (tmp_path / "useredit.py").write_text("def f():\n    return 2\n")
    assert import_factory("useredit:f", tmp_path)() == 2


def test_a_factory_that_raises_names_the_users_file_and_line(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as caught:
        load_model(experiment(tmp_path, 'factory: "usernet:broken"'))
    assert "RuntimeError: no such file: weights.bin" in caught.value.what
    assert f"usernet.py:{MODEL.splitlines().index('def broken():') + 2}" in caught.value.what


@pytest.mark.parametrize(("model", "said"), [
    ('factory: "usernet:wrong"', "returned dict, not a torch.nn.Module"),
    ('factory: "usernet:mak"', "no callable 'mak'"),
    ('factory: "no_such_module:make"', "No module named 'no_such_module'"),
    ('factory: "usernet:make", kwargs: {depth: 3}', "unexpected keyword argument 'depth'"),
    ('factory: "usernet:make", weights: missing.pt', "do not exist"),
])
def test_what_cannot_be_a_model_is_refused(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(UserCodeError, match=said) as caught:
        load_model(experiment(tmp_path, model))
    assert caught.value.exit_code == 2


def test_a_syntax_error_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "userbad.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(UserCodeError, match=r"userbad\.py:2"):
        import_factory("userbad:f", tmp_path)


def test_where_user_code_failed_is_told_without_the_path_of_a_home(tmp_path: Path) -> None:
    (tmp_path / "userpkg").mkdir()
    (tmp_path / "userpkg" / "bad.py").write_text("raise ValueError('no')\n")
    with pytest.raises(UserCodeError) as caught:
        import_factory("userpkg.bad:f", tmp_path)
    assert caught.value.what.endswith("ValueError: no (userpkg/bad.py:1)")
    (tmp_path / "userpkg" / "worse.py").write_text("def f(:\n")
    with pytest.raises(UserCodeError) as caught:
        import_factory("userpkg.worse:f", tmp_path)
    assert str(tmp_path) not in caught.value.what and "(userpkg/worse.py:1)" in caught.value.what


def weights(folder: Path, value: Any, name: str = "w.pt") -> str:
    torch.save(value, folder / name)
    return f'factory: "usernet:make", weights: {name}'


def test_a_state_dict_loads_also_from_a_checkpoint_and_from_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = {"fc.weight": torch.full((4, 3), 0.5), "fc.bias": torch.zeros(4)}
    save_file(state, tmp_path / "w.safetensors")
    for model in (weights(tmp_path, state), weights(tmp_path, {"state_dict": state, "epoch": 3}, "c.pt"),
                  'factory: "usernet:make", weights: w.safetensors'):
        assert torch.equal(load_model(experiment(tmp_path, model)).get_parameter("fc.weight"), state["fc.weight"])


def test_missing_and_unexpected_weights_are_listed(tmp_path: Path) -> None:
    model = weights(tmp_path, {"fc.weight": torch.zeros(4, 3), "fc2.bias": torch.zeros(4)})
    with pytest.raises(UserCodeError, match=r"missing \[fc.bias\], unexpected \[fc2.bias\]"):
        load_model(experiment(tmp_path, model))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserCodeError, match="size mismatch"):
        load_model(experiment(tmp_path, weights(tmp_path, {"fc.weight": torch.zeros(5, 3), "fc.bias": torch.zeros(5)})))


class Bomb:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_bomb_as_weights_is_refused_and_never_runs(tmp_path: Path, legacy: bool) -> None:
    trace = tmp_path / "exploded"
    torch.save({"fc.weight": Bomb(trace)}, tmp_path / "w.pt", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserCodeError) as caught:
        load_model(experiment(tmp_path, 'factory: "usernet:make", weights: w.pt'))
    assert "allow_pickle: true" in str(caught.value)
    assert not trace.exists()


def test_a_bare_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "exploded"
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"fc.weight": Bomb(trace)}))
    with pytest.raises(UserCodeError):
        load_model(experiment(tmp_path, 'factory: "usernet:make", weights: w.pt'))
    assert not trace.exists()


def test_with_allow_pickle_a_whole_module_is_taken(tmp_path: Path) -> None:
    made = load_model(experiment(tmp_path))
    torch.nn.init.ones_(made.get_parameter("fc.bias"))
    torch.save(made, tmp_path / "w.pt")
    model = 'factory: "usernet:make", weights: w.pt'
    with pytest.raises(UserCodeError, match="hold more than tensors"):
        load_model(experiment(tmp_path, model))
    loaded = load_model(experiment(tmp_path, model + ", allow_pickle: true"))
    assert float(loaded.get_parameter("fc.bias").detach().sum()) == 4.0


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 cut off"])
def test_a_damaged_weights_file_is_told_as_damaged(tmp_path: Path, content: bytes) -> None:
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserCodeError, match="cannot be read"):
            load_model(experiment(tmp_path, f'factory: "usernet:make", weights: {name}'))


def test_generated_inputs_are_fixed_and_in_range(tmp_path: Path) -> None:
    spec = Inputs(shapes=[[2, 64], [3], [1]], dtype=["float32", "int64", "bool"])
    (a, b, c), again = example_inputs(spec, tmp_path), example_inputs(spec, tmp_path)
    assert torch.equal(a, again[0])
    assert -1 <= float(a.min()) < -0.5 < 0.5 < float(a.max()) < 1
    assert b.tolist() == [0, 0, 0] and c.tolist() == [False]


def test_a_factory_of_inputs_gives_its_tensors_and_nothing_else_will_do(tmp_path: Path) -> None:
    experiment(tmp_path)
    assert [t.dtype for t in example_inputs(Inputs(factory="usernet:pair"), tmp_path)] == [torch.float32, torch.int64]
    with pytest.raises(UserCodeError, match="not a tuple of tensors"):
        example_inputs(Inputs(factory="usernet:text"), tmp_path)


def test_an_input_shape_that_does_not_fit_is_told_with_the_shape(tmp_path: Path) -> None:
    model = load_model(experiment(tmp_path))
    with pytest.raises(UserCodeError, match=r"the model cannot be run on \[1, 5\] \(float32\)"):
        check_forward(model, (torch.zeros(1, 5),))


def test_nested_outputs_flatten_in_pytree_order_and_come_back() -> None:
    from torch.utils._pytree import tree_leaves

    output = {"z": torch.tensor(0.0), "a": (torch.tensor(1.0), [torch.tensor(2.0)])}
    leaves, structure = flatten(output)
    assert [float(t) for t in leaves] == [float(t) for t in tree_leaves(output)] == [0.0, 1.0, 2.0]
    assert structure == {"z": 0, "a": [1, [2]]}
    assert unflatten(structure, ["x", "y", "z"]) == {"z": "x", "a": ("y", ("z",))}


@pytest.mark.parametrize("output", [None, 1.0, (torch.zeros(1), None), {"a": "text"}])
def test_outputs_that_are_not_tensors_are_refused(output: Any) -> None:
    with pytest.raises(UserCodeError, match="not a tensor"):
        flatten(output)


def test_the_loader_itself_imports_no_torch() -> None:
    import subprocess

    names = "harness.loading, harness.data, harness.task_metric, harness.build"
    code = f"import sys, {names}; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
