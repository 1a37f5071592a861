"""Every refusal of an experiment file names the file, the line and the path to the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import load, parse
from harness.errors import ConfigError
from harness.types import Step

BASE = """\
name: x
model: {factory: "m:f", example_inputs: {shape: [1, 3]}}
variants: [{name: fp32}]
"""


def variant(text: str) -> str:
    return BASE.replace("{name: fp32}", text)


# what is wrong, the file, where it must point, what it must say
REFUSED = [
    ("unknown key", BASE + "bogus: 1", "a.yaml:4: bogus", "unknown key"),
    ("unknown key below", BASE + "measure: {thread: [1]}", "a.yaml:4: measure.thread", "did you mean 'threads'"),
    ("duplicate key", BASE + "name: y", "a.yaml:4: name", "given twice"),
    ("tab", BASE + "measure:\n\tthreads: [1]", "a.yaml:5", "tab"),
    ("python tag", BASE + "seeds: !!python/object/apply:os.system [id]", "a.yaml:4: seeds", "not allowed"),
    ("threads: 0", BASE + "measure: {threads: 0}", "a.yaml:4: measure.threads", "a list is needed, not 0"),
    ("threads: [0]", BASE + "measure: {threads: [0]}", "a.yaml:4: measure.threads[0]", "greater than or equal to 1"),
    ("no variants", BASE.replace("[{name: fp32}]", "[]"), "a.yaml:3: variants", "the list is empty"),
    ("one name twice", variant("{name: a}, {name: a}"), "a.yaml:3: variants[1]", "'a' is given twice"),
    ("a path as name", variant("{name: ../../x}"), "a.yaml:3: variants[0].name", "letters, digits"),
    ("a tag as name", variant("{name: '<script>alert(1)</script>'}"), "a.yaml:3: variants[0].name", "letters, digits"),
    (
        "no such technique",
        variant("{name: a, steps: [{quantize_pt2: {}}]}"),
        "variants[0].steps[0].quantize_pt2",
        "did you mean 'quantize_pt2e'",
    ),
    ("unknown parameter", variant("{name: a, steps: [{low_rank: {enrgy: 1}}]}"), "steps[0].low_rank.enrgy", "energy"),
    (
        "prune after quantize",
        variant("{name: a, steps: [{quantize_pt2e: {}}, {prune_channels: {}}]}"),
        "variants[0].steps[1].prune_channels",
        "cannot follow quantize_pt2e",
    ),
    ("training without data", variant("{name: a, steps: [{finetune: {}}]}"), "steps[0].finetune", "has no data"),
    ("no such metric", BASE + "objectives: [latncy_ms]", "a.yaml:4: objectives[0]", "did you mean 'latency_ms'"),
    ("not a constraint", BASE + "pick: {where: ['a == 3']}", "a.yaml:4: pick.where[0]", "METRIC[.STAT] OP NUMBER"),
    ("a budget of no metric", BASE + "budgets: {latncy_ms: 3}", "budgets.latncy_ms", "did you mean 'latency_ms'"),
    ("no such statistic", BASE + "budgets: {latency_ms.p98: 3}", "budgets.latency_ms.p98", "one of: p50, p90"),
    ("a budget never judged", BASE + "budgets: {macs: 3}", "a.yaml:4: budgets.macs", "not judged between releases"),
    ("a budget of nothing", BASE + "budgets: {latency_ms: 0}", "a.yaml:4: budgets.latency_ms", "greater than 0"),
    ("a budget without end", BASE + "budgets: {latency_ms: .inf}", "a.yaml:4: budgets.latency_ms", "finite"),
    ("a budget in words", BASE + "budgets: {latency_ms: fast}", "a.yaml:4: budgets.latency_ms", "valid number"),
    ("a budget twice", BASE + "budgets: {load_ms: 1, load_ms: 2}", "a.yaml:4: budgets.load_ms", "given twice"),
    ("a list of budgets", BASE + "budgets: [latency_ms]", "a.yaml:4: budgets", "dictionary"),
    ("budgets misspelt", BASE + "budget: {latency_ms: 3}", "a.yaml:4: budget", "did you mean 'budgets'"),
    ("a threshold in percent", BASE + "thresholds: {latency_ms: 5}", "a.yaml:4: thresholds.latency_ms", "less than 1"),
    ("a threshold of none", BASE + "thresholds: {latency_ms: 0}", "a.yaml:4: thresholds.latency_ms", "greater than 0"),
    ("of a statistic", BASE + "thresholds: {latency_ms.p95: 0.1}", "thresholds.latency_ms.p95", "'latency_ms'"),
    ("no such reference", BASE + "reference: zz", "a.yaml:4: reference", "no variant is named 'zz'"),
    ("factory without colon", BASE.replace("m:f", "m.f"), "a.yaml:2: model.factory", "module:callable"),
    ("no model", "name: x\nvariants: [{name: a}]", "a.yaml:1: model", "this key is needed"),
    ("not a mapping", "- 1", "a.yaml:1", "a mapping"),
    ("an empty file", "", "a.yaml:1", "a mapping"),
    ("energy that is not offered", BASE + "measure: {energy: on}", "a.yaml:4: measure.energy", " off,"),
    ("no such exporter", BASE + "export: [executorc]", "a.yaml:4: export[0]", "did you mean 'executorch'"),
    ("no such backend", BASE + "export: [{executorch: {backend: gpu}}]", "export[0].executorch.backend", "xnnpack"),
    ("a fraction of a repeat", BASE + "measure: {repeats: 2.5}", "a.yaml:4: measure.repeats", "integer"),
    ("a negative size", BASE.replace("[1, 3]", "[1, -3]"), "a.yaml:2: model.example_inputs.shape[1]", "equal to 1"),
    ("an unknown dtype", BASE.replace("[1, 3]", "[1, 3], dtype: f32"), "a.yaml:2: model.example_inputs", "f32"),
    ("not a number", BASE + "measure: {min_seconds: .nan}", "a.yaml:4: measure.min_seconds", "finite"),
    ("the folder, which is ours", BASE + "folder: /", "a.yaml:4: folder", "unknown key"),
]


@pytest.mark.parametrize(("text", "where", "what"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_what_is_wrong_is_refused_where_it_stands(text: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(text, "a.yaml", Path("."))
    assert where in str(refused.value)
    assert what in str(refused.value)
    assert refused.value.exit_code == 2


def test_the_smallest_experiment_has_every_default() -> None:
    experiment = parse(BASE, "a.yaml", Path("."))
    assert experiment.reference == "fp32"
    assert [export.label for export in experiment.export] == ["executorch"]
    assert experiment.measure.threads == [1]
    assert experiment.measure.repeats == 5
    assert experiment.data is None


def test_yaml_is_read_as_version_1_2() -> None:
    experiment = parse(BASE + "measure: {energy: off}\ntrain: {device: no}", "a.yaml", Path("."))
    assert experiment.measure.energy == "off"
    assert experiment.train.device == "no"


def test_a_steps_parameters_are_filled_in_when_the_file_is_read() -> None:
    experiment = parse(variant("{name: a, steps: [{quantize_pt2e: {}}]}"), "a.yaml", Path("."))
    (step,) = experiment.variants[0].steps
    assert isinstance(step, Step)
    assert step.params["scheme"] == "static"
    assert step.params["threads"] == 1


def test_a_variant_that_trains_is_planned_once_per_seed_and_others_once() -> None:
    text = variant("{name: a}, {name: b, steps: [{finetune: {}}]}") + 'seeds: [0, 1]\ndata: {factory: "m:d"}'
    planned = [(v.name, v.seed) for v in parse(text, "a.yaml", Path(".")).planned_variants]
    assert planned == [("a", 0), ("b", 0), ("b", 1)]


def test_an_alias_bomb_is_refused_and_not_expanded() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for letter, before in zip("bcdefgh", "abcdefg", strict=True):
        bomb += f"{letter}: &{letter} [{', '.join([f'*{before}'] * 10)}]\n"
    with pytest.raises(ConfigError, match="more than"):
        parse(bomb, "a.yaml", Path("."))


def test_a_missing_file_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: No such file"):
        load(tmp_path / "nope.yaml")


def test_the_yaml_files_folder_stays_out_of_what_is_stored(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(BASE)
    experiment, text = load(tmp_path / "a.yaml")
    assert experiment.folder == str(tmp_path)
    assert str(tmp_path) not in experiment.model_dump_json()
    assert text == BASE


def test_budgets_and_thresholds_are_numbers_by_metric() -> None:
    said = "budgets: {latency_ms.p95: 40, peak_memory_bytes: 60e6, accuracy: 0.9}\nthresholds: {latency_ms: 0.05}"
    found = parse(BASE + said, "a.yaml", Path("."))
    assert found.budgets == {"latency_ms.p95": 40.0, "peak_memory_bytes": 60e6, "accuracy": 0.9}
    assert found.thresholds == {"latency_ms": 0.05}
    assert parse(BASE, "a.yaml", Path(".")).budgets == {}
