"""`posttrain export` with a real, if tiny, registered model."""

from pathlib import Path

import pytest
from click.testing import Result
from mlflow import MlflowClient
from typer.testing import CliRunner

from cli.main import app
from posttrain.artifacts import BaseModel
from posttrain.models.exported import load_exported
from tests.policies import register_policy


@pytest.fixture
def museum(registry: MlflowClient, base: BaseModel, tmp_path: Path) -> MlflowClient:
    """Version 1 of `museum`, its champion, is LoRA; version 2 full fine-tuning."""
    register_policy(base, "lora", tmp_path / "one", "museum")
    register_policy(base, "full", tmp_path / "two", "museum")
    registry.set_registered_model_alias("museum", "champion", "1")
    return registry


def export(*words: str) -> Result:
    return CliRunner().invoke(app, ["export", *words])


@pytest.mark.usefixtures("museum")
@pytest.mark.parametrize(
    ("layout", "command"),
    [
        ("peft", "vllm serve out/base --tokenizer out "),
        ("merged", "vllm serve out\n"),
        ("mlflow", "mlflow models serve -m out --env-manager local --host 127.0.0.1"),
    ],
)
def test_it_says_what_was_verified_and_what_comes_next(layout: str, command: str) -> None:
    done = export("--format", layout, "--out", "out")
    assert done.exit_code == 0, done.exception
    assert f"museum version 1 (lora) -> out, {layout}\n" in done.stdout
    assert "verified: loaded from the folder; its logits differ from the version's" in done.stdout
    assert f"\n  {command}" in done.stdout
    folder = Path("out/artifacts/model" if layout == "mlflow" else "out")
    assert f"\n  posttrain chat --folder {folder}\n" in done.stdout
    assert load_exported(folder)[2].name == "museum"


@pytest.mark.usefixtures("museum")
def test_the_base_that_was_written_is_told_of_on_stderr() -> None:
    done = export("--format", "peft", "--out", "out")
    assert "note: the base exists nowhere else: it was written to base/\n" in done.stderr
    assert "UserWarning" not in done.stderr


@pytest.mark.usefixtures("museum")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--format", "peft", "--version", "2"), "there is no adapter to export; use --format"),
        (("--format", "peft", "--dtype", "bfloat16"), "--dtype is of merged weights"),
        (("--format", "merged", "--version", "9"), "museum@9: no such version or alias"),
        (("--format", "merged", "--alias", "best"), "museum@best: no such version or alias"),
        (("--format", "merged", "--name", "other"), "has no registered model 'other'"),
        (("--format", "merged", "--alias", "champion", "--version", "1"), "name two; leave one"),
    ],
)
def test_mistakes_are_told(words: tuple[str, ...], why: str) -> None:
    done = export(*words, "--out", "out")
    assert isinstance(done.exception, ValueError)
    assert why in str(done.exception)
    assert not Path("out").exists()


@pytest.mark.usefixtures("museum")
def test_an_alias_may_be_a_number_and_the_folder_replaced() -> None:
    assert export("--format", "merged", "--out", "out").exit_code == 0
    assert "--force" in str(export("--format", "merged", "--out", "out").exception)
    words = ("--format", "merged", "--out", "out", "--alias", "2", "--force")
    assert export(*words).exit_code == 0
    assert load_exported(Path("out"))[2].version == 2


@pytest.mark.usefixtures("museum")
@pytest.mark.parametrize(
    ("layout", "folder"), [("peft", "out"), ("merged", "out"), ("mlflow", "out/artifacts/model")]
)
def test_chat_answers_from_the_folder_as_from_the_registry(layout: str, folder: str) -> None:
    assert export("--format", layout, "--out", "out").exit_code == 0
    asked = ("--prompt", "what colour is red ?", "--max-new-tokens", "8")
    answers = [
        CliRunner().invoke(app, ["chat", *asked, *named]).stdout
        for named in (("--version", "1"), ("--folder", folder))
    ]
    assert answers[0].strip()
    assert answers[0] == answers[1]
