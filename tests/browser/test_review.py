"""The review page in a real browser, without JavaScript too: a server, a registry, real clicks."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from mlflow import MlflowClient
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from cli.review.app import build
from cli.review.desk import Desk
from cli.review.links import links
from cli.review.security import access
from tests.browser.test_report import CHROMIUM, browser
from tests.cli.review.museum import NAME, aliases, desk, museum, museum_store
from tests.cli.test_dashboard import free_port
from tests.store import migrated_store

__all__ = ["browser", "desk", "migrated_store", "museum", "museum_store"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="NO CHROMIUM: apt-get install chromium"),
]

DESKTOP, PHONE = 1280, 390
HERE = f"/models/{NAME}"


@pytest.fixture
def address(desk: Desk) -> Iterator[str]:
    """The page, really served."""
    port = free_port()
    rules = access("127.0.0.1", port, (), None)
    app = build(Desk(rules, links(None, None), desk.state))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(30)


@dataclass
class Seen:
    """An open page, what it logged and what it asked of others."""

    page: Page
    address: str
    console: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    def go(self, path: str) -> None:
        self.page.goto(f"{self.address}{path}")

    def heard(self, message: ConsoleMessage) -> None:
        # where a key comes before the page's own focus Chromium remarks on it
        if message.type in ("error", "warning"):
            self.console.append(message.text)

    def asked(self, request: Request) -> None:
        if not request.url.startswith(self.address):
            self.foreign.append(request.url)

    def fits(self) -> bool:
        widths = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return bool(widths[0] == widths[1])


@contextmanager
def visited(
    browser: Browser, address: str, width: int = DESKTOP, script: bool = True, locale: str = "en-US"
) -> Iterator[Seen]:
    """A visit, during which nothing may be logged, and nothing asked of other hosts."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, java_script_enabled=script, locale=locale
    )
    seen = Seen(context.new_page(), address)
    seen.page.on("console", seen.heard)
    seen.page.on("pageerror", lambda error: seen.console.append(str(error)))
    seen.page.on("request", seen.asked)
    try:
        yield seen
        assert (seen.console, seen.foreign) == ([], [])
    finally:
        context.close()


def sign(page: Page, name: str, why: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Reason").fill(why)


def first_pair(seen: Seen) -> None:
    seen.go(f"{HERE}/blind/1/2")
    seen.page.get_by_label("Your name").fill("Kim")
    seen.page.get_by_role("button", name="Start").click()
    expect(seen.page.get_by_text("Pair 1 of 12")).to_be_visible()


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_open_compare_approve_rate_ten_and_roll_back(
    browser: Browser, address: str, museum: MlflowClient, width: int, script: bool
) -> None:
    with visited(browser, address, width, script) as seen:
        page = seen.page
        seen.go("/")
        expect(page.get_by_role("heading", name=NAME)).to_be_visible()
        page.get_by_label("Compare version 2 as B").check()
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", name="Version 1 and version 2")).to_be_visible()

        page.get_by_role("link", name="Compare blind").click()
        page.get_by_label("Your name").fill("Kim")
        page.get_by_role("button", name="Start").click()
        for number in range(1, 11):
            expect(page.get_by_text(f"Pair {number} of 12")).to_be_visible()
            page.get_by_role("button", name=("A is better", "B is better")[number % 2]).click()
        page.get_by_role("link", name="Results").click()
        expect(page.get_by_role("row", name="Pairs rated 10")).to_be_visible()

        seen.go(f"{HERE}/versions/2")
        sign(page, "Kim", "politer")
        page.get_by_role("button", name="Approve").or_(
            page.get_by_role("button", name="Promote")
        ).click()
        expect(page.get_by_role("status")).to_contain_text("Version 2 is the champion now")
        assert aliases(museum)["champion"] == 2

        sign(page, "Lee", "complaints")
        page.get_by_role("button", name="Roll back to version 1").click()
        expect(page.get_by_role("status")).to_contain_text("Version 1 is the champion again")
        expect(page.get_by_text("complaints")).to_be_visible()
        assert aliases(museum)["champion"] == 1


def test_by_keyboard_alone(browser: Browser, address: str, museum: MlflowClient) -> None:
    with visited(browser, address) as seen:
        first_pair(seen)
        focused = seen.page.locator(":focus")
        for number, tabs in enumerate((1, 2, 3, 4), 1):  # A, tie, B, skip: from the prompt on
            expect(seen.page.get_by_text(f"Pair {number} of 12")).to_be_visible()
            expect(focused).to_have_class("prompt")
            for _ in range(tabs):
                seen.page.keyboard.press("Tab")
            seen.page.keyboard.press("Enter")
        expect(seen.page.get_by_text("Pair 5 of 12")).to_be_visible()

        seen.go(f"{HERE}/versions/2")
        for _ in range(40):
            seen.page.keyboard.press("Tab")
            if focused.get_attribute("name") == "who":
                break
        seen.page.keyboard.press("Control+A")
        seen.page.keyboard.type("Kim")
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.type("politer")
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("Enter")
        expect(seen.page.get_by_role("status")).to_contain_text("champion")
    assert aliases(museum)["champion"] == 2


@pytest.mark.parametrize("locale", ["en-US", "ko-KR"])
@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_no_page_scrolls_sideways_or_logs(
    browser: Browser, address: str, width: int, locale: str
) -> None:
    pages = ("", "/versions/3", "/compare?a=1&b=3", "/history", "/blind", "/blind/1/2/results")
    with visited(browser, address, width, locale=locale) as seen:
        for path in pages:
            seen.go(f"{HERE}{path}")
            expect(seen.page.locator("html")).to_have_attribute("lang", locale[:2])
            assert seen.fits(), path


def test_the_report_opens_from_its_version(browser: Browser, address: str) -> None:
    with visited(browser, address) as seen:
        seen.go(f"{HERE}/versions/2")
        seen.page.get_by_role("link", name="Full report").click()
        expect(seen.page.locator("h1")).to_be_visible()


def test_a_form_of_another_site_is_refused(
    browser: Browser, address: str, museum: MlflowClient
) -> None:
    form = (
        f'<form method="post" action="{address}{HERE}/versions/2/decision">'
        '<input name="decision" value="approve"><input name="who" value="Eve">'
        '<input name="why" value="x"><input name="expected" value="1"><button>Go</button></form>'
    )
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}{HERE}/versions/2")
    page.route(
        "http://evil.example/", lambda route: route.fulfill(body=form, content_type="text/html")
    )
    page.goto("http://evil.example/")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("heading", name="Refused")).to_be_visible()
    context.close()
    assert aliases(museum)["champion"] == 1
