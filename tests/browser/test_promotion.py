"""ZenML's run page on a started server: the waiting card is there, is answered, the run goes on."""

import json
import shutil
import warnings
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.integration.conftest import Checkout
from tests.promoting import Model
from tests.promoting_on_server import Api, on_server
from tests.zenml_server import ZenMLServer

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE_MS = 180_000  # a busy machine with two cores
TRIES = 6

pytestmark = pytest.mark.slow
if CHROMIUM is None:
    warnings.warn(
        "NO CHROMIUM: the waiting card is not answered; apt-get install chromium", stacklevel=1
    )
    pytestmark = [
        pytest.mark.slow,
        pytest.mark.skip(reason="NO CHROMIUM: apt-get install chromium"),
    ]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def server(checkout: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZenMLServer]:
    with on_server(checkout, tmp_path_factory.mktemp("team")) as server:
        yield server


@pytest.fixture
def page(server: ZenMLServer) -> Iterator[Page]:
    """The dashboard, after the login; what it asks of other hosts is refused."""
    asked = {"email_opted_in": False, "user_metadata": {"finished_onboarding_survey": True}}
    status, told = Api(server)("PUT", "/current-user", asked)
    assert status == 200, told
    # without 3D: the login page's background takes minutes where no GPU draws it
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-3d-apis"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        own = (server.url, "data:", "blob:")
        page.route(lambda url: not url.startswith(own), lambda route: route.abort())
        page.goto(f"{server.url}/login")
        page.get_by_label("Username").fill("default")
        page.get_by_label("Password").fill(server.password)
        login = page.get_by_role("button", name="Login", exact=True)
        login.click()
        expect(login).to_be_hidden(timeout=PATIENCE_MS)
        yield page
        browser.close()


def fill_in(page: Page, go_on: Locator, **answer: str) -> None:
    """Write the answer in place of the empty one, again where the editor was not ready yet."""
    for _ in range(TRIES):
        page.locator(".monaco-editor").first.click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(json.dumps(answer))
        for key in ("Control+Shift+End", "Delete"):  # quotes that the editor closed by itself
            page.keyboard.press(key)
        try:
            return expect(go_on).to_be_enabled(timeout=PATIENCE_MS / TRIES)
        except AssertionError:
            seen = page.locator(".view-lines").first.inner_text()
    raise AssertionError(f"the card's form holds {seen!r} and does not take it")


def test_the_waiting_card_is_answered_and_the_alias_moves(
    checkout: Checkout, server: ZenMLServer, page: Page
) -> None:
    model = Model(checkout, "museum")
    model.make_champion(model.put(0.9))
    model.put(0.95)
    with model.promotion() as run:
        run_id = Api(server).waiting("museum version 2")["resources"]["run"]["id"]
        page.goto(f"{server.url}/projects/default/runs/{run_id}")
        expect(page.get_by_text("Waiting for input")).to_be_visible(timeout=PATIENCE_MS)
        asked = page.get_by_text("Shall museum version 2 become the champion?")
        expect(asked).to_contain_text("It would take the place of version 1; every rule")
        go_on = page.get_by_role("button", name="Continue")
        expect(page.locator(".monaco-editor").first).to_be_visible(timeout=PATIENCE_MS)
        expect(go_on).to_be_disabled(timeout=PATIENCE_MS)  # nobody approves by one click
        fill_in(page, go_on, decision="approve", who="Kim", why="reads well")
        go_on.click()
        expect(page.get_by_text("Waiting for input")).to_be_hidden(timeout=PATIENCE_MS)
        assert run.ends() == 0
    assert model.aliases["champion"] == 2
    assert (model.history[-1].who, model.history[-1].why) == ("Kim", "reads well")
    expect(page.get_by_text("decision").first).to_be_visible(timeout=PATIENCE_MS)
