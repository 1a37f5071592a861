"""A page of many results: thinned for drawing, never in its numbers; and small enough to keep and to open.

The targets (200 variants × 5 devices × 30 labels) are those of benchmarks/page_scale.py, which measures them; here the
same page is smaller, and what must not grow with it is counted."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.page_scale import METRICS, page_data
from harness.interfaces import PageData
from harness.report import history
from harness.report.page import render
from tests.browser_kit import chromium, opened

VARIANTS, DEVICES, RELEASES = 60, 3, 12
COUNT = VARIANTS * DEVICES


@pytest.fixture(scope="module")
def large() -> PageData:
    return page_data(VARIANTS, DEVICES, RELEASES)


@pytest.fixture(scope="module")
def html(large: PageData) -> str:
    return render(large)


@pytest.fixture(scope="module")
def tab(html: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium() as browser, opened(browser, html, tmp_path_factory.mktemp("page")) as page:
        yield page


def island(html: str, name: str) -> Any:
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html)
    assert found, name
    return json.loads(found[1])


def test_a_result_costs_few_bytes(html: str) -> None:
    more = render(page_data(VARIANTS + 20, DEVICES, RELEASES))
    assert (len(more) - len(html)) / (20 * DEVICES) < 14_000, "bytes a result; 15 MB for 1,000 of them"


def test_every_result_and_every_point_of_its_history_is_in_the_page(html: str, large: PageData) -> None:
    assert html.count("<a href=\"#detail\" data-open=") == COUNT
    series = island(html, "history-data")["series"]
    assert len(series) == COUNT * len(METRICS)
    assert large.history
    for packed, given in zip(series[:20], large.history["series"], strict=False):
        values = packed["v"] if isinstance(packed["v"], list) else [packed["v"]] * packed["k"]
        ratios = [a / p["value"] for a, p in zip(values, given["points"], strict=True)]
        assert max(ratios) / min(ratios) < 1.0002, "one unit for the whole column"


def test_a_history_that_is_too_long_keeps_its_newest_releases_and_says_so(
    large: PageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_MOST_POINTS", COUNT * len(METRICS) * 5)
    page = render(large)
    data = island(page, "history-data")
    assert [release["label"] for release in data["releases"]] == [f"v{n}" for n in range(8, 13)]
    assert f"{RELEASES - 5} older releases are not drawn" in page
    assert {at for s in data["series"] for at, *_ in s["c"]} == {2}, "changes keep their place"


def test_only_the_first_rows_are_laid_out_until_all_are_asked_for(tab: Any) -> None:
    rows = tab.locator("#results-table tbody tr:visible")
    assert rows.count() == 100
    line = tab.locator("#table .rest")
    assert " ".join(line.inner_text().split()) == f"100 of {COUNT} rows. Show all {COUNT}"
    line.locator("button").click()
    assert rows.count() == COUNT
    line.locator("button").click()
    assert rows.count() == 100


def test_sorting_and_filtering_take_all_rows_not_those_in_sight(tab: Any, large: PageData) -> None:
    tab.locator("#results-table thead button", has_text="latency p50").click()
    first = tab.locator("#results-table tbody tr:visible").first
    fastest = min(large.document["results"], key=lambda r: r["metrics"]["latency_ms"]["value"])
    assert first.locator("th").inner_text().split()[0] == fastest["variant"]
    last = large.document["results"][-1]["variant"]
    tab.fill("#table-filter", last)
    assert tab.locator("#results-table tbody tr:visible").count() == DEVICES
    tab.fill("#table-filter", "")
    assert tab.locator("#results-table tbody tr:visible").count() == 100


def test_a_device_is_shown_with_rows_that_were_beyond_the_first(tab: Any) -> None:
    tab.select_option("#page-device", "2")
    assert tab.locator("#results-table tbody tr:visible").count() == VARIANTS
    assert tab.locator("#operators details:visible").count() == 20
    shown = tab.evaluate("document.getElementById('pareto-chart').data.filter(t => t.ids).flatMap(t => t.ids)")
    assert sorted(shown) == list(range(2, COUNT, DEVICES))
    tab.select_option("#page-device", "")


def test_operators_beyond_the_first_are_written_when_one_is_opened(tab: Any, html: str, large: PageData) -> None:
    assert html.count('aria-label="Operators of ') == 20
    last = large.document["results"][-1]
    index = len(large.document["results"]) - 1
    tab.select_option("#detail-result", str(index))
    table = tab.locator("#detail-parts .low table")
    cells = table.locator("tbody tr").first.locator("th, td").all_inner_texts()
    assert cells[0] == last["operators"][0]["name"]
    assert float(cells[3].split()[0]) == pytest.approx(100 * last["operators"][0]["share"], abs=0.06)
    assert table.locator("tbody tr").count() == 40


def test_what_is_not_drawn_is_said(tab: Any) -> None:
    assert f"The fastest 100 of {COUNT} are drawn" in tab.locator("#latency-left").inner_text()
    assert f"40 of {COUNT} curves are drawn" in tab.locator("#sustained-left").inner_text()


def test_counts_are_of_all_comparisons_though_not_all_are_listed(large: PageData) -> None:
    assert large.comparison
    many = copy.deepcopy(dict(large.comparison)) | {"verdict": "worse"}
    for row in many["comparisons"]:
        row |= {"outcome": "worse", "ratio": 1.08}
    many["comparisons"][-1]["ratio"] = 3.0
    page = render(PageData(document=large.document, quantiles_ms={}, provenance={}, comparison=many))
    count = len(many["comparisons"])
    assert f"Worse than v29: {count} of {count} figures." in page
    assert f"The 500 largest of {count}" in page
    section = page[page.index('id="comparison"') :]
    assert section.index("3.000×") < section.index("1.080×"), "the largest change comes first"
