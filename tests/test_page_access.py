"""Who reads the page: with a keyboard, a screen reader, a phone, in the dark, on paper.

The page is a made-up one with every section there is (benchmarks/page_scale.py)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page_scale import page_data
from harness.interfaces import PageData
from harness.report.page import render
from tests.browser_kit import chromium, opened

CHARTS = ("pareto-chart", "history-chart", "latency-chart", "sustained-chart", "detail-latency", "detail-sustained")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def troubled() -> PageData:
    """Everything, and among it what failed, has caveats or no number."""
    data = page_data(3, 2, 12, seed=3)
    document = copy.deepcopy(dict(data.document))
    for result in document["results"]:
        result["operators"] = result["operators"][:3]
    for result, status in zip(document["results"][-3:], ("failed", "invalid", "skipped"), strict=True):
        result |= {"status": status, "reason": "it broke " * 150, "metrics": {}, "why": None}
        result |= {key: {"absent": "it broke"} for key in ("sustained", "operators", "profile")}
    document["results"][1]["caveats"] = ["noisy", "drift"]
    document["results"][1]["metrics"]["energy_j"] = {"absent": "no usable meter"}
    assert data.comparison and data.history
    comparison = copy.deepcopy(dict(data.comparison)) | {"verdict": "worse"}
    outcomes = ("worse", "worse", "better", "missing", "incomparable", "inconclusive")
    for row, outcome in zip(comparison["comparisons"], outcomes, strict=False):
        row |= {"outcome": outcome, "reason": f"why it is {outcome}", "confirmed": True}
    return PageData(
        document=document,
        quantiles_ms=data.quantiles_ms,
        provenance={"YAML": "a: 1\nb: 2", "Versions": {"torch": "2"}},
        comparison=comparison,
        history=data.history,
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render(troubled())


@pytest.fixture
def tab(browser: Any, html: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Parametrized indirectly with the width and the colour scheme."""
    width, scheme = getattr(request, "param", (1280, "light"))
    with opened(browser, html, tmp_path, width, color_scheme=scheme) as page:
        page.locator("#detail").scroll_into_view_if_needed()
        page.wait_for_selector("#detail-latency .main-svg")
        yield page


LOOKS = [(1280, "light"), (360, "dark")]


@pytest.mark.parametrize("tab", LOOKS, indirect=True)
def test_axe_finds_no_serious_violation(tab: Any) -> None:
    axe = pytest.importorskip("axe_playwright_python", reason="pip install axe-playwright-python")
    for summary in tab.locator("main details:not([open]) > summary").all():
        if summary.is_visible():
            summary.click()
    tab.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    found = tab.evaluate(
        "async () => (await axe.run()).violations.map(v => [v.impact, v.id, "
        "v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary.slice(0, 300))])"
    )
    assert [one for one in found if one[0] in ("serious", "critical")] == []


@pytest.mark.parametrize("tab", [(360, "light")], indirect=True)
def test_a_phone_scrolls_in_one_direction_only(tab: Any) -> None:
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    tab.locator("#history details summary").click()
    tab.locator("#comparison details summary").click()
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360


def test_every_control_is_reached_by_the_tab_key_and_shows_that_it_has_the_focus(tab: Any) -> None:
    wanted = set(tab.evaluate(
        "() => [...document.querySelectorAll('main :is(select, input, button, summary, a[href], [tabindex])')]"
        ".filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0)"
        ".map((e, i) => (e.dataset.nth = i, String(i)))"
    ))  # fmt: skip
    tab.evaluate("() => { document.activeElement.blur(); window.scrollTo(0, 0); }")
    reached, unmarked = set(), []
    for _ in range(len(wanted) + 60):
        tab.keyboard.press("Tab")
        nth, style, html = tab.evaluate(
            "() => { const e = document.activeElement, s = getComputedStyle(e);"
            "return [e.dataset.nth ?? '', s.outlineStyle + ' ' + s.outlineWidth, e.outerHTML.slice(0, 80)]; }"
        )
        reached.add(nth)
        if nth and (style.startswith("none") or style.endswith(" 0px")):
            unmarked.append(html)
    assert wanted - reached == set()
    assert unmarked == []


def test_charts_have_words_and_history_has_a_table_beside_its_chart(tab: Any) -> None:
    for chart in CHARTS:
        box = tab.locator(f"#{chart}")
        assert box.get_attribute("role") == "img"
        assert any(figure in (box.get_attribute("aria-label") or "") for figure in "0123456789"), chart
    tab.locator("#history details summary").click()
    drawn = tab.evaluate("document.getElementById('history-chart').data[1].y")
    tab.uncheck("#history-relative")
    values = tab.evaluate("document.getElementById('history-chart').data[1].y")
    cells = tab.locator("#history-table tbody tr").all()
    assert [float(row.locator("td").nth(1).inner_text().split()[0]) for row in cells] == values
    assert [float(row.locator("td").nth(2).inner_text()) for row in cells] == drawn
    assert "the conditions changed: os" in cells[6].inner_text()


def test_nothing_that_is_a_control_is_printed_and_everything_else_is(tab: Any) -> None:
    on_screen = set(tab.evaluate("[...document.querySelectorAll('section.card')].map(s => s.id)"))
    tab.select_option("#page-device", "")
    tab.emulate_media(media="print", color_scheme="dark")
    tab.wait_for_timeout(200)
    shown = "s => [...document.querySelectorAll(s)].filter(e => e.checkVisibility()).map(e => e.id || e.outerHTML)"
    assert set(tab.evaluate(shown, "section.card")) == on_screen
    assert tab.evaluate(shown, "select, input, button.more, nav, .skip") == []
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(27, 36, 48)", "paper is light in the dark too"
    font = "document.getElementById('pareto-chart').layout.font.color"
    assert tab.evaluate(font) == "#1b2430", "and so are the charts"
    folded = tab.locator("#comparison details .scroll")
    assert folded.is_visible()
    assert "inconclusive" in tab.locator("#comparison").inner_text()
    tab.emulate_media(media="screen", color_scheme="dark")
    tab.wait_for_timeout(200)
    assert not folded.is_visible()
    assert tab.evaluate(font) == "#e4e9ef"
