"""Conditions, energy, sustained curves, operators, memory by part; and that a simulated number is never shown as
measured. On the page, in the terminal, in markdown and on the model card."""

from __future__ import annotations

import copy
import dataclasses
import io
import itertools
import re
from typing import Any

import pytest
from rich.console import Console

from harness.interfaces import PageData
from harness.report import conditions as section
from harness.report.card import model_card
from harness.report.page import render
from harness.report.text import markdown, pick_lines, summary
from harness.report.view import view
from harness.types import DeviceSpec
from tests.session_kit import all_runs, build, conditions, device, documented, profile_run, run, session, sustained_run

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u202e"
METERED = {
    "value": 0.0021, "unit": "J", "ci95": [0.00205, 0.00215], "source": "rapl", "gross": 0.0034, "idle_w": 1.5,
    "rails": ["package-0"], "period_s": 0.1, "uncertainty": 0.012, "windows": 5, "seconds": 30.0,
    "not_used": [{"reason": "idle changed by 9 %", "runs": 2}],
}  # fmt: skip
POWER = {"value": 2.1, "unit": "W", "ci95": [2.05, 2.15], "source": "rapl"}
PARTS = {"model_mapped": 1_000_000, "packed_weights": 2_000_000, "arenas": 500_000, "other": {"absent": "no peak told"}}


def everything(uri: str = "local", plan: dict[str, Any] | None = None) -> dict[str, Any]:
    """fp32 with all there is, int8 whose sustained run and profile broke and whose meter was unfit."""
    fp32, int8 = build("fp32"), build("int8", caveats=("freq_unstable",))
    on = device("board")
    on = dataclasses.replace(on, spec=DeviceSpec(name="board", uri=uri))
    asked = {"sustained_minutes": 10, "profile": True, "seed": 4711} if plan is None else plan
    s = session([fp32, int8], [on], plan=asked)
    runs = [
        dataclasses.replace(r, conditions=conditions(r.repeat)) if r.purpose == "latency" else r for r in all_runs(s)
    ]
    broke = {"counts": False, "status": "failed", "reason": "the lite interpreter has no profile"}
    disturbed = {"counts": False, "status": "invalid", "conditions": {"gate": {"state": "open", "waited_s": 50.0}}}
    runs += [
        sustained_run(fp32, on), profile_run(fp32, on), run(fp32, on, "burn_in", 0), run(int8, on, "burn_in", 0),
        run(int8, on, "sustained", 0, counts=False, status="invalid", reason="gate_timeout: skin 44.0 °C after 10 min"),
        run(int8, on, "profile", 0, **broke),
        run(int8, on, "latency", 0, attempt=1, reason="disturbed: the kernel took 7 % longer", **disturbed),
        run(int8, on, "latency", 1, attempt=1, reason="disturbed: the kernel took 9 % longer", **disturbed),
    ]  # fmt: skip
    unasked = () if asked else ("sustained", "profile")
    return documented(s, [r for r in runs if r.purpose not in unasked])


def metered(document: dict[str, Any]) -> dict[str, Any]:
    fp32, int8 = document["results"]
    fp32["metrics"] |= {"energy_j": dict(METERED), "power_w": dict(POWER)}
    int8["metrics"]["energy_j"] = {"absent": "no usable meter: battery: it is charging"}
    fp32["metrics"]["peak_memory_bytes"] |= {"parts": dict(PARTS), "transient_bytes": 250_000}
    return document


def page(document: dict[str, Any]) -> str:
    return render(PageData(document=document, quantiles_ms={}, provenance={}))


def part(html: str, name: str) -> str:
    """One section's HTML with its tags removed and white space folded."""
    found = re.search(rf'<section class="card" id="{name}".*?</section>', html, re.DOTALL)
    assert found, name
    return " ".join(re.sub(r"<[^>]+>", " ", found[0]).split())


def printed(document: dict[str, Any], width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    summary(document, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_conditions_are_told_by_device_and_by_result() -> None:
    said = part(page(everything()), "conditions")
    assert "hottest zone 45.0 to 49.0 °C before the runs, 55.0 to 59.0 °C behind them" in said
    assert "waited 3.3 min for it to cool" in said
    assert "3 runs did not count: disturbed (2 of them); gate_timeout: skin 44.0 °C after 10 min (1 of them)" in said
    assert "enrolled at rest, a burn-in block" in said
    assert "set, and put back afterwards: governor performance; not set: airplane (only Android has it)" in said
    assert "random within each block, by seed 4711" in said
    assert "fp32 .pte 45.0 to 49.0 → 55.0 to 59.0 °C 50 s 0 +1.0 % 98 % at 2.40 GHz 2: 90 %, 3: 10 % 0.25" in said
    assert "freq_unstable the processor's clock changed during the run 1 result" in said.replace("&#39;", "'")
    assert 'title="more than ±6.0 % spoils a run"' in page(everything())


def test_what_was_not_read_is_a_dash_with_its_reason() -> None:
    document = everything()
    for found in (r["conditions"] for r in document["results"]):
        found |= {key: {"absent": f"no {key} here"} for key in ("temperature_c", "clocks", "cpus", "load", "sentinel")}
    html = page(document)
    for key in ("temperature_c", "clocks", "cpus", "load", "sentinel"):
        assert html.count(f'title="no {key} here">–</td>') == 2
    assert "no temperature_c here" in part(html, "conditions")


def test_the_terminal_and_markdown_tell_conditions_and_caveats_in_a_line_each() -> None:
    for text in (printed(everything()), markdown(everything())):
        line = next(line for line in text.splitlines() if "hottest zone 45.0" in line)
        assert "waited 3.3 min for it to cool; enrolled at rest, a burn-in block" in line
        assert "3 runs did not count: disturbed (2 of them)" in text
        assert "set, and put back afterwards: governor performance" in text
        assert re.search(r"freq\\?_unstable: the processor's clock changed during the run \(int8 \.pte\)", text)


@pytest.mark.parametrize("of", ["page", "text"])
def test_every_absent_number_has_its_reason(of: str) -> None:
    document = metered(everything())
    text = page(document) if of == "page" else printed(document)
    for reason in ("no usable meter: battery: it is charging", "gate_timeout: skin 44.0 °C after 10 min",
                   "cold_loads: 0"):  # fmt: skip
        assert reason in text, reason
    if of == "page":
        assert "No curve: int8 .pte: gate_timeout: skin 44.0 °C after 10 min." in part(text, "sustained")
        assert "No profile: int8 .pte: the lite interpreter has no profile." in part(text, "operators")
        assert "No energy: int8 .pte: no usable meter: battery: it is charging." in part(text, "energy")
        assert "other" not in text or "the rest: no peak told" in text


def test_energy_has_its_meter_idle_gross_period_and_uncertainty() -> None:
    said = part(page(metered(everything())), "energy")
    assert "fp32 .pte 2.10 mJ ±0.05 3.40 mJ 2.10 W ±0.05 1.50 W 1.20 % rapl 0.100 s 5 of 30 s * package-0" in said
    assert 'title="not used: idle changed by 9 % (2)"' in page(metered(everything()))


def test_a_sustained_run_has_its_curve_its_ends_and_the_time_to_throttle() -> None:
    html = page(everything())
    assert "fp32 .pte 1.00 ms 1.50 ms ±0.01 1.5× 3.0 min" in part(html, "sustained")
    assert '"kinds":[{"key":"latency_ms","name":"latency","unit":"ms"}' in html
    assert '"unit":"GHz"' in html
    assert "sustained latency minute1" in part(html, "table")
    assert "sustained latency end" not in html, "it is the value itself"


def test_a_device_that_never_throttled_says_for_how_long_it_was_watched() -> None:
    document = everything()
    document["results"][0]["metrics"]["throttle_after_s"] = {"absent": "it did not throttle in 10 minutes"}
    assert "1.5× it did not throttle in 10 minutes" in part(page(document), "sustained")


def test_operators_have_shares_and_say_what_the_tracer_cost() -> None:
    said = part(page(everything()), "operators")
    assert "3 operators · 1.05 ms with the tracer, 1.00 ms without; the operators account for 95 %" in said
    assert "delegate call delegate call 800 µs 80.0 % 1 Convolution (NHWC) inside delegate 700 µs 70.0 % 4" in said
    assert "What goes on inside a delegate is part of its call’s time" in said


def test_a_long_profile_is_cut_on_the_page_and_says_so() -> None:
    document = everything()
    document["results"][0]["operators"] *= 50
    said = part(page(document), "operators")
    assert "110 shorter ones are not shown" in said
    assert said.count("delegate call delegate call") == 14, "of the first 40 rows"


def test_peak_memory_is_stacked_by_part_and_a_missing_part_says_why() -> None:
    html = page(metered(everything()))
    bar = re.search(r'title="(model file[^"]*)"', html)
    assert bar and bar[1] == (
        "model file 1.00 MB, packed weights 2.00 MB, planned buffers 500 KB, the rest: no peak told, "
        "while loading only 250 KB"
    )
    pieces = re.findall(r'class="piece" style="left:([\d.]+)%;width:([\d.]+)%', html)
    assert len(pieces) == 4
    for (left, width), (following, _) in itertools.pairwise(pieces):
        assert float(following) == pytest.approx(float(left) + float(width), abs=0.02)


def test_what_nobody_asked_for_has_no_section() -> None:
    html = page(everything(plan={}))
    silent = "Latency, Why faster or not, Time per operator, Energy, Under sustained load"
    assert f"Left out, with nothing to say: {silent}." in html
    text = printed(everything(plan={}))
    assert "sustained latency, time to throttle: sustained_minutes not asked for" in text
    assert "energy, power: energy: off" in text


# -- simulated ---------------------------------------------------------------------------------------------------------


BANNER = "SIMULATED DEVICE: no number"


def test_a_simulated_page_says_so_first_and_in_every_title() -> None:
    html = page(everything("sim://pi5-fan?seed=1"))
    body = html[html.index("<main") :]
    assert body.index(f"{BANNER} on this page was measured") < body.index("<h1>")
    titles = re.findall(r'<h2 id="[a-z]+-title">(.*?)</h2>', html)
    assert len(titles) > 5
    assert all(title.endswith('<span class="tag">simulated</span>') for title in titles)
    assert "<title>simulated: made-up" in html


def test_a_measured_page_says_nothing_of_it() -> None:
    assert "SIMULATED" not in page(everything())
    assert not re.search(r"<h2[^>]*>.*simulated", page(everything()))
    assert "imulated" not in printed(everything()) + markdown(everything())


def test_terminal_markdown_pick_and_card_say_it_first() -> None:
    document = everything("sim://pi5-fan?seed=1")
    assert printed(document).startswith(f"{BANNER} below was measured\nmade-up (simulated): ")
    assert markdown(document).startswith(f"> **{BANNER} below was measured**\n\n### made-up (simulated)")
    assert pick_lines(document)[0] == f"{BANNER} below was measured"
    result = document["results"][0]
    shipped = {"input": "default", "file": "a.pte", "artifact": {"sha256": "0" * 64}}
    manifest = {"file": "a.pte", "files": [shipped], "experiment": "made-up", "label": None, "result": result,
                "results": [result], "pick": {"probability": 0.9, "binding": None}}  # fmt: skip
    card = model_card(manifest, document)
    assert card.startswith(f"> **{BANNER} in this card was measured**")
    assert "Simulated on `board`" in card
    assert "measured on 2026" not in card


def test_where_only_one_device_is_simulated_the_banner_names_it() -> None:
    document = everything()
    document["results"][1] |= {"simulated": True, "device": "sim://x"}
    assert "SIMULATED DEVICE: the numbers of sim://x were not measured" in page(document)


# -- hostile -----------------------------------------------------------------------------------------------------------


def hostile() -> dict[str, Any]:
    document = copy.deepcopy(metered(everything()))
    fp32 = document["results"][0]
    for operator in fp32["operators"]:
        operator |= {"name": EVIL, "kind": EVIL}
    fp32["metrics"]["energy_j"] |= {"source": EVIL, "rails": [EVIL]}
    fp32["metrics"]["peak_memory_bytes"]["parts"]["other"] = {"absent": EVIL}
    found = fp32["conditions"]
    found["prepared"] = {"set": {EVIL: EVIL}, "not_set": [{"setting": EVIL, "reason": EVIL}]}
    found["redone"] = {"runs": 1, "reasons": [{"reason": EVIL, "runs": 1}]}
    found["temperature_c"]["sensor"] = EVIL
    found |= {"clocks": {"absent": EVIL}, "load": {"absent": EVIL}}
    document["results"][1] |= {"sustained": {"absent": EVIL}, "operators": {"absent": EVIL}, "caveats": [EVIL]}
    document["results"][1]["metrics"]["energy_j"] = {"absent": EVIL}
    return document


def test_hostile_texts_are_escaped_in_every_new_section() -> None:
    html = page(hostile())
    assert html.count("<script") == page(metered(everything())).count("<script")
    assert "<img" not in html
    assert "\u202e" not in html
    assert "\u202e" not in printed(hostile())


def test_a_device_s_temperature_spans_all_its_results() -> None:
    document = everything()
    document["results"][1]["conditions"]["temperature_c"]["before"] = [41.0, 42.0]
    assert "hottest zone 41.0 to 49.0 °C before the runs" in section.told(view(document))[0]


def test_devices_keep_their_own_lines() -> None:
    document = everything()
    other = copy.deepcopy(document["results"][1]) | {"device": "pi5", "device_id": "x"}
    other["conditions"] |= {"burn_in": False, "enrolled": False}
    document["results"].append(other)
    lines = section.told(view(document))
    assert list(dict.fromkeys(line.partition(":")[0] for line in lines)) == ["board", "pi5"]
    assert [line.partition(":")[0] for line in lines if "not enrolled, no burn-in block" in line] == ["pi5"]
