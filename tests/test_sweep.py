"""Sweeps and controls: what one entry of the file stands for, and where its refusals point."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import parse
from harness.errors import ConfigError
from harness.experiment import Experiment

BASE = """\
name: x
model: {factory: "m:f", example_inputs: {shape: [1, 3]}}
data: {factory: "m:d"}
variants:
  - {name: fp32}
"""


def read(more: str) -> Experiment:
    return parse(BASE + more, "a.yaml", Path("."))


def steps(experiment: Experiment) -> dict[str, list[tuple[str, Any]]]:
    return {v.name: [(s.name, dict(s.params)) for s in v.steps] for v in experiment.variants}


def test_a_sweep_makes_one_variant_for_each_value_and_a_whole_value_keeps_its_type() -> None:
    found = steps(read('  - {sweep: {name: "slim{ratio}", ratio: [0.25, 0.5], steps: [{prune_channels: '
                       '{ratio: "{ratio}"}}]}}\n  - {name: last}'))
    assert list(found) == ["fp32", "slim0.25", "slim0.5", "last"]
    assert [found[n][0][1]["ratio"] for n in ("slim0.25", "slim0.5")] == [0.25, 0.5]


def test_several_lists_make_the_product() -> None:
    found = steps(read('  - sweep: {name: "s{ratio}-{epochs}ep", ratio: [0.25, 0.5], epochs: [1, 2, 3], steps: '
                       '[{prune_channels: {ratio: "{ratio}"}}, {finetune: {epochs: "{epochs}"}}]}'))
    assert list(found)[1:] == [f"s{r}-{e}ep" for r in (0.25, 0.5) for e in (1, 2, 3)]
    assert found["s0.5-3ep"][1][1]["epochs"] == 3


def test_a_placeholder_inside_a_text_is_text() -> None:
    found = steps(read('  - sweep: {name: "d-{size}", size: [small, large], steps: [{distill: {student: '
                       '"m:{size}"}}]}'))
    assert found["d-large"][0][1]["student"] == "m:large"


REFUSED = [
    ("equal names", 'sweep: {name: "s", ratio: [0.25, 0.5]}', "a.yaml:6: variants[1].sweep.name", "make the same name"),
    ("another's name", 'sweep: {name: "fp{b}", b: [32]}', "a.yaml:6: variants[1].sweep", "'fp32' is given twice"),
    ("no such list", 'sweep: {name: "s{r}", ratio: [0.5]}', "a.yaml:6: variants[1].sweep.name", "no list 'r'"),
    ("no list", 'sweep: {name: "s"}', "a.yaml:6: variants[1].sweep", "without a list"),
    ("an empty list", 'sweep: {name: "s{r}", r: []}', "a.yaml:6: variants[1].sweep.r", "lists of values"),
    ("no name", "sweep: {r: [1]}", "a.yaml:6: variants[1].sweep", "with a name"),
    ("a list in a text", 'sweep: {name: "s{r}", r: [[1]]}', "a.yaml:6: variants[1].sweep.name", "inside a text"),
    ("a key beside it", '{sweep: {name: "s{r}", r: [1]}, steps: []}', "a.yaml:6: variants[1].steps", "beside sweep"),
    ("too many", f'sweep: {{name: "s{{r}}-{{q}}", r: {list(range(30))}, q: {list(range(30))}}}', "variants[1].sweep",
     "900 variants"),
    ("a value that its technique refuses", 'sweep: {name: "s{r}", r: [0.5, 1.5], steps: [{prune_channels: '
     '{ratio: "{r}"}}]}', "a.yaml:6: variants[1].sweep.steps[0].prune_channels.ratio", "less than 1"),
    ("an order that cannot work", 'sweep: {name: "s{r}", r: [0.5], steps: [{quantize_pt2e: {}}, {prune_channels: '
     '{ratio: "{r}"}}]}', "a.yaml:6: variants[1].sweep.steps[1].prune_channels", "cannot follow quantize_pt2e"),
]


@pytest.mark.parametrize(("entry", "where", "what"), [pytest.param(*r[1:], id=r[0]) for r in REFUSED])
def test_what_is_wrong_with_a_sweep_is_refused_where_it_stands(entry: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"  - {entry}")
    assert where in str(refused.value)
    assert what in str(refused.value)


def test_a_control_is_the_reference_trained_as_long_and_shared_by_equal_budgets() -> None:
    experiment = read("""\
  - {name: a, steps: [{prune_channels: {}}, {finetune: {epochs: 3}}]}
  - {name: b, steps: [{finetune: {epochs: 1}}, {finetune: {epochs: 2}}, {quantize_pt2e: {}}]}
  - {name: c, steps: [{distill: {epochs: 5}}]}
  - {name: d, steps: [{quantize_pt2e: {}}]}
control: {finetune: {lr: 0.01}}
""")
    assert {v.name: v.control for v in experiment.variants} == {
        "fp32": None, "a": "control-3ep", "b": "control-3ep", "c": "control-5ep", "d": None,
        "control-3ep": None, "control-5ep": None,
    }
    (name, params), = steps(experiment)["control-5ep"]
    assert (name, params["epochs"], params["lr"]) == ("finetune", 5, 0.01)


def test_what_the_reference_trained_itself_is_not_counted_again() -> None:
    text = BASE.replace("{name: fp32}", "{name: fp32, steps: [{finetune: {epochs: 8}}]}")
    experiment = parse(text + "  - {name: a, steps: [{finetune: {epochs: 8}}, {quantize_pt2e: {}}]}\n"
                       "  - {name: b, steps: [{finetune: {epochs: 8}}, {finetune: {epochs: 2}}]}\ncontrol: finetune",
                       "a.yaml", Path("."))
    assert {v.name: v.control for v in experiment.variants} == {
        "fp32": None, "a": None, "b": "control-2ep", "control-2ep": None}
    assert [dict(s.params)["epochs"] for s in experiment.variants[-1].steps] == [8, 2]


@pytest.mark.parametrize(("more", "where", "what"), [
    ("control: quantize_pt2e", "a.yaml:6: control", "no epochs"),
    ("control: finetun", "a.yaml:6: control.finetun", "did you mean 'finetune'"),
    ("  - {name: a, control: nope}", "a.yaml:6: variants[1].control", "no variant is named 'nope'"),
    ("select_on: train", "a.yaml:6: select_on", "'test' or 'validation'"),
])
def test_controls_and_selection_that_cannot_be_are_refused(more: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(more)
    assert where in str(refused.value) and what in str(refused.value)


def test_selection_on_validation_needs_data() -> None:
    text = BASE.replace('data: {factory: "m:d"}\n', "") + "select_on: validation"
    with pytest.raises(ConfigError, match="no data to validate on"):
        parse(text, "a.yaml", Path("."))
