"""A headless Chromium for tests of pages: what a page complains of or asks the network for fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@contextmanager
def chromium() -> Iterator[Any]:
    """Skips where there is no browser."""
    if CHROMIUM is None:
        pytest.skip("no chromium here; apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, html: str, folder: Path, width: int = 1280, **options: Any) -> Iterator[Any]:
    """The page from disk, its charts drawn."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, **options)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url == file.as_uri() or complaints.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector("#pareto-chart .main-svg")  # wait_for_function would need 'unsafe-eval'
    try:
        yield page
    finally:
        page.close()
    assert complaints == []
