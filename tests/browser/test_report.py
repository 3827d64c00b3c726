"""The report in a real browser: nothing logged, nothing fetched, the verdict within the frame.

At the width of a desktop and of a phone, in both languages, light and dark.
"""

import html
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, FrameLocator, Page, Route, expect, sync_playwright

from posttrain.evaluate.language import in_language
from posttrain.evaluate.report import render
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
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


WIDTHS = (1280, 390)
LANGUAGES = ("en", "ko")
SAID = {"en": "Not fit to promote: falls short in", "ko": "승격 불가: 기준 미달"}


@pytest.fixture(scope="module")
def page() -> str:
    evaluation = samples.evaluation(last="rlaif")
    gate = PromotionRecipe(
        limits=(
            Limit(figure="fact_accuracy.A", at_least=0.99),
            Limit(figure="helpfulness", at_least=0.99),
            Limit(figure="violation_rate", at_most=0.2),
        ),
        against_champion=(
            Comparison(figure="fact_accuracy", higher_is_better=True, max_loss=0.05),
        ),
        automatic=False,
    )
    outcomes = judge(evaluation, None, gate)
    histories = samples.histories("rlaif")
    return render(evaluation, histories, outcomes, samples.DATA, samples.LINEAGE, gate)


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


def choose(page: Page | FrameLocator, language: str) -> None:
    """As a reader does: by its name above the verdict."""
    page.locator(f"label[for=language-{language}]").click()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("dark", [False, True])
def test_the_console_stays_silent_nothing_is_fetched_and_nothing_overflows(
    browser: Browser, page: str, tmp_path: Path, width: int, language: str, dark: bool
) -> None:
    with opened(browser, tmp_path / "page.html", page, (width, 800), dark) as seen:
        choose(seen.page, language)
        expect(seen.page.locator("h1")).to_contain_text(SAID[language])
        widths = seen.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert widths == [width, width]
        assert seen.console == []
        assert seen.requests == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_verdict_and_its_reasons_stand_in_the_first_384_pixels(
    browser: Browser, page: str, tmp_path: Path, width: int, language: str
) -> None:
    with opened(browser, tmp_path / "page.html", page, (width, 800)) as seen:
        choose(seen.page, language)
        seen.page.evaluate("window.scrollTo(0, 0)")
        reasons = seen.page.locator(".story li.bad")
        assert reasons.count() == 2  # of three limits
        for one in (seen.page.locator("h1"), reasons.nth(0), reasons.nth(1)):
            box = one.bounding_box()
            assert box is not None
            assert box["height"] > 0
            assert box["y"] + box["height"] <= FRAME
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_one_language_shows_at_a_time(
    browser: Browser, page: str, tmp_path: Path, width: int
) -> None:
    with opened(browser, tmp_path / "page.html", page, (width, 800)) as seen:
        for language, other in (("en", "ko"), ("ko", "en")):
            choose(seen.page, language)
            assert seen.page.locator(f".{other}:visible").count() == 0
            assert seen.page.locator(f"h2 .{language}:visible").count() > 8
            assert seen.page.locator(f"svg .{language}:visible").count() > 8


def test_the_language_is_chosen_by_keyboard(browser: Browser, page: str, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", page, (1280, 800)) as seen:
        seen.page.keyboard.press("Tab")
        outline = seen.page.locator("label[for=language-en]").evaluate(
            "e => getComputedStyle(e).outlineStyle"
        )
        assert outline == "solid"  # who goes by keyboard sees where they are
        seen.page.keyboard.press("ArrowRight")
        expect(seen.page.locator("h1")).to_contain_text(SAID["ko"])
        seen.page.keyboard.press("ArrowLeft")
        expect(seen.page.locator("h1")).to_contain_text(SAID["en"])


def test_the_language_is_chosen_within_the_dashboards_sandbox(
    browser: Browser, page: str, tmp_path: Path
) -> None:
    with opened(browser, tmp_path / "page.html", framed(page, 700, FRAME), (700, FRAME)) as seen:
        frame = seen.page.frame_locator("iframe")
        choose(frame, "ko")
        expect(frame.locator("h1")).to_contain_text(SAID["ko"])
        expect(frame.locator("h1")).to_be_in_viewport(ratio=1)


def test_a_page_turned_to_korean_opens_in_it(browser: Browser, page: str, tmp_path: Path) -> None:
    with opened(browser, tmp_path / "page.html", in_language(page, "ko"), (390, 800)) as seen:
        expect(seen.page.locator("h1")).to_contain_text(SAID["ko"])
        assert seen.page.locator("html").get_attribute("lang") == "ko"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_chart_has_a_name_in_the_language_that_shows(
    browser: Browser, page: str, tmp_path: Path, language: str
) -> None:
    named = {"en": "Score above SFT against KL", "ko": "KL에 따른 SFT 대비 점수"}
    with opened(browser, tmp_path / "page.html", page, (1280, 800)) as seen:
        choose(seen.page, language)
        expect(seen.page.get_by_role("img", name=named[language])).to_be_visible()
        other = named["ko" if language == "en" else "en"]
        expect(seen.page.get_by_role("img", name=other)).to_have_count(0)


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
