"""The pages in a real browser: nothing requested, nothing broken, nothing wider than the window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium found on the path; install Debian's chromium to run the browser tests")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=program, args=list(FLAGS))
        yield opened
        opened.close()


def visit(browser: Any, file: Path, size: tuple[int, int]) -> tuple[Any, list[str], list[str]]:
    """The loaded page, what it wrote to the console as warnings or errors, and every address it asked for."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(file.as_uri(), wait_until="load")
    return page, complaints, requests


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ["report", "trace"])
def test_a_page_is_whole(browser: Any, request: pytest.FixtureRequest, name: str, size: str) -> None:
    file: Path = request.getfixturevalue(name)
    page, complaints, requests = visit(browser, file, SIZES[size])
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    widths = page.evaluate("[...document.images].map(image => image.complete ? image.naturalWidth : 0)")
    assert len(widths) >= 3
    assert min(widths) > 0
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]
    assert page.locator("h1").count() == 1
    assert all(page.locator("h2").nth(place).is_visible() for place in range(page.locator("h2").count()))
    page.close()


def test_tables_fit_a_desk(browser: Any, report: Path) -> None:
    page, _, _ = visit(browser, report, SIZES["desk"])
    hidden = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).length"
    )
    assert hidden == 0
    page.close()


def test_contents_lead_to_their_sections(browser: Any, report: Path) -> None:
    page, _, _ = visit(browser, report, SIZES["desk"])
    for link in page.locator("nav a").all():
        anchor = link.get_attribute("href")
        assert page.locator(f"section{anchor}").count() == 1
    page.close()


def test_print_shows_every_table(browser: Any, report: Path) -> None:
    page, _, _ = visit(browser, report, SIZES["desk"])
    page.emulate_media(media="print")
    assert page.locator("nav").first.is_hidden()
    heights = page.evaluate("[...document.querySelectorAll('details table')].map(table => table.offsetHeight)")
    assert all(height > 0 for height in heights)
    page.close()
