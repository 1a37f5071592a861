"""What a comparison and a history look like to people: hand-made rows, in text and in Markdown."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.report import history_text
from harness.report import release_words as words
from harness.report.compare_markdown import markdown
from harness.report.compare_text import SIMULATED, lines

CELL = {
    "variant": "int8", "seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default",
    "device": "local", "device_id": "3f9a01c2", "threads": 1, "cpus": "any", "context": "host",
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>", "a|b`c`\x1b[31m", "](javascript:alert(1))", "@everyone #1 https://evil.example",
    "x" * 300, "‮evil 🦆" * 30, "</details>\n\n# heading",
]  # fmt: skip


def row(outcome: str = "same", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = CELL | {
        "metric": "latency_ms", "unit": "ms", "base": 2.0, "head": 2.104, "ratio": 1.052, "ci95": [1.031, 1.073],
        "outcome": outcome, "minimum_detectable": None, "reason": None, "design": "paired", "n": 10, "p_value": 0.001,
        "q_value": 0.002, "threshold": 0.02, "moved": [], "confirmed": None,
    }  # fmt: skip
    return found | more


def document(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "schema": 1, "experiment": "demo", "base": "v1.4", "head": "v1.5", "sessions": {"base": ["a"], "head": ["b"]},
        "simulated": False, "verdict": "same", "comparisons": list(rows), "notes": [],
    } | more  # fmt: skip


def gated(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {"passed": True, "failures": [], "budgets": [], "alarms": [], "report": None}
    return document(*rows, **(own | more))


def text(found: dict[str, Any], every: bool = False) -> str:
    return "\n".join(lines(found, every))


def missing(variant: str, reason: str, metric: str = "*") -> dict[str, Any]:
    none = {"base": None, "head": None, "ratio": None, "ci95": None, "design": None}
    return row("missing", variant=variant, metric=metric, reason=reason, **none)


EVERY = (
    row("same"), row("better", variant="slim", head=1.0, ratio=0.5, ci95=[0.49, 0.51]),
    row("inconclusive", variant="fp32", ratio=1.01, ci95=[0.99, 1.03], minimum_detectable=0.031),
    missing("npu", "the head's is failed: wrong output"),
    row("worse", moved=[{"factor": "delegated_fraction", "base": "1", "head": "0.6"}]),
    row("incomparable", metric="energy_j", reason="energy source: battery -> rail", ratio=None, ci95=None),
)  # fmt: skip


def test_what_is_worse_comes_first_and_the_verdict_last() -> None:
    said = text(document(*EVERY, verdict="worse"))
    order = [said.index(f"\n{word}") for word in ("Worse", "Missing", "Incomparable", "Better", "Inconclusive", "Same")]
    assert order == sorted(order)
    last = said.splitlines()[-1]
    assert last == "verdict: worse (1 worse, 1 missing, 1 incomparable, 1 better, 1 inconclusive, 1 same)"


def test_a_row_tells_figures_ratio_interval_and_what_moved_with_it() -> None:
    said = text(document(row("worse", moved=EVERY[4]["moved"])))
    assert "int8: latency_ms 2.00 ms -> 2.10 ms, 1.052x (1.031 to 1.073)" in said
    assert "with it: delegated_fraction 1 -> 0.6" in said
    assert "with it" not in text(document(row("better", moved=EVERY[4]["moved"])))


def test_what_moved_is_said_once_for_a_cell_and_what_every_row_gives_as_reason_once_for_all() -> None:
    moved = EVERY[4]["moved"]
    rows = [row("worse", metric=m, moved=moved, reason=f"not divided; of {m}") for m in ("load_ms", "latency_ms")]
    other = row("worse", variant="fp32", ratio=1.04, moved=moved, reason="not divided")
    said = text(document(*rows, other))
    assert "Worse (not divided)" in said
    assert said.count("not divided") == 1 and "of load_ms" in said
    assert said.count("with it") == 2
    assert re.search(r"int8: .*\n  int8: .*\n    with it: .*\n  fp32: .*\n    with it", said)
    in_markdown = markdown(document(*rows, other))
    assert in_markdown.count("not divided") == 1
    assert in_markdown.count("as above") == 1 and in_markdown.count("delegated\\_fraction 1") == 2


def test_an_inconclusive_row_says_what_could_have_been_seen() -> None:
    assert "could have seen 3.1 %" in text(document(EVERY[2]))
    assert "could have seen" not in text(document(row("worse", minimum_detectable=0.031)))


def test_what_is_the_same_is_counted_and_listed_when_asked() -> None:
    found = document(row("same", variant="a"), row("same", variant="b"))
    assert "Same: 2 (--all lists them)" in text(found)
    assert "a: latency_ms" not in text(found)
    assert "a: latency_ms" in text(found, every=True)


def test_rows_that_lack_for_one_reason_are_told_together() -> None:
    rows = [missing(f"v{i}", "the device was away") for i in range(9)]
    said = text(document(*rows))
    assert said.count("the device was away") == 1
    assert "… and 3 more" in said
    assert "v8" in text(document(*rows), every=True)
    assert "*" not in said


def test_an_incomparable_cell_names_its_metrics() -> None:
    rows = [row("incomparable", metric=m, reason="os: A -> B") for m in ("latency_ms", "load_ms")]
    assert "int8: latency_ms, load_ms" in text(document(*rows))


def test_only_what_differs_is_said_of_a_cell() -> None:
    called, shared = words.names([row(), row(variant="fp32")])
    assert called == ["int8", "fp32"]
    assert shared == ".pte, xnnpack, @local, 1 thread"
    called, shared = words.names([row(), row(device="pi", device_id="9"), row(threads=2), row(seed=1)])
    assert called == ["int8 seed 0 @local 1 thread", "int8 seed 0 @pi 1 thread", "int8 seed 0 @local 2 threads",
                      "int8 seed 1 @local 1 thread"]  # fmt: skip
    two_units = [row(), row(device_id="other")]
    assert words.names(two_units)[0] == ["int8 3f9a01c2", "int8 other"]


@pytest.mark.parametrize(
    ("ratio", "said"), [(1.052, "1.052"), (0.5, "0.5000"), (12.345, "12.35"), (0.01234, "0.01234"), (1e7, "1e+07"),
                        (3.3e-9, "3.3e-09"), (0.0, "0")],
)  # fmt: skip
def test_ratios_have_four_digits(ratio: float, said: str) -> None:
    assert words.times(ratio) == said


@pytest.mark.parametrize(
    ("metric", "ratio", "said"),
    [("latency_ms", 1.052, "5.2 % slower"), ("load_ms", 0.9, "10 % faster"), ("size_bytes", 4.0, "300 % larger"),
     ("peak_memory_bytes", 0.5, "50 % smaller"), ("energy_j", 1.1, "10 % more energy"),
     ("accuracy", 0.99, "1 % lower")],
)  # fmt: skip
def test_changes_in_words(metric: str, ratio: float, said: str) -> None:
    assert words.changed(metric, ratio) == said


def test_a_confirmed_row_says_so_and_an_exact_one_needs_no_saying() -> None:
    assert "confirmed by measuring again" in text(document(row("worse", confirmed=True)))
    assert "not confirmed by measuring again" in text(document(row("inconclusive", confirmed=False)))
    assert "confirmed" not in text(document(row("worse", metric="size_bytes", design="exact", confirmed=True)))


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (gated(row()), "gate: passed"),
        (gated(row(), passed=False, failures=["2 worse", "1 over budget"]), "gate: failed: 2 worse; 1 over budget"),
    ],
)
def test_the_last_line_of_a_gate_is_its_verdict(found: dict[str, Any], last: str) -> None:
    assert lines(found)[-1] == last
    assert f"**{last}**" in markdown(found)


def test_nothing_compared_is_said() -> None:
    assert text(document(verdict="incomparable")).endswith("verdict: incomparable (nothing was compared)")
    assert "nothing was compared" in markdown(document(verdict="incomparable"))


def test_simulated_numbers_say_so_before_anything_else() -> None:
    assert lines(document(row(), simulated=True))[0] == SIMULATED
    assert markdown(document(row(), simulated=True)).startswith(f"> **{SIMULATED}**")
    assert history_text.lines(told(simulated=True))[0] == SIMULATED
    assert history_text.markdown(told(simulated=True)).startswith(f"> **{SIMULATED}**")


BUDGET = CELL | {"metric": "latency_ms.p95", "bound": 40.0, "value": 38.0, "far": 39.0, "within": True, "reason": None,
                 "unit": "ms", "better": "lower"}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "latency_ms.p95 at most 40.0 ms: within, 38.0 ms, its 95 % interval reaches 39.0 ms"),
        ({"within": False, "value": 41.0, "far": 42.0}, "over budget, 41.0 ms, its 95 % interval reaches 42.0 ms"),
        ({"within": None, "value": None, "far": None, "reason": "one run"}, "40.0 ms: cannot be judged, one run"),
        ({"metric": "size_bytes", "unit": "bytes", "bound": 6e7, "value": 5e6, "far": 5e6},
         "at most 60.0 MB: within, 5.00 MB"),
        ({"metric": "accuracy", "bound": 0.9, "value": 0.8, "far": 0.7, "within": False, "better": "higher",
          "unit": "fraction"},
         "accuracy at least 90.0 %: below what is wanted, 80.0 %"),
    ],
)  # fmt: skip
def test_budgets_in_words(changed: dict[str, Any], said: str) -> None:
    found = gated(row(), budgets=[BUDGET | changed])
    assert said in text(found)
    assert "Budgets" in markdown(found)


def test_an_alarm_of_the_history_says_since_when_and_whether_it_counts() -> None:
    alarm = CELL | {"metric": "latency_ms", "label": "v1.3", "ratio": 1.052, "p_value": 1e-6, "confirmed": None}
    assert "int8: latency_ms since v1.3: 5.2 % slower, unconfirmed" in text(gated(row(), alarms=[alarm]))
    assert "latency\\_ms since v1.3: 5.2 % slower" in markdown(gated(row(), alarms=[alarm]))


# -- Markdown --------------------------------------------------------------------------------------------------------


def test_markdown_has_one_headline_a_table_and_the_rest_folded() -> None:
    said = markdown(document(*EVERY, verdict="worse"))
    assert "### demo: v1.4 → v1.5" in said
    assert re.search(r"^\| int8 \| latency\\_ms \| 2\.00 ms \| 2\.10 ms \| 1\.052x \(1\.031 to 1\.073\) \|", said, re.M)
    assert said.count("<details>") == said.count("</details>") == 3
    for summary in ("1 better", "1 inconclusive", "1 same"):
        assert f"<summary>{summary}</summary>\n\n|" in said
    assert said.index("1.052x") < said.index("<details>")


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_and_reasons_from_outside_are_inert(name: str) -> None:
    found = gated(
        row("worse", variant=name, reason=name, moved=[{"factor": name, "base": name, "head": None}]),
        missing(name, name), row("incomparable", device=name, reason=name), row("same", variant=name),
        base=name, head=name, experiment=name, notes=[name], failures=[name], passed=False,
        budgets=[BUDGET | {"variant": name, "within": None, "reason": name}],
        alarms=[CELL | {"variant": name, "metric": "latency_ms", "label": name, "ratio": 1.1, "p_value": 0.0,
                        "confirmed": None, "reason": name}],
    )  # fmt: skip
    said = markdown(found)
    bare = re.sub(r"\\.", "", said)
    assert "<script" not in said and "\x1b" not in said and "‮" not in said
    assert "](" not in bare and "`" not in bare and "https://" not in said and "@everyone" not in said
    assert said.count("</details>") == said.count("<details>")
    tables = [line for line in said.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in tables} <= {7, 8}
    assert "\n# heading" not in said
    told_in_text = text(found, every=True)
    assert "\x1b" not in told_in_text and "‮" not in told_in_text
    assert len(told_in_text.splitlines()) == len(lines(found, every=True))


def test_markdown_of_a_thousand_rows_fits_a_comment_and_is_whole() -> None:
    outcomes = ("worse", "inconclusive")
    rows = [row(o, variant=f"variant-{i}", reason="because " * 20) for i in range(500) for o in outcomes]
    said = markdown(document(*rows, verdict="worse"))
    assert len(said) < 65_000
    assert "500 worse" in said
    assert said.count("<details>") == said.count("</details>")


# -- history ---------------------------------------------------------------------------------------------------------


def point(label: str | None, value: float | None, **more: Any) -> dict[str, Any]:
    return {
        "label": label, "sessions": ["0123456789abcdef"], "created_utc": "2026-01-02T03:04:05", "value": value,
        "relative": None if value is None else value / 2, "runs": 5, "segment": 0, "began": [], "absent": None,
        "left_out": None,
    } | more  # fmt: skip


def series(*points: dict[str, Any], **more: Any) -> dict[str, Any]:
    return CELL | {
        "metric": "latency_ms", "unit": "ms", "normalised": "fp32", "reason": None, "points": list(points),
        "changes": [],
    } | more  # fmt: skip


STEP = series(
    *(point(f"v1.{i}", 2.0) for i in range(3)), point("v1.3", 2.104), point(None, 2.104, segment=1, began=["os"]),
    point("v1.5", None, segment=1, absent="the device was away"),
    changes=[{"at": 3, "label": "v1.3", "ratio": 1.052, "p_value": 1e-6, "worse": True, "confirmed": None,
              "reason": None}],
)  # fmt: skip


def told(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schema": 1, "experiment": "demo", "simulated": False, "series": list(found), "notes": []} | more


def test_a_history_says_since_when_draws_it_and_lists_the_releases() -> None:
    said = "\n".join(history_text.lines(told(STEP)))
    assert "int8: latency_ms  ▁▁▁█|█·  2.00 ms -> 2.10 ms" in said
    assert "since v1.3: 5.2 % slower (worse)" in said
    assert "new os with run:01234567" in said
    newest, oldest = said.index("v1.5  "), said.index("v1.0  ")
    assert newest < oldest
    assert re.search(r"v1\.3 +2\.10 ms +1\.052 +5  worse", said)
    assert re.search(r"v1\.5 +– +– +5  the device was away", said)


def test_a_flat_series_looks_flat() -> None:
    flat = series(*(point(f"v{i}", 2.0 + 0.001 * (i % 2)) for i in range(8)))
    assert len(set(history_text.sparkline(flat))) <= 2
    assert "█" not in history_text.sparkline(flat)
    assert history_text.sparkline(series(point("a", None))) == "·"
    assert history_text.sparkline(series(point("a", 0.0), point("b", 0.0))) == "▁▁"


def test_many_series_have_tables_only_where_something_changed() -> None:
    many = [series(point("v1", 2.0), variant=f"v{i}") for i in range(20)]
    said = "\n".join(history_text.lines(told(*many, STEP)))
    assert said.count("release ") == 1
    assert said.index("since v1.3") < said.index("v0: latency_ms")
    assert "\n".join(history_text.lines(told(*many, STEP), every=True)).count("release ") == 21


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_history_of_hostile_names_is_inert(name: str) -> None:
    found = told(
        series(point(name, 2.0), point(name, 2.1, began=[name], segment=1, absent=name), variant=name, reason=name,
               normalised=name, changes=[STEP["changes"][0] | {"at": 1, "label": name, "reason": name}]),
        experiment=name, notes=[name],
    )  # fmt: skip
    said = history_text.markdown(found)
    bare = re.sub(r"\\.", "", said)
    assert "<script" not in said and "\x1b" not in said and "](" not in bare and "`" not in bare
    assert said.count("</details>") == said.count("<details>") == 1
    text = "\n".join(history_text.lines(found))
    assert "\x1b" not in text and "‮" not in text
