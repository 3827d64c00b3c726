"""A person decides on the review page, on ZenML's own SQLite store: no server runs."""

import os
import time

import mlflow
import pytest
from fastapi.testclient import TestClient
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration

from cli.review.desk import Desk
from cli.review.links import links
from cli.review.security import access
from tests.cli.review.museum import PORT, browser_of, post
from tests.integration.conftest import Checkout
from tests.promoting import Model

pytestmark = pytest.mark.slow


@pytest.fixture
def site(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """The page on the checkout's registry and its ZenML."""
    for name, value in checkout.environment.items():
        if os.environ.get(name) != value and name != "PATH":
            monkeypatch.setenv(name, value)
    # an earlier test of this process may have opened another store
    monkeypatch.setattr(Client, "_global_client", None)
    monkeypatch.setattr(GlobalConfiguration, "_global_config", None)
    monkeypatch.chdir(checkout.root)
    mlflow.set_tracking_uri(checkout.environment["MLFLOW_TRACKING_URI"])
    rules = access("127.0.0.1", PORT, (), None)
    return browser_of(Desk(rules, links(None, None), checkout.root / "review"))


def test_a_waiting_run_is_answered_on_the_page(checkout: Checkout, site: TestClient) -> None:
    model = Model(checkout, "reviewed")
    model.put(0.95)
    here = "/models/reviewed/versions/1"
    form = {"decision": "approve", "who": "Kim", "why": "reads well", "expected": ""}
    with model.promotion() as run:
        assert "A run waits for your answer about version 1" in site.get("/models/reviewed").text
        assert "A run waits for this answer" in site.get(here).text
        start = time.monotonic()
        status, page, where = post(site, here, f"{here}/decision", form)
        assert (status, where) == (303, f"{here}?done=answered"), page
        assert time.monotonic() - start < 30  # the run's own time does not count
        status, page, _ = post(
            site, here, f"{here}/decision", {**form, "decision": "reject", "who": "Lee"}
        )
        assert status == 409
        told = "Kim answered first: approved" in page or "The champion changed" in page
        assert told or "Version 1 is the champion" in page
        assert run.ends() == 0
    assert model.aliases["champion"] == 1
    assert [(line.action, line.who) for line in model.history] == [("approve", "Kim")]
    assert "was given to the waiting run" not in site.get(where).text
    assert "Approved" in site.get(where).text
