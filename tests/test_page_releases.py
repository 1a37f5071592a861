"""The page's comparison with the baseline and its history: verdict first, reasons, change points, hostile texts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page_scale import METRICS, page_data
from harness.analyze import compare, history
from harness.interfaces import PageData
from harness.report.page import render
from harness.types import Cell
from tests.browser_kit import chromium, opened

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=2>\u202e<b>bold</b>"
CELL = {"seed": 0, "exporter": "executorch", "backend": "xnnpack", "input": "default", "threads": 1, "cpus": "any",
        "context": "host"}  # fmt: skip
BASE, HEAD = "v29", "v30"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def cell(variant: str = "v000", device: int = 0) -> dict[str, Any]:
    return CELL | {"variant": variant, "device": f"phone{device}", "device_id": f"0000000{device}"}


def row(outcome: str, metric: str = "latency_ms", **changes: Any) -> dict[str, Any]:
    """One comparison as analyze writes it, so that the page reads what there really is."""
    found = compare.Compared(
        cell=Cell(variant="v000", device_id="00000000", **CELL), device="phone0", metric=metric, design="paired",
        base=2.0, head=2.104, ratio=1.052, ci95=(1.031, 1.073), outcome=outcome, threshold=0.02,  # type: ignore[arg-type]
        minimum_detectable=0.031, moved=(compare.Moved(factor="delegated_fraction", base="1.0", head=None),),
    )  # fmt: skip
    return compare.as_json([found])[0] | changes


def point(label: str | None, value: float | None, **changes: Any) -> history.Point:
    known: dict[str, Any] = {"sessions": ("s",), "created_utc": "2026-01-01T00:00:00Z", "runs": 5, "segment": 0}
    return history.Point(label=label, value=value, relative=value and value / 4, **(known | changes))


def series(points: list[history.Point], changes: list[history.Change], **other: Any) -> dict[str, Any]:
    found = history.Series(
        cell=Cell(variant="v000", device_id="00000000", **CELL), device="phone0", metric="latency_ms",
        lower_is_better=True, points=tuple(points), changes=tuple(changes), normalised="fp32",
    )  # fmt: skip
    return history.as_json([found])[0] | other


STEP = [point(f"r{i}", 2.0 if i < 3 else 2.2, created_utc=f"2026-01-0{i + 1}T00:00:00Z") for i in range(6)]


Rows = list[dict[str, Any]]


def data(comparisons: Rows | None = None, of: Rows | None = None, **more: Any) -> PageData:
    compared = {"base": BASE, "head": HEAD, "verdict": "worse", "comparisons": comparisons} | more
    return PageData(
        document=page_data(2, 2, 1).document,
        quantiles_ms={},
        provenance={},
        comparison=compared if comparisons is not None else None,
        history={"experiment": "large", "series": of} if of is not None else None,
    )


def section(html: str, name: str) -> str:
    begin = html.index(f'<section class="card" id="{name}"')
    return html[begin : html.index("</section>", begin)]


def test_the_verdict_comes_first_and_stands_at_the_top_of_the_page_too() -> None:
    rows = [row("worse"), row("same", "size_bytes"), row("same", "load_ms"), row("missing", "energy_j")]
    html = render(data(rows))
    said = "Worse than v29: 1 of 4 figures; 1 missing."
    assert html.count(said) == 2
    assert html.index(said) < html.index('<section class="card"')
    assert 'The same, within what counts as a change: 2: ' in section(html, "comparison")


@pytest.mark.parametrize("verdict, says", [
    ("better", "Better than v29: 0 of 1 figures; 1 same"), ("same", "1 of 1 figures are the same"),
    ("inconclusive", "can be told for sure"), ("incomparable", "Not comparable with v29"),
    ("odd {x}", "Against v29: odd {x}, 0 of 1 figures"),
])  # fmt: skip
def test_each_verdict_has_its_sentence(verdict: str, says: str) -> None:
    html = render(data([row("same")], verdict=verdict))
    assert says.removesuffix("; 1 same") in html


def test_nothing_compared_is_not_said_to_be_well() -> None:
    html = render(data([], verdict="incomparable"))
    assert "Nothing could be compared with v29." in html


def test_a_worse_row_has_both_figures_the_interval_and_what_moved_with_it() -> None:
    html = section(render(data([row("worse", confirmed=True, reason="across os: A -> B")])), "comparison")
    for text in ("2.00 ms", "2.10 ms", "1.052×", "1.031 to 1.073", "<bdi>delegated_fraction</bdi>: <bdi>1.0</bdi> → "
                 "<bdi>not known</bdi>", "across os: A -&gt; B; confirmed by measuring again"):  # fmt: skip
        assert text in html
    assert 'data-row="0"' in html, "it belongs to a result of this page"


def test_reasons_are_told_once_for_all_that_share_them_and_inconclusive_tells_what_could_be_seen() -> None:
    rows = [row("incomparable", m, reason="os: A -> B") for m in ("latency_ms", "energy_j")]
    gone = {"variant": "gone", "device": "*", "device_id": None} | dict.fromkeys(("ratio", "ci95", "base", "head"))
    rows += [row("missing", "*", **gone, reason="not in the head"), row("inconclusive", reason="one run only")]
    html = section(render(data(rows)), "comparison")
    assert html.count("os: A -&gt; B") == 1
    assert "v000 .pte @phone0 (latency p50, energy)" in html
    assert ">gone .pte</p>" in html
    assert "3.1 %" in html and "one run only" in html


@pytest.mark.parametrize(
    ("passed", "within", "colour"), [(True, True, "ok"), (False, False, "failed"), (False, None, "invalid")]
)
def test_what_a_gate_said_stands_on_the_page_that_it_made(passed: bool, within: bool | None, colour: str) -> None:
    own = cell() | {"metric": "latency_ms", "reason": None}
    budget = own | {"unit": "ms", "bound": 40.0, "value": 38.0, "far": 39.0, "within": within, "better": "lower"}
    alarm = own | {"label": f"v7{EVIL}", "ratio": 1.1, "p_value": 1e-6, "confirmed": None}
    why = [] if passed else ["1 over budget", EVIL]
    html = render(data([row("same")], verdict="same", passed=passed, failures=why, budgets=[budget], alarms=[alarm]))
    said = "The gate passed." if passed else "The gate failed: 1 over budget; "
    assert html.index(said) < html.index('<section class="card"')
    listed = section(html, "comparison")
    assert f'<span class="status {colour}">' in listed and "v000: latency_ms at most 40.0 ms" in listed
    assert "Worse since an earlier release" in listed and "slower, unconfirmed" in listed
    assert "<img src=x" not in listed


def test_a_page_without_either_says_nothing_of_them() -> None:
    html = render(data())
    assert 'id="comparison"' not in html and 'id="history"' not in html
    assert "Against the baseline" not in html


def test_history_begins_with_what_changed_and_since_when() -> None:
    found = series(STEP, [history.Change(at=3, ratio=1.1, p_value=1e-6, worse=True)])
    html = render(data(of=[found]))
    assert "1 change for the worse and 0 for the better in 1 figures over 6 releases." in html
    listed = section(html, "history")
    assert "<bdi>r3</bdi> <small>after r2</small>" in listed
    assert "not measured again" in listed
    assert "latency p50 of v000 .pte @phone0, since r3." in html[: html.index('<section class="card"')]


def test_a_change_that_was_taken_back_is_listed_and_not_at_the_top_of_the_page() -> None:
    change = history.Change(at=3, ratio=1.1, p_value=1e-6, worse=True)
    html = render(data(of=[series([*STEP, point("r6", 2.0)], [change])]))
    assert "<bdi>r3</bdi> <small>after r2</small>" in section(html, "history")
    assert "since r3." not in html[: html.index('<section class="card"')]


@pytest.mark.parametrize("of", [[], [series([point("r0", None, absent="not reached")], [])]])
def test_a_history_without_any_value_is_left_out_by_name(of: list[dict[str, Any]]) -> None:
    html = render(data(of=of))
    assert 'id="history"' not in html
    assert "Over the releases" in html[html.index("Left out, with nothing to say") :]


def drawn(page: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = page.evaluate(
        "document.getElementById('history-chart').data.map(t => ({x: t.x, y: t.y, symbol: t.marker?.symbol}))"
    )
    return found


def test_the_chart_breaks_at_segments_and_hollows_what_is_not_judged(browser: Any, tmp_path: Path) -> None:
    points = [
        point("r0", 2.0), point("r1", 2.0, runs=2, left_out="2 runs only"),
        point("r2", None, absent="the device was not reached"),
        point("r3", 3.0, segment=1, began=("os", "runner")), point(None, 3.3, segment=1),
    ]  # fmt: skip
    points = [history.Point(**(vars(p) | {"created_utc": f"2026-01-0{i + 1}T00:00:00Z"})) for i, p in enumerate(points)]
    change = history.Change(at=4, ratio=1.1, p_value=0.0, worse=False, confirmed=False)
    with opened(browser, render(data(of=[series(points, [change])])), tmp_path) as page:
        page.uncheck("#history-relative")
        line, marks = drawn(page)
        assert line["y"] == [2, 2, None, None, 3, 3.3], "nothing joins what is not comparable"
        assert marks["symbol"] == ["circle", "circle-open", "circle", "circle"]
        shapes = page.evaluate("document.getElementById('history-chart').layout.shapes.map(s => [s.x0, s.line.dash])")
        assert shapes == [[2.5, "dot"], [3.5, "solid"]]
        page.locator("#history details summary").click()
        cells = page.locator("#history-table tbody tr").all_inner_texts()
        assert "not judged: 2 runs only" in cells[1]
        assert "–" in cells[2] and "the device was not reached" in cells[2]
        assert "the conditions changed: os, runner" in cells[3]
        assert "without a label" in cells[4] and "better since here: 1.100×, not confirmed" in cells[4]
        assert page.locator("#history-chart").get_attribute("aria-label") == (
            "latency p50 of v000 .pte over 5 releases from 2 to 3.3 ms. without a label, 2026-01-05T00:00:00Z: "
            "better since here: 1.100×, not confirmed. The table below has every point."
        )


def test_variant_figure_and_device_choose_the_series_and_the_page_switch_does_too(browser: Any, tmp_path: Path) -> None:
    made = page_data(3, 2, 5)
    assert made.history
    with opened(browser, render(made), tmp_path) as page:
        page.select_option("#history-variant", "2")
        page.select_option("#history-metric", label="energy")
        page.select_option("#page-device", "1")
        page.uncheck("#history-relative")
        number = (2 * 2 + 1) * len(METRICS) + METRICS.index("energy_j")
        expected = [p["value"] for p in made.history["series"][number]["points"]]
        assert drawn(page)[1]["y"] == pytest.approx(expected, rel=1e-4)
        page.select_option("#history-metric", label="file size")
        assert page.locator("#history-relative").is_disabled()
        assert page.locator("#history-said").inner_text() == "not divided by the reference"


def hostile() -> PageData:
    long = "L" * 300 + "😀\"'"
    moved = [{"factor": EVIL, "base": long, "head": EVIL}]
    outcomes = ("worse", "better", "inconclusive", "incomparable", "missing")
    rows = [row(outcome, reason=EVIL, unit=EVIL, variant=EVIL + long, moved=moved) for outcome in outcomes]
    said = {"began": (EVIL,), "absent": EVIL, "left_out": EVIL}
    points = [
        history.Point(**(vars(p) | said | {"label": f"<b>{i}</b>{EVIL}{long}", "segment": i // 3}))
        for i, p in enumerate(STEP)
    ]
    change = history.Change(at=4, ratio=1.1, p_value=0.0, worse=True, reason=EVIL)
    evil = series(points, [change], variant=EVIL + long, unit=EVIL, reason=EVIL)
    return data(rows, [evil], base=EVIL + long, head=long)


@pytest.mark.parametrize("width", [360, 1280])
def test_hostile_names_are_shown_stay_within_the_page_and_never_run(browser: Any, tmp_path: Path, width: int) -> None:
    with opened(browser, render(hostile()), tmp_path, width) as page:
        page.locator("#history details summary").click()
        page.locator("#comparison details summary").click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert "<b>bold</b>" in page.locator("#comparison").inner_text()
        assert "\\u202e" in page.locator("#comparison").inner_text(), "an override that reorders text must be visible"
        assert "\\u202e" in page.locator("#history-table").inner_text()
        page.evaluate(
            "() => Plotly.Fx.hover(document.getElementById('history-chart'), [{curveNumber: 1, pointNumber: 4}])"
        )
        assert "<b>4</b>" in page.locator("#history-chart .hoverlayer").text_content()
        assert page.evaluate("document.querySelectorAll('img, iframe, #history-chart a, #history b b').length") == 0
        assert page.evaluate("document.querySelectorAll('script:not([type])').length") == 2
        assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize("name", ["near_front", "robust_front", "tied_with"])
def test_what_the_front_cannot_tell_apart_is_said(name: str) -> None:
    made = data()
    document = dict(made.document)
    if name == "near_front":
        document[name] = [cell("v001") | {"probability": 0.12}]
        says = "they may be: v001 .pte @phone0 (12 %)"
    elif name == "robust_front":
        document[name] = [cell("v001") | {"device": "*", "device_id": "*", "probability": 0.7, "tied_with": ["v000"]}]
        says = '<bdi>v001 .pte</bdi><small class="tied">not to be told apart from v000</small>'
    else:
        document["front"] = [cell() | {"probability": 0.7, "tied_with": [cell("v001")]}]
        says = "not to be told apart from v001 .pte @phone0"
    assert says in render(PageData(document=document, quantiles_ms={}, provenance={}))
