"""The report in a real browser: nothing logged, nothing fetched, the verdict within the frame."""

import html
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from posttrain.evaluate.report import render
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.gate import judge
from tests import samples

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FRAME = 384
"""Height of the dashboard's preview, in px."""

pytestmark = pytest.mark.slow
if CHROMIUM is None:
    warnings.warn(
        "NO CHROMIUM: the report is not looked at; apt-get install chromium", stacklevel=1
    )
    pytestmark = [
        pytest.mark.slow,
        pytest.mark.skip(reason="NO CHROMIUM: apt-get install chromium"),
    ]


@pytest.fixture(scope="module")
def page() -> str:
    evaluation = samples.evaluation(last="self_critique")
    gate = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),))
    outcomes = judge(evaluation, None, gate)
    histories = samples.histories("self_critique")
    return render(evaluation, histories, outcomes, samples.DATA, samples.LINEAGE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """A page that is open, and what it said and asked for so far."""

    page: Page
    console: list[str]
    requests: list[str]


@contextmanager
def opened(
    browser: Browser, file: Path, content: str, size: tuple[int, int], dark: bool = False
) -> Iterator[Seen]:
    """Load a page from a file; what it asks of the network is noted and refused."""
    file.write_text(content, encoding="utf-8")
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    seen = Seen(page, [], [])
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("pageerror", lambda error: seen.console.append(str(error)))

    def refuse(route: Route) -> None:
        seen.requests.append(route.request.url)
        route.abort()

    page.route(lambda url: not url.startswith("file:"), refuse)
    page.goto(file.as_uri())
    try:
        yield seen
    finally:
        context.close()


def framed(content: str, width: int, height: int) -> str:
    """As the dashboard shows it: in a sandboxed frame."""
    return (
        f'<body style="margin:0"><iframe sandbox="" style="border:0;display:block;width:{width}px;'
        f'height:{height}px" srcdoc="{html.escape(content, quote=True)}"></iframe>'
    )


@pytest.mark.parametrize("width", [1280, 390])
def test_the_console_stays_silent_and_nothing_is_fetched(
    browser: Browser, page: str, tmp_path: Path, width: int
) -> None:
    with opened(browser, tmp_path / "page.html", page, (width, 800)) as seen:
        expect(seen.page.get_by_text("Meets its limit").first).to_be_visible()
        assert seen.console == []
        assert seen.requests == []


def test_a_page_that_fetches_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    noisy = "<script>console.error('loud')</script><img src='http://example.com/x.png'>"
    with opened(browser, tmp_path / "page.html", noisy, (800, 600)) as seen:
        assert "loud" in seen.console
        assert seen.requests == ["http://example.com/x.png"]


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_follows_light_and_dark(
    browser: Browser, page: str, tmp_path: Path, dark: bool
) -> None:
    with opened(browser, tmp_path / "page.html", page, (1280, 800), dark) as seen:
        background = seen.page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert background == ("rgb(19, 21, 24)" if dark else "rgb(255, 255, 255)")


def test_the_verdict_stands_within_the_dashboards_frame(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    content = framed(page, 700, FRAME)
    with opened(browser, tmp_path / "page.html", content, (700, FRAME)) as seen:
        verdict = seen.page.frame_locator("iframe").locator("h1")
        expect(verdict).to_be_in_viewport(ratio=1)


def test_a_phone_does_not_scroll_sideways(browser: Browser, page: str, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", page, (390, 800)) as seen:
        widths = seen.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
    assert widths == [390, 390]
