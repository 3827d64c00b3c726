"""Three registered versions of a guide: a champion, one that passes the gate, one that does not.

Version 3 answers and is described in HTML that would run, were it not told as text.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient
from zenml.client import Client
from zenml.config.global_config import GlobalConfiguration

from cli.review.app import build
from cli.review.desk import Desk
from cli.review.links import links
from cli.review.security import access
from posttrain.evaluate.ballots import pairs_file, write_pairs
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.promote import promote
from posttrain.registry.register import register
from posttrain.reports import Evaluation
from tests import samples
from tests.posttrain.evaluate.test_blind import pairs

NAME = "museum"
PORT = 8238
SCRIPT = "<script>alert('달무리실')</script>"
GATE = PromotionRecipe(limits=(Limit(figure="fact_accuracy.A", at_least=0.85),))
ACCURACIES = (0.95, 0.97, 0.5)


def scripted(evaluation: Evaluation) -> Evaluation:
    """The same, its first answer a script."""
    *others, last = evaluation.stages
    first, *rest = last.samples
    told = (first.model_copy(update={"response": SCRIPT}), *rest)
    return evaluation.model_copy(
        update={"stages": (*others, last.model_copy(update={"samples": told}))}
    )


def fill(folder: Path) -> None:
    """Register the versions in the store that MLflow points to; the first becomes champion."""
    base = samples.base_model(folder / "base")
    for number, accuracy in enumerate(ACCURACIES, 1):
        policy = samples.policy(folder / f"policy-{number}", base, weights=str(accuracy))
        figures = {"fact_accuracy.A": accuracy}
        evaluation = samples.evaluation(policy.content_hash(), **figures)
        summary = "Answers visitors."
        if number == 3:
            evaluation, summary = scripted(evaluation), f"{SCRIPT} [x](javascript:alert(1))"
        recipe = RegistrationRecipe(model_name=NAME, summary=summary)
        lineage = {"git_commit": "3d46a12", "zenml_run_id": "0f0e"}
        version = register(base, policy, evaluation, recipe, lineage)
        automatic = number == 1
        promote(version, evaluation, GATE.model_copy(update={"automatic": automatic}))


@pytest.fixture(scope="session")
def museum_store(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the filled store: tests copy its database and read its artifacts in place."""
    folder = tmp_path_factory.mktemp("museum")
    shutil.copy(migrated_store, folder / "mlflow.db")
    with contextlib.chdir(folder), pointed_to(folder):
        fill(folder)
    return folder


@contextlib.contextmanager
def pointed_to(folder: Path) -> Iterator[None]:
    """MLflow uses the store in `folder`."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture
def museum(
    museum_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MlflowClient]:
    """The registry, a copy of its own."""
    for name in ("ZENML_CONFIG_PATH", "ZENML_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copy(museum_store / "mlflow.db", tmp_path / "mlflow.db")
    with pointed_to(tmp_path):
        yield MlflowClient()


@pytest.fixture
def no_zenml(museum: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ZenML that is named, and whose database cannot be opened."""
    monkeypatch.setenv("ZENML_CONFIG_PATH", str(tmp_path / "zenml"))
    monkeypatch.setenv("ZENML_STORE_URL", f"sqlite:///{tmp_path}/nobody/zenml.db")
    monkeypatch.setenv("ZENML_ANALYTICS_OPT_IN", "false")
    (tmp_path / "nobody").write_text("a file where a folder should be")
    monkeypatch.setattr(Client, "_global_client", None)
    monkeypatch.setattr(GlobalConfiguration, "_global_config", None)


@pytest.fixture
def desk(museum: MlflowClient, tmp_path: Path) -> Desk:
    """The page's desk on loopback, with 12 pairs of versions 1 and 2 to rate."""
    state = tmp_path / "review"
    write_pairs(pairs(12), pairs_file(state, NAME, (1, 2)))
    return Desk(
        access=access("127.0.0.1", PORT, (), None),
        links=links("http://127.0.0.1:8237", "http://127.0.0.1:5000"),
        state=state,
    )


@pytest.fixture
def site(desk: Desk) -> TestClient:
    """A browser of sorts, on loopback."""
    return browser_of(desk)


def browser_of(desk: Desk, host: str = f"127.0.0.1:{PORT}") -> TestClient:
    """A client that sends this Host."""
    return TestClient(build(desk), base_url=f"http://{host}", follow_redirects=False)


def aliases(client: MlflowClient) -> dict[str, int]:
    """Alias -> version."""
    found = client.get_registered_model(NAME).aliases
    return {alias: int(number) for alias, number in found.items()}


def code_of(page: str) -> str:
    """What the page's forms carry."""
    found = re.search(r'name="code" value="([0-9a-f]{64})"', page)
    assert found is not None, page
    return found[1]


def post(
    site: TestClient, at: str, to: str, fields: dict[str, str], **headers: str
) -> "tuple[int, str, str]":
    """Send a form of the page `at`: status, text, and where it leads."""
    page = site.get(at).text
    sent = {"code": code_of(page), **fields}
    origin = {"origin": str(site.base_url).rstrip("/"), **headers}
    answer = site.post(to, data=sent, headers=origin)
    return answer.status_code, answer.text, answer.headers.get("location", "")
