"""`posttrain chat` with a real, if tiny, registered model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner

from cli.chat import converse, only_model
from cli.main import app
from posttrain.artifacts import BaseModel, Policy, PolicyFacts
from posttrain.contract import trained_on
from posttrain.models.adapters import new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.registry.register import register
from tests import samples


@pytest.fixture
def museum(registry: MlflowClient, base: BaseModel, tmp_path: Path) -> MlflowClient:
    """Version 1 of `museum`, without a champion."""
    folder = tmp_path / "policy"
    save_adapter(new_adapter(load_base(base), LoraRecipe(rank=2)), "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    policy = Policy.write(folder, "sft", facts)
    evaluation = samples.evaluation(policy.content_hash())
    register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})
    return registry


def chat(*words: str) -> str:
    done = CliRunner().invoke(app, ["chat", *words])
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_a_registered_version_answers(museum: MlflowClient) -> None:
    museum.set_registered_model_alias("museum", "champion", "1")
    words = ("--prompt", "what colour is red ?", "--max-new-tokens", "8")
    assert chat(*words) == chat(*words, "--name", "museum", "--alias", "1")
    assert list(Path("cache/registry").iterdir())


def test_a_conversation_outgrows_the_context(museum: MlflowClient) -> None:
    lines = "\n".join(["what colour is red ? " * 3] * 8)
    done = CliRunner().invoke(
        app, ["chat", "--alias", "challenger", "--max-new-tokens", "40"], input=lines + "\n"
    )
    assert done.exit_code == 0, done.exception
    assert done.stdout.count("> ") == 9


@pytest.mark.usefixtures("museum")
def test_without_a_champion_it_says_what_exists() -> None:
    done = CliRunner().invoke(app, ["chat", "--prompt", "hi"])
    assert "aliases: challenger -> 1" in str(done.exception)


def test_several_models_need_a_name(museum: MlflowClient) -> None:
    assert only_model() == "museum"
    museum.create_registered_model("library")
    with pytest.raises(ValueError, match="--name: library, museum"):
        only_model()


def test_no_database_is_made_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/absent.db")
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    done = CliRunner().invoke(app, ["chat", "--prompt", "hi"])
    assert "no registry there" in str(done.exception)
    assert not (tmp_path / "absent.db").exists()


def said(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Callable[[str], str]:
    left = iter(lines)
    monkeypatch.setattr("builtins.input", lambda _: next(left))
    return lambda _: next(left)


def test_history_grows_until_it_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    said(monkeypatch, "one", "two", "/new", "three", "")
    seen: list[list[str]] = []

    def answer(turns: list[dict[str, str]]) -> str:
        seen.append([turn["content"] for turn in turns])
        return f"re {turns[-1]['content']}"

    converse(answer, [{"role": "system", "content": "be kind"}])
    assert seen == [
        ["be kind", "one"],
        ["be kind", "one", "re one", "two"],
        ["be kind", "three"],
    ]
