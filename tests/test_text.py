"""What the terminal and a pull request get to read, and how numbers are written for people."""

from __future__ import annotations

import copy
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console

from harness.report import units
from harness.report.card import model_card
from harness.report.headline import percent
from harness.report.hostile import clean, markdown_text, script_json
from harness.report.text import markdown, pick_lines, summary
from harness.report.view import view
from tests.session_kit import all_runs, build, documented, session


def document(**changes: Any) -> dict[str, Any]:
    """Made-up numbers in the shape of `harness report --json`; two devices, a robust pick."""
    stored = json.loads((Path(__file__).parent / "data" / "page_document.json").read_text("utf-8"))
    return {**copy.deepcopy(stored["document"]), **changes}


def one_device() -> dict[str, Any]:
    found = document()
    found["results"] = [r for r in found["results"] if r["device"] in ("local", None)]
    found["front"] = [f for f in found["front"] if f["device"] == "local"]
    found["picks"] = found["picks"][:1]
    return found | {"pick": found["picks"][0], "objectives_dropped": {}}


def printed(found: dict[str, Any], width: int = 160, why: str | None = None) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    summary(found, console, why)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_fixture_is_a_document_that_the_schema_accepts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parent / "schema" / "results.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document())


def test_every_result_has_a_row_and_the_pick_comes_last() -> None:
    text = printed(document())
    rows = [line for line in text.splitlines() if re.search(r" \.pt[el] .* (ok|failed|invalid|skipped) ", line)]
    assert len(rows) == 31
    assert re.search(r"slim50-int8 +\.pte +local +ok +21\.1 ±0\.3 +21\.8 +4\.29 +72\.4 +98\.3 +0\.40 ±0\.55", text)
    assert text.index("\nNot counted") < text.index("\nFront") < text.index("\nPick")


def test_the_pick_is_told_with_its_runner_up_and_binding_constraint() -> None:
    end = printed(one_device()).partition("\nPick\n")[2]
    assert "Ship `slim50-int8` as .pte on local: 21.1 µs (0.35× of fp32), 98.3 % (−0.40 pt), 72.4 KB; sure: 97 %" in end
    assert "Runner-up: slim50 .pte, 28.6 µs (0.48× of fp32)" in end
    assert "Binding constraint: accuracy_drop <= 0.01" in end


def test_a_pick_for_all_devices_lists_each_and_who_alone_would_choose_otherwise() -> None:
    found = document()
    found["picks"][1] |= {"variant": "student-int8", "binding": None}
    end = printed(found).partition("\nPick\n")[2]
    assert "Ship `slim50-int8` as .pte on every device; sure: 93 %" in end
    assert "slim50-int8 .pte @local: 21.1 µs" in end
    assert "slim50-int8 .pte @pi5: 56.9 µs" in end
    assert "pi5 alone: student-int8 .pte, 31.8 µs" in end


def test_what_failed_was_skipped_absent_or_dropped_has_its_reason() -> None:
    text = printed(document())
    assert "failed: slim75-int8 .pte @local, slim75-int8 .pte @pi5: output check: 11.2 dB" in text
    assert "invalid: lowrank .pte @pi5: throttled during the run" in text
    assert "skipped: int8 .ptl, slim50-int8 .ptl, lowrank-int8 .ptl and 2 more: a PT2E quantized program" in text
    assert "energy, power: energy: off" in text
    assert "energy_j on pi5: energy: off" in text


def test_a_usable_result_that_is_not_ranked_says_why() -> None:
    found = document()
    found["results"][0]["reason"] = "has no accuracy, which others have"
    assert "not ranked: fp32 .pte @local: has no accuracy" in printed(found)


def test_a_narrow_terminal_keeps_variant_status_latency_and_caveats_and_names_the_rest() -> None:
    text = printed(document(), width=80)
    table = text.partition("\nNot counted")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert re.search(r"lowrank-int8 +\.pte +local +ok +33\.9 ±0\.2 .*bimodal", table)
    assert "not shown at this width: why, p90, peak mem, accuracy" in text


def test_a_wide_terminal_has_room_for_why_and_a_narrower_one_names_it_as_left_out() -> None:
    wide = printed(document(), width=250)
    assert re.search(r"lowrank-int8 +\.pte +local .* \d\.\d×, predicted \d\.\d×: 62 % of MACs wait for memory", wide)
    assert "not shown" not in wide
    assert "not shown at this width: why\n" in printed(document(), width=160)


def trained_thrice() -> dict[str, Any]:
    """fp32, three trainings of slim with their control, and int8; judged on the test split."""
    builds = [build("fp32"), *(build("slim", seed=seed) for seed in (0, 1, 2)), build("int8"), build("control-6ep")]
    s = session(builds, variants=[{"name": "slim", "control": "control-6ep"}])
    counts = {0: 390, 1: 396, 2: 384}
    return documented(s, all_runs(s, scores={("slim", seed): np.arange(400) < n for seed, n in counts.items()}))


def test_the_spread_over_seeds_has_a_column_of_its_own_and_no_plus_minus() -> None:
    text = printed(trained_thrice(), width=250)
    assert "over seeds %" in text
    assert len(re.findall(r"slim .* 97\.5 sd 1\.5 \(3 seeds\)", text)) == 3
    assert "slim .pte seed 1, slim .pte seed 2: represented by seed 0" in text
    assert "over seeds" not in printed(document(), width=250)


def test_a_pick_that_was_trained_several_times_tells_what_it_was_judged_by() -> None:
    found = trained_thrice()
    slim = found["results"][1]
    pick = {k: slim[k] for k in found["front"][0] if k in slim}
    pick |= {"probability": 0.9, "runner_up": None, "binding": None}
    lines = pick_lines(found | {"pick": pick})
    assert "Judged by 3 trainings: accuracy 97.5 sd 1.5 % (97.5, 99.0, 96.0)" in lines
    assert "Chosen on validation" not in "".join(lines)
    on_validation = pick_lines(found | {"pick": pick, "selected_on": "validation"})
    assert on_validation[0].endswith("sure: 90 %; chosen on validation")


def test_the_model_card_says_what_the_control_is_how_trainings_differ_and_what_steps_took() -> None:
    found = trained_thrice()
    result = found["results"][1] | {"steps": [{"step": "finetune", "seconds": 200.0}]}
    shipped = {"input": "default", "file": "slim.pte", "artifact": {"sha256": "0" * 64}}
    manifest = {"file": "slim.pte", "files": [shipped], "experiment": "made-up", "label": None, "result": result,
                "results": [result], "pick": {"probability": 0.9, "binding": None}}  # fmt: skip
    card = model_card(manifest, found)
    assert "| accuracy_drop_control | " in card
    assert "accuracy_drop_control is the loss against `control-6ep`, which was trained as long" in card
    assert "- accuracy over 3 trainings (seeds 0, 1, 2): mean 97.5 sd 1.5 %" in card
    assert "- made by: finetune 3.3 min" in card
    assert "validation split" not in card
    assert "chosen on the validation split" in model_card(manifest, found | {"selected_on": "validation"})


@pytest.mark.parametrize(("value", "text"), [(0.0, "0.00 s"), (0.004, "0.00 s"), (0.83, "0.83 s"), (38.4, "38 s"),
                                             (119.0, "119 s"), (120.0, "2.0 min"), (7200.0, "2.0 h")])  # fmt: skip
def test_seconds_are_told_in_the_unit_that_suits_them(value: float, text: str) -> None:
    assert units.seconds(value) == text


def test_no_pick_is_explained() -> None:
    none = document(pick=None, picks=[])
    assert "no variant holds its constraints" in printed(none)
    assert "accuracy_drop fails at 0.03" in printed(none, why="accuracy_drop fails at 0.03")
    assert "quick run" in printed(document(pick=None, picks=None))
    assert "No single variant" in printed(document(pick=None))


def test_pick_lines_tell_the_pick_or_what_came_closest_and_what_it_misses() -> None:
    found = document()
    told = pick_lines(found | {"pick": found["picks"][0]})
    assert told[0].startswith("Ship `slim50-int8` as .pte on local: 21.1 µs")
    assert told[-1] == "Binding constraint: accuracy_drop <= 0.01"
    miss = {"constraint": "accuracy_drop <= 0.001", "outcome": "undecided", "value": 0.0004, "why": None}
    closest: dict[str, Any] = {"variant": "int8", "exporter": "executorch", "device": "local"}
    closest |= {"misses": [miss | {"probability": 0.6, "short_by": None, "needs": "about 4,000 samples"}]}
    assert pick_lines(found | {"pick": None}, "no variant fits", closest) == [
        "no variant fits",
        "Closest: int8 .pte @local, 35.3 µs (0.59× of fp32), 98.7 % (−0.04 pt), 276 KB",
        "accuracy_drop <= 0.001 undecided at 0.0004; about 4,000 samples",
    ]


def test_hostile_texts_move_no_cursor_and_are_no_markup() -> None:
    found = document(experiment="\x1b[2J[red]x[/red]")
    for result in found["results"]:
        result["variant"] += "[bold]\x1b[31m\u202e"
        result["reason"] = result["reason"] and "line one\nline two\r\x07 | [link=x]y[/link]"
    found |= {"front": [], "picks": [], "pick": None}
    text = printed(found, width=300)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)
    assert "\\x1b[2J[red]x[/red]" in text
    assert "fp32[bold]\\x1b[31m\\u202e" in text
    assert "[link=x]y[/link]" in text


def test_markdown_table_has_the_same_cells_in_each_row_whatever_the_names() -> None:
    found = document()
    found["results"][0]["variant"] = "a|b`c\n|d @all <img src=x> [x](javascript:1) #12"
    text = markdown(found)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 31 + 2
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert "<img" not in text
    assert "](" not in text.replace("\\](", "")
    assert "@all" not in text


@pytest.mark.parametrize(
    ("unit", "value", "shown"),
    [
        ("ms", 0.0000421, "42.1 ns"),
        ("ms", 0.0213, "21.3 µs"),
        ("ms", 5.0, "5.00 ms"),
        ("ms", 12_345.0, "12.3 s"),
        ("bytes", 72_448, "72.4 KB"),
        ("bytes", 999, "999 B"),
        ("bytes", 1_069_312, "1.07 MB"),
        ("fraction", 0.985, "98.5 %"),
        ("1", 2_293_000, "2.29 M"),
        ("J", 0.00042, "420 µJ"),
        ("dB", 200.0, "200 dB"),
        ("words", 3.0, "3.00 words"),
        ("ms", 0.0, "0 ms"),
    ],
)
def test_a_number_gets_the_unit_that_suits_it(unit: str, value: float, shown: str) -> None:
    assert units.human(unit, value) == shown


def test_a_drop_is_in_points_and_a_gain_has_a_proper_minus() -> None:
    assert units.human("fraction", 0.004, "accuracy_drop") == "0.40 pt"
    assert units.human("fraction", -0.004, "accuracy_drop") == "−0.40 pt"
    assert units.human("fraction", -0.00001, "accuracy_drop") == "0.00 pt"


@pytest.mark.parametrize(
    ("value", "ci", "shown"),
    [
        (60.0, (59.1, 60.9), ("60.0", "±0.9")),
        (0.04, (-0.371, 0.451), ("0.04", "±0.41")),
        (128.2, (126.9, 129.5), ("128", "±1")),
        (50.2, (50.19, 50.21), ("50.20", "±0.01")),
        (11.0, (10.99999, 11.00001), ("11.000", "±<0.001")),
        (7.0, (7.0, 7.0), ("7.00", "")),
        (7.0, None, ("7.00", "")),
    ],
)
def test_a_spread_shows_itself_and_no_more_digits(
    value: float, ci: tuple[float, float] | None, shown: tuple[str, str]
) -> None:
    assert units.spread(value, ci) == shown


@given(st.floats(1e-12, 1e12), st.floats(1e-6, 10))
def test_a_written_number_is_within_a_percent_and_its_spread_never_vanishes(value: float, share: float) -> None:
    assert float(units.digits(value).replace(",", "")) == pytest.approx(value, rel=0.0051)
    half = value * share
    number, spread = units.spread(value, (value - half, value + half))
    assert abs(float(number.replace(",", "")) - value) <= max(half, 0.0051 * value)
    assert float(spread.lstrip("±<").replace(",", "")) > 0


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
@example([1000.0, 1e-6, 1e-6, 1e-6])
@example([1e6] + [1e-6] * 19)
def test_a_column_has_one_unit_in_which_its_largest_value_can_be_read(values: list[float]) -> None:
    scale = units.scale("ms", values)
    assert (scale.factor, scale.unit) in [(1e6, "ns"), (1e3, "µs"), (1.0, "ms"), (1e-3, "s")]
    assert max(values) * scale.factor < 1e9


def test_certainty_is_never_claimed_by_rounding() -> None:
    assert [percent(p) for p in (1.0, 0.9999, 0.97, 0.001, 0.0)] == ["100 %", "> 99 %", "97 %", "< 1 %", "0 %"]


@given(st.text())
def test_cleaned_text_encodes_and_has_no_control_character(text: str) -> None:
    cleaned = clean({"k": [text]})["k"][0]
    cleaned.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", cleaned)


@given(st.text(alphabet=st.sampled_from("<>&'\"/!-\u2028\u2029\ud800scriptx")))
def test_embedded_json_cannot_end_its_script_and_reads_back(text: str) -> None:
    embedded = str(script_json({"k": text}))
    assert not re.search("[<>&\u2028\u2029]", embedded)
    assert json.loads(embedded) == {"k": text}


def test_embedded_json_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        script_json({"k": float("nan")})


@given(st.text(max_size=60))
def test_markdown_text_is_one_line_without_open_markup(text: str) -> None:
    line = markdown_text(clean(text))
    assert "\n" not in line
    assert not re.search(r"[<>]|(?<!\\)(?:\\\\)*[|`\[\]]", line)


def test_labels_name_only_what_differs_between_results() -> None:
    assert view(one_device()).rows[0].label == "fp32 .pte"
    assert view(document()).rows[0].label == "fp32 .pte @local"
    found = one_device()
    twice = [*found["results"], {**found["results"][0], "threads": 2}]
    assert view(found | {"results": twice}).rows[-1].label == "fp32 .pte 2T"


def test_the_reference_is_the_variant_that_loses_exactly_nothing() -> None:
    found = one_device()
    found["results"] = found["results"][1:] + found["results"][:1]
    shown = view(found)
    reference = shown.reference(shown.rows[0])
    assert reference is not None
    assert reference.result["variant"] == "fp32"
    assert reference.result["exporter"] == shown.rows[0].result["exporter"]


def test_a_task_metric_of_the_user_keeps_its_name_and_direction() -> None:
    found = one_device()
    for result in found["results"]:
        if "value" in result["metrics"].get("accuracy", {}):
            result["metrics"]["accuracy"] |= {"name": "wer", "better": "lower"}
    shown = view(found)
    assert (shown.name("accuracy"), shown.name("accuracy_drop")) == ("wer", "wer loss")
    assert shown.better("accuracy") == "lower"
