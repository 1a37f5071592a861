"""The real page in a real browser: charts, table, hostile texts; and what can be seen without one.

The document is `data/page_document.json`: made-up numbers in the shape of `harness report --json`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.errors import HarnessError
from harness.interfaces import PageData
from harness.report.page import render
from tests.browser_kit import chromium
from tests.session_kit import all_runs, build, documented, session
from tests.test_report_conditions import everything

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u202e<b>bold</b>"


def fixture(**changes: Any) -> PageData:
    stored = json.loads((Path(__file__).parent / "data" / "page_document.json").read_text("utf-8"))
    quantiles = {int(index): values for index, values in stored["quantiles_ms"].items()}
    return PageData(
        document=stored["document"] | changes, quantiles_ms=quantiles, provenance=copy.deepcopy(stored["provenance"])
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


class Tab:
    """One page opened from disk, with everything it complained of or asked the network for."""

    def __init__(self, browser: Any, html: str, folder: Path, width: int) -> None:
        file = folder / "page.html"
        file.write_text(html, encoding="utf-8")
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_function("document.getElementById('pareto-chart')?.data?.length > 0")
        self.file = file.as_uri()

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def run(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def points(self) -> list[tuple[float, float]]:
        found = self.run(
            "() => document.getElementById('pareto-chart').data.filter(t => t.customdata)"
            ".flatMap(t => t.x.map((x, i) => [x, t.y[i]]))"
        )
        return [tuple(point) for point in found]

    def front(self) -> set[tuple[float, float]]:
        """The drawn front's corners without its ends, which run to the plot's edge."""
        lines = self.run(
            "() => document.getElementById('pareto-chart').data.filter(t => t.name === 'front')"
            ".map(t => t.x.map((x, i) => [x, t.y[i]]).slice(1, -1))"
        )
        return {tuple(point) for line in lines for point in line}

    def column(self, name: str) -> list[str]:
        """The sort keys of a column of the big table, top to bottom."""
        keys: list[str] = self.run(
            "name => { const t = document.getElementById('results-table');"
            "const i = [...t.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith(name));"
            "return [...t.tBodies[0].rows].map(r => r.cells[i].dataset.sort); }",
            name,
        )
        return keys

    def head(self, name: str) -> Any:
        return self.page.locator("#results-table thead th", has_text=name).first


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    tabs: list[Tab] = []

    def opened(data: PageData | None = None, width: int = 1280) -> Tab:
        tabs.append(Tab(browser, render(data or fixture()), tmp_path, width))
        return tabs[-1]

    yield opened
    for tab in tabs:
        tab.page.close()
        assert tab.complaints == []
        assert [url for url in tab.requests if url != tab.file] == [], "the page asked for something"


@pytest.mark.parametrize("width", [390, 1280])
def test_page_opens_from_disk_without_complaint_request_or_sideways_scroll(open_page: Any, width: int) -> None:
    tab = open_page(width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.page.locator("h1").inner_text().startswith("Ship slim50-int8 as .pte on every device; sure: 93 %")
    for chart in ("pareto-chart", "latency-chart"):
        box = tab.page.locator(f"#{chart}")
        assert box.get_attribute("role") == "img"
        assert "student-int8" in (box.get_attribute("aria-label") or "")
        assert (box.locator("svg.main-svg").first.bounding_box() or {})["width"] <= width


def test_changing_either_axis_changes_the_points_and_the_words(open_page: Any) -> None:
    tab = open_page()
    before, words = tab.points(), tab.page.locator("#pareto-chart").get_attribute("aria-label")
    tab.page.select_option("#pareto-x", "size_bytes")
    after_x = tab.points()
    tab.page.select_option("#pareto-y", "peak_memory_bytes")
    after_y = tab.points()
    assert [p[0] for p in before] != [p[0] for p in after_x]
    assert [p[1] for p in before] == [p[1] for p in after_x]
    assert [p[1] for p in after_x] != [p[1] for p in after_y]
    now = tab.page.locator("#pareto-chart").get_attribute("aria-label")
    assert "file size across, peak memory up" in now
    assert now != words


def test_the_drawn_front_is_what_nothing_beats_in_any_direction(open_page: Any) -> None:
    tab = open_page()
    tab.page.select_option("#page-device", "0")
    sign = {"latency_ms": 1, "throughput_ips": -1, "accuracy_drop": 1, "accuracy": -1}
    for x, y in (("latency_ms", "accuracy_drop"), ("latency_ms", "accuracy"), ("throughput_ips", "accuracy_drop")):
        tab.page.select_option("#pareto-x", x)
        tab.page.select_option("#pareto-y", y)
        points = tab.points()
        good = {point: (sign[x] * point[0], sign[y] * point[1]) for point in points}
        expected = {p for p in points if not any(_beats(good[other], good[p]) for other in points)}
        assert tab.front() == expected, (x, y)
        assert 1 < len(expected) < len(points)


def _beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a != b and all(left <= right for left, right in zip(a, b, strict=True))


def test_device_filter_and_log_switch_redraw_the_chart(open_page: Any) -> None:
    tab = open_page()
    both = len(tab.points())
    tab.page.select_option("#page-device", "1")
    assert 0 < len(tab.points()) < both
    assert tab.run("document.getElementById('pareto-chart').layout.xaxis.type") == "log"
    tab.page.uncheck("#pareto-log-x")
    assert tab.run("document.getElementById('pareto-chart').layout.xaxis.type") == "linear"
    assert tab.page.locator("#pareto-log-y").is_disabled(), "a drop of 0 or less has no logarithm"


def test_one_switch_shows_one_device_in_every_section(open_page: Any) -> None:
    tab = open_page()
    everywhere = tab.page.locator("h1")
    assert everywhere.is_visible()
    assert not tab.page.locator(".answer").first.is_visible()
    tab.page.select_option("#page-device", "1")
    assert not everywhere.is_visible()
    answer = tab.page.locator(".answer:visible")
    assert answer.inner_text().startswith("Ship slim50-int8 as .pte on pi5: ")
    assert answer.inner_text().endswith("sure: 94 %")
    local = [r for r in fixture().document["results"] if r["device"] == "local"]
    labels = tab.page.locator("main table:not(#results-table) tbody tr:visible th").all_inner_texts()
    assert any("@pi5" in label for label in labels)
    assert not [label for label in labels if "@local" in label]
    assert tab.page.locator("#table-count").inner_text() == f"{31 - len(local)} of 31 results"
    ticks = tab.run("document.getElementById('latency-chart').layout.yaxis.ticktext")
    assert ticks and not [tick for tick in ticks if "@local" in tick]
    assert "@pi5" in tab.page.locator("#detail-result option:checked").inner_text()
    tab.page.select_option("#page-device", "")
    assert everywhere.is_visible()
    assert tab.page.locator("#table-count").inner_text() == "31 results"


def test_one_result_is_shown_with_what_each_section_says_of_it(open_page: Any) -> None:
    tab = open_page()
    tab.page.locator("#results-table tbody a", has_text="slim50").first.click()
    chosen = tab.page.locator("#detail-result option:checked").inner_text()
    index = int(tab.page.locator("#detail-result").input_value())
    assert fixture().document["results"][index]["variant"] in chosen
    assert tab.run("document.getElementById('detail-latency').data[0].x.length") == 101
    said = tab.page.locator("#detail-parts").inner_text()
    for head in ("Its numbers", "Why faster or not", "Memory and size"):
        assert head in said
    in_table = tab.run("i => [...document.querySelectorAll(`#results-table tr[data-row='${i}'] .num`)]"
                       ".map(c => c.firstChild.textContent).filter(t => t !== '–')", index)  # fmt: skip
    for number in in_table:
        assert number in said
    assert tab.run("document.querySelectorAll('#detail [data-row]').length") == 0, "a copy is not a row of its own"


def test_a_click_on_a_point_opens_its_result(open_page: Any) -> None:
    tab = open_page()
    tab.run("() => document.getElementById('pareto-chart').emit('plotly_click', {points: [{id: 7}]})")
    assert tab.page.locator("#detail-result").input_value() == "7"
    ids = tab.run("document.getElementById('pareto-chart').data.filter(t => t.ids).flatMap(t => t.ids)")
    assert 7 in ids


def test_latency_can_be_seen_as_ranges_and_as_curves(open_page: Any) -> None:
    tab = open_page()
    traces = "document.getElementById('latency-chart').data.filter(t => t.x.length === 101).length"
    assert tab.run(traces) == 0
    tab.page.select_option("#latency-view", "ecdf")
    assert tab.run(traces) == len(fixture().quantiles_ms)


def test_table_sorts_by_click_and_key_and_keeps_the_unmeasured_last(open_page: Any) -> None:
    tab = open_page()
    original = tab.column("latency p50")
    tab.head("latency p50").locator("button").click()
    rising = tab.column("latency p50")
    numbers = [float(v) for v in rising if v]
    assert rising != original
    assert numbers == sorted(numbers)
    assert rising[len(numbers) :] == [""] * (len(rising) - len(numbers))
    assert "" in rising
    assert tab.head("latency p50").get_attribute("aria-sort") == "ascending"
    tab.page.keyboard.press("Enter")  # the heading is a button and has the focus
    falling = tab.column("latency p50")
    assert [float(v) for v in falling if v] == numbers[::-1]
    assert falling[-1] == ""
    assert tab.head("latency p50").get_attribute("aria-sort") == "descending"
    tab.head("variant").locator("button").click()
    assert tab.column("variant") == sorted(tab.column("variant"))
    assert tab.head("latency p50").get_attribute("aria-sort") == "none"


def test_table_filters_rows_and_chooses_columns(open_page: Any) -> None:
    tab = open_page()
    tab.page.fill("#table-filter", "slim50-int8 PI5")
    assert tab.page.locator("#results-table tbody tr:visible").count() == 1
    assert tab.page.locator("#table-count").inner_text() == "1 of 31 results"
    assert not tab.head("MACs").is_visible()
    tab.page.locator(".columns summary").click()
    tab.page.locator("#table-columns label", has_text="MACs").locator("input").check()
    assert tab.head("MACs").is_visible()


def hostile() -> PageData:
    data = fixture(experiment=EVIL, label=EVIL)
    document = copy.deepcopy(dict(data.document))
    for result in document["results"]:
        for key in ("device", "runtime", "exporter"):
            result[key] = result[key] and EVIL + result[key]
        result["variant"] = f"<a href='javascript:window.pwned=3'>{result['variant']}</a>%{{x}}"
        result["reason"] = result["reason"] and EVIL
        result["caveats"] = [EVIL]
        result["steps"] = [{"step": EVIL, "seconds": 1.0}]
        if result["why"] and "text" in result["why"]:
            cause = {"cause": EVIL, "value": 1, "unit": EVIL, "text": EVIL}
            result["why"] |= {"text": EVIL, "verdict": EVIL, "explains": [cause]}
        for metric in result["metrics"].values():
            metric.update({"absent": EVIL} if "absent" in metric else {})
            if "name" in metric:
                metric["name"] = EVIL
    entry = {k: document["results"][3][k] for k in document["front"][0] if k != "probability"} | {"probability": 0.5}
    pick = entry | {"runner_up": dict(entry), "binding": EVIL}
    document |= {"front": [entry], "picks": [pick], "pick": pick, "objectives_dropped": {EVIL: {EVIL: EVIL}}}
    return PageData(
        document=document, quantiles_ms=data.quantiles_ms, provenance={EVIL: {EVIL: [EVIL]}, "Notice": EVIL}
    )


def test_hostile_texts_are_shown_and_never_run(open_page: Any) -> None:
    tab = open_page(hostile())
    assert "<script>window.pwned=1</script>" in tab.page.locator(".where").inner_text()
    assert "\\u202e" in tab.page.locator(".where").inner_text(), "an override that reorders text must be visible"
    shown = tab.run(
        "() => { const box = document.getElementById('pareto-chart');"
        "Plotly.Fx.hover(box, [{curveNumber: box.data.findIndex(t => t.customdata), pointNumber: 0}]);"
        "return box.querySelector('.hoverlayer').textContent; }"
    )
    assert "<a href='javascript:window.pwned=3'>fp32</a>%{x}" in shown
    assert "<b>bold</b>" in shown
    texts = tab.run("document.getElementById('pareto-chart').data.flatMap(t => t.customdata || [])")
    assert [text for text in texts if "on the front  <b>50 %</b>" in text], "the probability is in the hover text"
    tab.page.select_option("#latency-view", "ecdf")
    for chart in ("pareto-chart", "latency-chart"):
        assert tab.run("id => document.getElementById(id).querySelectorAll('svg a').length", chart) == 0
    assert tab.run("document.querySelectorAll('img, iframe, a[href^=javascript]').length") == 0
    assert tab.run("document.querySelectorAll('script:not([type])').length") == 2, "plotly's and ours"
    assert tab.run("window.pwned") is None


def test_page_stays_within_its_width_with_long_names_on_a_phone(open_page: Any) -> None:
    data = fixture(label="L" * 300)
    document = copy.deepcopy(dict(data.document))
    for result in document["results"]:
        result["variant"] = result["variant"] + "x" * 120
        result["reason"] = result["reason"] and "r" * 5000
    document |= {"front": [], "picks": [], "pick": None}
    tab = open_page(PageData(document=document, quantiles_ms=data.quantiles_ms, provenance=data.provenance), width=360)
    assert tab.run("document.documentElement.scrollWidth") <= 360


def explained() -> PageData:
    """Three variants, one trained thrice, chosen on validation."""
    s = session(
        [build("fp32"), *(build("slim", seed=seed) for seed in (0, 1, 2)), build("int8")],
        variants=[{"name": "fp32"}, {"name": "slim", "control": "int8"}, {"name": "int8"}],
        select_on="validation",
    )
    counts = {0: 390, 1: 396, 2: 384}
    runs = all_runs(s, scores={("slim", seed): np.arange(400) < n for seed, n in counts.items()})
    found = documented(s, runs)
    known = {"predicted_speedup": 4.0, "measured_speedup": 1.4, "ci95": [1.3, 1.5], "verdict": "slower than predicted"}
    causes = [{"cause": "memory_bound", "value": 0.62, "unit": "fraction", "text": "62 % of MACs <wait> for memory"}]
    found["results"][1]["why"] = known | {"explains": causes, "text": "1.4×, predicted 4.0×: 62 % of MACs <wait>"}
    found["results"][1]["steps"] = [{"step": "prune", "seconds": 0.5}, {"step": "finetune", "seconds": 200.0}]
    return PageData(document=found, quantiles_ms={}, provenance={})


def test_why_a_variant_is_as_fast_as_it_is_has_its_place_on_the_page(open_page: Any) -> None:
    tab = open_page(explained())
    section = tab.page.locator("#why")
    row = section.locator(".gains tbody tr").first
    assert row.locator("th").inner_text().startswith("slim .pte seed 0")
    assert row.locator(".num").inner_text().replace("\n", " ") == "1.40× ±0.10 predicted 4.0×"
    assert row.locator("li").all_inner_texts() == ["62 % of MACs <wait> for memory"]
    bar, mark = row.locator(".part").bounding_box(), row.locator(".mark").bounding_box()
    assert bar and mark and bar["x"] + bar["width"] < mark["x"], "measured is less than predicted"
    assert "Not compared: fp32 .pte seed 0: this is the reference." in section.inner_text()
    assert "prune 0.50 s, finetune 3.3 min in all 3.3 min" in section.locator(".facts").inner_text().replace("\n", " ")
    assert "1.4×, predicted 4.0×" in tab.page.locator("#results-table td.prose").all_inner_texts()[1]


def test_the_spread_over_seeds_stands_apart_from_the_interval_and_the_front_takes_the_mean(open_page: Any) -> None:
    tab = open_page(explained())
    cells = tab.page.locator("#results-table small.seeds").all_inner_texts()
    assert cells[0] == "97.5 sd 1.5 (3 seeds)"
    assert not [text for text in cells if "±" in text]
    tab.page.select_option("#pareto-y", "accuracy")
    assert len(tab.points()) == 3, "slim is one point, not one per seed"
    assert 97.5 in [y for _, y in tab.points()]


def test_what_was_chosen_on_validation_says_so_in_the_headline() -> None:
    data = explained()
    document = dict(data.document)
    slim = document["results"][1]
    cell = {k: slim[k] for k in ("variant", "seed", "exporter", "backend", "input", "device", "device_id", "threads",
                                 "cpus", "context")}  # fmt: skip
    document["pick"] = cell | {"probability": 0.9, "runner_up": None, "binding": "validation_drop <= 0.01"}
    page = render(PageData(document=document, quantiles_ms={}, provenance={}))
    assert "sure: 90 %; chosen on validation</h1>" in page
    assert "the test split only reports" in page
    assert "Binding constraint: validation_drop &lt;= 0.01" in page


@pytest.mark.parametrize("width", [390, 1280])
def test_the_curves_of_sustained_load_are_drawn_and_show_what_is_asked_for(open_page: Any, width: int) -> None:
    tab = open_page(PageData(document=everything(), quantiles_ms={}, provenance={}), width=width)
    assert tab.run("document.documentElement.scrollWidth") <= width
    curve = "document.getElementById('sustained-chart').data.map(t => [t.name, t.x.length, t.y[0], t.y[199]])"
    assert tab.run(curve) == [["fp32 .pte", 200, 1, 1.5]]
    tab.page.select_option("#sustained-kind", "temperature_c")
    assert tab.run(curve) == [["fp32 .pte", 200, 50, 69.9]]
    tab.page.select_option("#sustained-kind", "clock_khz")
    assert tab.run(curve) == [["fp32 .pte", 200, 2.4, None]], "no reading is a gap"
    label = tab.page.locator("#sustained-chart").get_attribute("aria-label")
    assert label == "clock of 1 results over the minutes of load: fp32 .pte from 2.4 to 2.4 GHz."
    profile = tab.page.locator("#operators details")
    assert not profile.locator("table").is_visible()
    profile.locator("summary").click()
    assert profile.locator("tbody tr").count() == 3
    assert tab.run("document.documentElement.scrollWidth") <= width


def test_page_is_one_small_file_that_is_the_same_each_time() -> None:
    first = render(fixture())
    assert first == render(fixture())
    assert len(first.encode()) < 6_000_000
    assert first.count("plotly.js v") == 1
    assert "default-src 'none'" in first
    assert "<link" not in first


def test_page_does_not_grow_with_the_number_of_runs() -> None:
    document = copy.deepcopy(dict(fixture().document))
    for result in document["results"]:
        result["runs"] = ["0123456789abcdef"] * 10_000
    data = fixture()
    many = PageData(document=document, quantiles_ms=data.quantiles_ms, provenance=data.provenance)
    assert len(render(many)) == len(render(data))


def test_sections_with_nothing_to_say_are_named_and_not_shown() -> None:
    data = fixture()
    document = copy.deepcopy(dict(data.document))
    for result in document["results"]:
        result["metrics"] = {k: v for k, v in result["metrics"].items() if not k.endswith("_bytes")}
    page = render(PageData(document=document, quantiles_ms={}, provenance={}))
    assert "Latency, Time per operator, Memory and size, Energy, Under sustained load, Conditions." in page
    assert 'id="latency"' not in page


@pytest.mark.parametrize("results", ["none", "all failed"])
def test_page_of_a_session_in_which_nothing_worked_says_so(results: str) -> None:
    document = copy.deepcopy(dict(fixture().document)) | {"front": [], "picks": [], "pick": None}
    for result in document["results"]:
        result |= {"status": "failed", "reason": "no space left on the device", "metrics": {}}
    if results == "none":
        document["results"] = []
    page = render(PageData(document=document, quantiles_ms={}, provenance={}))
    said = {"none": "Nothing was planned", "all failed": "Commonest reason (31 of 31): no space left on the device"}
    assert said[results] in page
    assert 'id="pareto"' not in page


def test_an_unmeasured_number_is_a_dash_with_its_reason() -> None:
    page = render(fixture())
    assert 'title="output check failed"><bdi>–</bdi>' in page
    assert "energy: off" in page


def test_why_there_is_no_pick_comes_from_the_caller_when_known() -> None:
    data = fixture(pick=None, picks=[])
    page = render(
        PageData(document=data.document, quantiles_ms={}, provenance={"No pick": "accuracy_drop fails at 0.03"})
    )
    assert "<h1>accuracy_drop fails at 0.03</h1>" in page


def test_a_section_that_breaks_is_one_message_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SECTIONS, "broken", "test_page:Broken")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(HarnessError, match="section 'broken' cannot be made"):
        render(fixture())


class Broken:
    title = "Broken"

    def render(self, data: PageData) -> str | None:
        raise KeyError("anything")
