"""The build job: what it gives, what it shares, what it never builds twice, and what it refuses."""

from __future__ import annotations

import base64
import json
import multiprocessing
import zlib
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.build import BuildTask, Prepared, build_variant, preflight, prepare
from harness.build import cache as build_cache
from harness.build import keys as build_keys
from harness.build import steps as build_steps
from harness.config import parse
from harness.data import Split, load_data
from harness.errors import UsageError, UserCodeError
from harness.experiment import Experiment
from harness.samples import choose, device_samples
from harness.types import Build, CheckSet, Step, TensorFile, Variant

USER = """
import torch
class Net(torch.nn.Module):
    def __init__(self, names=False):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))
        self.names = names
    def forward(self, x):
        y = self.body(x)
        return {"scores": y, "sum": y.sum(1, keepdim=True)} if self.names else y
def make(names=False):
    print("a user's print")
    return Net(names)
class Guarded:
    def __init__(self, items): self.items = items
    def __len__(self): return len(self.items)
    def __getitem__(self, i): raise RuntimeError("test was read")
def items(n, offset=0):
    g = torch.Generator().manual_seed(offset)
    return [(torch.randn(8, generator=g), i % 3) for i in range(n)]
def data(guarded=False, train=True, calibration=True):
    test = items(40, 2)
    found = {"calibration": items(16, 1), "test": Guarded(test) if guarded else test, "other": 1,
             "metric": lambda out, target: (out["scores"] if isinstance(out, dict) else out).mean() * 0 + len(target)}
    if not calibration: del found["calibration"]
    return found | ({"train": items(50)} if train else {})
class Branching(Net):
    def forward(self, x):
        return self.body(x) if x.sum() > 0 else -self.body(x)
def branching():
    return Branching()
def never(model, data, params, seed):
    raise RuntimeError("it was trained")
def no_mapping():
    return [1, 2]
def floats():
    return {"test": [(torch.zeros(8), 0.5)]}
def student():
    return Net()
"""


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _shared(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most tests ask what a build gives, not whether it was built: they share what was exported."""
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))
    build_steps._last.clear()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def experiment(folder: Path, variants: str = "{name: fp32}", *, data: str = 'factory: "userpart:data"',
               model: str = 'factory: "userpart:make"', rest: str = "", shape: str = "shape: [1, 8]",
               export: str = "torchscript_lite") -> Experiment:
    if not (folder / "userpart.py").exists():
        (folder / "userpart.py").write_text(USER)
    inputs = shape if shape.startswith("inputs") else f"example_inputs: {{{shape}}}"
    return parse(f"name: x\nmodel: {{{model}, {inputs}}}\n" + (f"data: {{{data}}}\n" if data else "")
                 + f"variants: [{variants}]\nexport: [{export}]\nmeasure: {{accuracy_samples: all}}\n{rest}", "a.yaml",
                 folder)


def build(of: Experiment, folder: Path, name: str | None = None) -> list[Build]:
    wanted = [v for v in of.planned_variants if name is None or v.name == name]
    return [b for v in wanted for b in build_variant(BuildTask(experiment=of, variant=v, folder=folder))]


def read_tensor(file: TensorFile, folder: Path) -> np.ndarray[Any, Any]:
    """All rows of a tensor file: samples x batch on the first dimension."""
    return np.fromfile(folder / f"{file.sha256}.bin", file.spec.numpy).reshape(-1, *file.spec.shape[1:])


SLIM = "{prune_channels: {round_to: 1}}, {finetune: {epochs: 1}}"
TWO = f"{{name: fp32}}, {{name: slim, steps: [{SLIM}]}}, {{name: slim8, steps: [{SLIM}, {{quantize_pt2e: {{}}}}]}}"


def test_a_second_run_builds_nothing_even_in_another_folder_and_gives_the_same(tmp_path: Path, cache: Path) -> None:
    of = experiment(tmp_path)
    first, = build(of, tmp_path / "a")
    build_steps._last.clear()
    again, = build(of, tmp_path / "a")
    other, = build(of, tmp_path / "b")
    assert first.status == "ok" and first.built and first.artifact is not None
    assert again == other == replace(first, built=False)
    assert (tmp_path / "b" / first.artifact.file_name).stat().st_size == first.artifact.size_bytes
    assert first.facts["macs"] == 8 * 32 + 32 * 3 and first.facts["parameters"] == 9 * 32 + 33 * 3


def test_expected_outputs_are_the_models_on_the_whole_test_split(tmp_path: Path) -> None:
    of = experiment(tmp_path, model='factory: "userpart:make", kwargs: {names: true}')
    ready, (row,) = prepare(of, tmp_path / "a"), build(of, tmp_path / "a")
    check = ready.checks["default"]
    inputs, targets = read_tensor(check.inputs[0], tmp_path / "a"), read_tensor(check.targets, tmp_path / "a")  # type: ignore[arg-type]
    scores, total = (read_tensor(e, tmp_path / "a") for e in row.expected)
    assert check.structure == {"scores": 0, "sum": 1} and inputs.shape == (40, 8) and scores.shape == (40, 3)
    assert np.allclose(total[:, 0], scores.sum(1), atol=1e-5)
    assert row.host_score == np.mean(scores.argmax(1) == targets)


def test_a_damaged_record_or_file_is_built_again(tmp_path: Path, cache: Path) -> None:
    of = experiment(tmp_path)
    first, = build(of, tmp_path / "a")
    assert first.artifact is not None
    for file in (tmp_path / "a" / first.artifact.file_name, cache / "builds" / "files" / first.artifact.file_name):
        file.unlink()
        file.write_bytes(b"x" * first.artifact.size_bytes)
    again, = build(of, tmp_path / "a")
    assert again.built and again.status == "ok"
    for record in (cache / "builds").glob("*.json"):
        record.write_text('{"artifact": ')
    assert build(of, tmp_path / "a")[0].built


@pytest.mark.parametrize("edit", ["model", "weights", "step", "tool"])
def test_what_changes_the_file_changes_the_key(tmp_path: Path, edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    low = "{name: fp32, steps: [{low_rank: {rank: %d}}]}"
    build(experiment(tmp_path, low % 2), tmp_path / "a")
    assert not build(experiment(tmp_path, low % 2), tmp_path / "a")[0].built
    of = experiment(tmp_path, low % (3 if edit == "step" else 2))
    if edit == "model":
        (tmp_path / "userpart.py").write_text(USER.replace("y = self.body(x)", "y = self.body(x) + 1"))
    if edit == "weights":
        torch.manual_seed(3)
        state = {f"body.{i}.{n}": torch.randn(s) for i, n, s in
                 ((0, "weight", (32, 8)), (0, "bias", (32,)), (2, "weight", (3, 32)), (2, "bias", (3,)))}
        torch.save(state, tmp_path / "w.pt")
        of = experiment(tmp_path, low % 2, model='factory: "userpart:make", weights: w.pt')
    if edit == "tool":
        monkeypatch.setattr("harness.fingerprint.toolchain", lambda: {"torch": "9.9"})
    build_steps._last.clear()
    assert build(of, tmp_path / "a")[0].built


def test_a_seed_or_an_export_label_that_changes_nothing_builds_nothing(tmp_path: Path) -> None:
    low = "{name: fp32, steps: [{low_rank: {rank: 2}}]}"
    build(experiment(tmp_path, low), tmp_path / "a")
    of = experiment(tmp_path, low, rest="seeds: [7]", export="{torchscript_lite: {}, as: other}")
    row, = build(of, tmp_path / "a")
    assert not row.built and row.exporter == "other"


def test_variants_that_share_steps_train_once_even_in_two_processes(tmp_path: Path, cache: Path) -> None:
    thin = f"{{name: thin, steps: [{SLIM}, {{low_rank: {{rank: 1}}}}]}}"
    of = experiment(tmp_path, f"{{name: slim, steps: [{SLIM}]}}, {thin}")
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        tasks = [BuildTask(experiment=of, variant=v, folder=tmp_path / "a") for v in of.planned_variants]
        rows = [row for done in pool.map(build_variant, tasks) for row in done]
        prepared: Prepared = pool.submit(prepare, of, tmp_path / "a").result()
    assert [r.status for r in rows] == ["ok", "ok"]
    assert len(list((cache / "builds" / "prefixes").glob("*.pt"))) == 3  # pruned, trained (once), thinned
    assert (tmp_path / "a" / prepared.nulls["torchscript"].file_name).is_file()
    assert (tmp_path / "a" / "progress" / "slim-0.txt").read_text() == "done\n"
    assert all((tmp_path / "a" / f"{e.sha256}.bin").is_file() for r in rows for e in r.expected)


def test_a_pair_that_cannot_exist_is_skipped_before_anything_is_computed(tmp_path: Path, cache: Path) -> None:
    rows = build(experiment(tmp_path, TWO), tmp_path / "a", "slim8")
    assert [(r.status, r.artifact) for r in rows] == [("skipped", None)]
    assert "quantized_decomposed" in str(rows[0].reason)
    assert not (cache / "builds" / "prefixes").exists()


def test_one_variant_that_fails_is_a_row_and_the_reason_has_a_remedy(tmp_path: Path) -> None:
    of = experiment(tmp_path, "{name: a, steps: [{low_rank: {energy: 1.0}}]}, {name: b}")
    a, b = build(of, tmp_path / "a")
    assert (a.status, b.status) == ("failed", "ok")
    assert a.reason == "low_rank: no layer gets smaller at this rank; lower energy, rank or ratio"
    assert a.artifact is None


def test_no_step_ever_reads_test(tmp_path: Path) -> None:
    of = experiment(tmp_path, TWO, data='factory: "userpart:data", kwargs: {guarded: true}')
    loaded = build_steps.load(of)
    job = build_steps.Job(loaded=loaded, variant=of.planned_variants[2], say=lambda text: None)
    assert job.final(job.eager(), "default").form == "exported:xnnpack"
    with pytest.raises(UserCodeError, match="test was read"):  # the trap does spring
        device_samples(of, loaded.data, loaded.cases["default"])


def test_without_validation_a_tenth_of_train_is_held_out_the_same_each_time(tmp_path: Path) -> None:
    data, again = load_data(experiment(tmp_path)), load_data(experiment(tmp_path))
    assert data is not None and again is not None and data.train is not None and data.validation is not None
    assert again.validation is not None
    assert (len(data.train), len(data.validation)) == (45, 5)
    assert not set(data.train.rows or ()) & set(data.validation.rows or ())
    assert data.validation.rows == again.validation.rows


def test_samples_are_the_same_for_all_and_stratified() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    rows = choose(100, 20, labels)
    assert rows == choose(100, 20, labels) and len(rows) == len(set(rows)) == 20
    assert np.bincount(labels[rows]).tolist() == [12, 6, 2]
    assert choose(5, 9, None) == choose(5, None, labels[:5]) == [0, 1, 2, 3, 4]


def test_a_batch_of_eight_is_padded_and_scored_on_the_true_rows(tmp_path: Path) -> None:
    one, = build(experiment(tmp_path), tmp_path / "a")
    of = experiment(tmp_path, shape="shape: [16, 8]")
    eight, = build(of, tmp_path / "a")
    check = prepare(of, tmp_path / "a").checks["default"]
    assert check.inputs[0].samples == 3 and check.targets is not None and check.targets.samples == 40
    assert eight.expected[0].spec.shape == (16, 3) and eight.host_score == one.host_score


def test_a_case_that_test_items_do_not_fit_falls_back_to_its_example_inputs(tmp_path: Path) -> None:
    (tmp_path / "userpart.py").write_text(USER.replace("y = self.body(x)", "y = self.body(x[:, :8])"))
    of = experiment(tmp_path, shape="inputs: {short: {shape: [1, 8]}, long: {shape: [1, 12]}}")
    checks = prepare(of, tmp_path / "a").checks
    assert (checks["short"].has_data, checks["long"].has_data) == (True, False)
    assert "[8]" in str(checks["long"].targets_absent)
    rows = {r.input: r for r in build(of, tmp_path / "a")}
    assert rows["short"].host_score is not None and rows["long"].host_score is None
    assert rows["long"].status == "ok" and rows["long"].expected


def test_without_data_there_is_no_score_and_int8_says_so(tmp_path: Path) -> None:
    of = experiment(tmp_path, "{name: int8, steps: [{quantize_pt2e: {}}]}", data="", export="executorch")
    row, = build(of, tmp_path / "a")
    assert (row.status, row.host_score, row.calibrated) == ("ok", None, False)
    assert row.notes == ("calibrated on 1 example inputs",) and row.precision == "static_int8"
    assert set(prepare(of, tmp_path / "a").nulls) == {"executorch"}


def test_a_custom_metric_scores_in_the_models_own_structure(tmp_path: Path) -> None:
    of = experiment(tmp_path, model='factory: "userpart:make", kwargs: {names: true}',
                    data='factory: "userpart:data", metric: custom')
    assert build(of, tmp_path / "a")[0].host_score == 40.0


@pytest.mark.parametrize(("change", "said"), [
    ({"data": 'factory: "userpart:no_mapping"'}, "returned list, not a mapping"),
    ({"data": 'factory: "userpart:floats"'}, "accuracy needs integer targets"),
    ({"shape": "shape: [1, 9]"}, r"the model cannot be run on \[1, 9\] \(float32\)"),
    ({"variants": "{name: a, steps: [{finetune: {}}]}", "data": 'factory: "userpart:data", kwargs: {train: false}'},
     "finetune trains, but the data has no 'train'"),
])
def test_what_no_variant_could_be_built_with_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    of = experiment(tmp_path, **change)
    with pytest.raises(UserCodeError, match=said):
        preflight(of)
        prepare(of, tmp_path / "a")


def test_a_layer_that_the_model_has_not_is_refused_before_any_step(tmp_path: Path) -> None:
    of = experiment(tmp_path, variants="{name: a, steps: [{finetune: {}}, {prune_channels: {ignore: [nope]}}]}")
    with pytest.raises(UsageError, match=r"variant 'a': prune_channels: no layer matches 'nope'"):
        preflight(of)


def test_a_variant_is_not_trained_for_a_format_that_cannot_take_the_model(tmp_path: Path) -> None:
    of = experiment(tmp_path, model='factory: "userpart:branching"', export="executorch, torchscript_lite",
                    variants="{name: a, steps: [{finetune: {factory: 'userpart:never'}}]}")
    pte, ptl = build(of, tmp_path / "a")
    assert pte.status == ptl.status == "failed"
    assert pte.reason is not None and pte.reason.startswith("executorch cannot export this model")
    assert ptl.reason is not None and "it was trained" in ptl.reason


def test_what_a_baseline_cannot_be_is_told_of_that_variant_alone(tmp_path: Path) -> None:
    """The demo's tiny net has no batch norm to fold."""
    of = experiment(tmp_path, variants="{name: fp32}, {name: folded, steps: [fold_bn]}")
    found = preflight(of)
    assert list(found) == ["folded"] and "fold_bn" in found["folded"]


def test_selection_on_validation_scores_each_item_of_that_split_on_the_host(tmp_path: Path) -> None:
    of = experiment(tmp_path, rest="select_on: validation")
    row, = build(of, tmp_path / "a")
    assert row.validation is not None
    scores = np.frombuffer(zlib.decompress(base64.b64decode(row.validation["scores"])), "<f4")
    data = load_data(of)
    assert data is not None and data.validation is not None
    model = build_steps.load(of).model
    with torch.no_grad():
        hits = [int(model(*(t[None] for t in x)).argmax()) == int(y) for x, y in map(data.validation.item,
                                                                                      range(len(data.validation)))]
    assert scores.tolist() == hits and row.validation["value"] == np.mean(hits)
    assert row.validation["samples"] == len(hits) and row.host_score is not None
    again, = build(of, tmp_path / "b")
    assert again.validation == row.validation and not again.built
    assert build(experiment(tmp_path), tmp_path / "a")[0].validation is None


def test_a_users_print_never_reaches_stdout(tmp_path: Path, capfd: Any) -> None:
    build(experiment(tmp_path), tmp_path / "a")
    said = capfd.readouterr()
    assert said.out == "" and "a user's print" in said.err


def test_a_file_made_elsewhere_is_copied_in_and_held_to_the_baselines_outputs(tmp_path: Path) -> None:
    made, = build(experiment(tmp_path), tmp_path / "a")
    assert made.artifact is not None
    (tmp_path / "theirs.ptl").write_bytes((tmp_path / "a" / made.artifact.file_name).read_bytes())
    theirs = "{name: theirs, artifact: theirs.ptl, exporter: torchscript_lite, backend: npu}"
    of = experiment(tmp_path, f"{{name: fp32}}, {theirs}")
    row, = build_variant(BuildTask(experiment=of, variant=Variant(name="theirs"), folder=tmp_path / "b"))
    assert (row.status, row.backend, row.artifact and row.artifact.sha256) == ("ok", "npu", made.artifact.sha256)
    assert row.expected == made.expected


def test_records_are_json_that_reads_back_whole(tmp_path: Path, shared_cache: Path) -> None:
    build(experiment(tmp_path), tmp_path / "a")
    for path in (shared_cache / "builds").glob("*.json"):
        assert json.loads(path.read_text())
        assert build_cache.read(path.stem, tmp_path / "c") is not None


def test_a_students_package_that_lies_elsewhere_is_in_the_key_of_its_step(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "src" / "userstudents"
    package.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(package.parent))
    (package / "__init__.py").write_text("")
    (package / "zoo.py").write_text("from userstudents import blocks\n")
    step = Step(name="distill", params={"student": "userstudents.zoo:make"})
    keys = set()
    for content in ("a = 1\n", "a = 2\n"):
        (package / "blocks.py").write_text(content)
        keys.add(build_keys.step_key("before", step, seed=0, data=None, train={}, machine="", folder=tmp_path / "yaml"))
    assert len(keys) == 2


def test_the_shapes_that_a_model_is_captured_with_are_in_the_key_of_its_score(tmp_path: Path) -> None:
    keys = set()
    for model in ('factory: "userpart:make"', 'factory: "userpart:make", dynamic_shapes: "userpart:student"'):
        check = CheckSet(input="default", inputs=(), has_data=True)
        keys.add(build_keys.score_key("model", experiment(tmp_path, model=model), check, (), None))
    assert len(keys) == 2


@pytest.mark.parametrize("own_generator", [False, True])
def test_augmented_items_count_by_content_unless_no_seed_holds_them(own_generator: bool) -> None:
    generator = torch.Generator() if own_generator else None

    class Augmented(list[float]):
        def __getitem__(self, i: Any) -> Any:
            return super().__getitem__(i) + torch.rand(2, generator=generator), 0

    first, second = (build_keys.split_key(Split(name="train", source=Augmented([x, 1.0]))) for x in (0.0, 5.0))
    assert (first == second) == own_generator


def test_two_callables_of_one_module_and_a_plain_attribute_are_two_models(tmp_path: Path) -> None:
    """The weights are equal: what differs is which callable made the model, or a number that it kept."""
    lines = ["import torch", "class K(torch.nn.Module):", "    def __init__(self, k):", "        super().__init__()",
             "        self.k = k", "    def forward(self, x): return x * self.k",
             "def one(): return K(1.0)", "def hundred(): return K(100.0)"]  # fmt: skip
    (tmp_path / "kmod.py").write_text("\n".join(lines))
    text = 'name: x\nmodel: {factory: "kmod:one", example_inputs: {shape: [1, 2]}}\nvariants: [{name: a}]\n'
    one, hundred = (parse(t, "a.yaml", tmp_path) for t in (text, text.replace("kmod:one", "kmod:hundred")))
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)
    inputs = [torch.zeros(1, 2)]
    assert build_keys.base_key(one, scope["K"](1.0), inputs) == build_keys.base_key(one, scope["K"](1.0), inputs)
    assert build_keys.base_key(one, scope["K"](1.0), inputs) != build_keys.base_key(one, scope["K"](2.0), inputs)
    assert build_keys.base_key(one, scope["K"](1.0), inputs) != build_keys.base_key(hundred, scope["K"](1.0), inputs)
