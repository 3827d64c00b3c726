"""`posttrain chat` with a real, if tiny, registered model."""

import json
import stat
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from cli.main import app
from cli.named import only_model
from posttrain.registry.export import Format, export
from tests.cli.terminal import Terminal
from tests.greeter import GREETING

GREET = ("--adapter", "off", "--max-new-tokens", "96")


def run(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(app, ["chat", *words], input=typed)


def chat(*words: str, typed: str = "") -> str:
    done = run(*words, typed=typed)
    assert done.exit_code == 0, done.exception
    return done.stdout


def exported(layout: Format) -> Path:
    folder = Path(f"exported-{layout}")
    export("museum", "1", folder, layout)
    return folder


def test_a_registered_version_answers_by_alias_and_by_number(museum: MlflowClient) -> None:
    museum.set_registered_model_alias("museum", "champion", "1")
    words = ("--prompt", "what colour is red ?", "--max-new-tokens", "8")
    said = chat(*words)
    assert said.strip()
    assert (
        said == chat(*words, "--name", "museum", "--alias", "1") == chat(*words, "--version", "1")
    )
    assert list(Path("cache/registry").iterdir())


@pytest.mark.usefixtures("museum")
def test_a_pipe_gets_the_answers_and_nothing_else() -> None:
    typed = "what colour ?\n\n/new\n누구세요 ?\n/help\n"
    assert chat("--alias", "challenger", *GREET, typed=typed) == f"{GREETING}\n{GREETING}\n"


@pytest.mark.usefixtures("museum")
def test_a_question_from_a_pipe_that_is_too_long_fails_the_command() -> None:
    done = run("--version", "1", "--max-new-tokens", "512", typed="what colour ? " * 400 + "\n")
    assert "there is room for 512" in str(done.exception)


@pytest.mark.usefixtures("museum")
def test_base_and_adapter_are_shown_one_after_the_other_where_there_is_no_terminal() -> None:
    words = ("--version", "1", "--prompt", "what colour ?", "--max-new-tokens", "96")
    on, off, both = (chat(*words, "--adapter", which) for which in ("on", "off", "both"))
    assert off == f"{GREETING}\n" != on
    assert both == f"[base]\n{off}[adapter]\n{on}"


@pytest.mark.usefixtures("museum")
def test_a_folder_answers_as_the_version_it_was_exported_from() -> None:
    words = ("--prompt", "what colour ?", "--max-new-tokens", "24")
    version = chat("--version", "1", *words)
    peft, merged = exported("peft"), exported("merged")
    assert version == chat("--folder", str(peft), *words)
    assert version == chat("--folder", str(merged), *words)
    assert chat("--folder", str(peft), "--prompt", "what colour ?", *GREET) == f"{GREETING}\n"
    both = chat("--folder", str(peft), *words, "--adapter", "both")
    assert both.endswith(f"[adapter]\n{version}")
    refused = run("--folder", str(merged), *words, "--adapter", "off")
    assert "holds whole weights, and its base cannot be told apart" in str(refused.exception)


@pytest.mark.usefixtures("museum")
def test_a_folder_whose_template_was_changed_is_refused_with_both_hashes() -> None:
    folder = exported("peft")
    recorded = json.loads((folder / "posttrain.json").read_bytes())["template_hash"]
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8") + " ", encoding="utf-8")
    done = run("--folder", str(folder), "--prompt", "hi")
    assert f"chat template {recorded[:12]}, and has " in str(done.exception)
    assert str(done.exception).count(recorded[:12]) == 1


@pytest.mark.usefixtures("museum")
def test_two_names_for_who_answers_are_refused() -> None:
    done = run("--alias", "challenger", "--version", "1", "--prompt", "hi")
    assert "name two; leave one out" in str(done.exception)
    done = run("--folder", "here", "--version", "1", "--prompt", "hi")
    assert "--folder names a model of its own" in str(done.exception)


@pytest.mark.usefixtures("museum")
def test_without_a_champion_it_says_what_exists() -> None:
    done = run("--prompt", "hi")
    assert "aliases: challenger -> 1" in str(done.exception)


def test_several_models_need_a_name(museum: MlflowClient) -> None:
    assert only_model() == "museum"
    museum.create_registered_model("library")
    with pytest.raises(ValueError, match="--name: library, museum"):
        only_model()


def test_no_database_is_made_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/absent.db")
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)
    done = run("--prompt", "hi")
    assert "no registry there" in str(done.exception)
    assert not (tmp_path / "absent.db").exists()


def on_terminal(folder: Path, *words: str, columns: int = 80) -> Terminal:
    command = (sys.executable, "-c", "from cli.main import main; main()", "chat", "--folder")
    return Terminal(*command, str(folder), *words, columns=columns, PYTHONPATH=REPOSITORY)


REPOSITORY = str(Path(__file__).resolve().parents[2])


@pytest.mark.slow
@pytest.mark.usefixtures("museum")
def test_a_conversation_on_a_terminal() -> None:
    """Korean typed and edited, an answer streamed, one stopped, earlier lines, the end."""
    folder = exported("peft")
    Path(".posttrain").mkdir()
    with on_terminal(folder, "--adapter", "off", "--max-new-tokens", "500") as terminal:
        terminal.wait_for(r"museum version 1 in .*/help lists commands, Ctrl-D ends\.\n")
        terminal.wait_for("> ")
        terminal.type("누구세요 ??\x7f\n")  # a backspace edits the line
        terminal.wait_for(f"\n{GREETING}\n> ")
        terminal.type("half a line")
        terminal.wait_for("half a line")
        # Python hears Ctrl-C while it waits for a key; in the moment of an echo, only with the next
        time.sleep(1)
        terminal.type("\x03")
        terminal.wait_for("\n> ")
        terminal.type("/new\n")
        terminal.wait_for("> ")
        terminal.type("\x10\x10\n")  # Ctrl-P: the line before the last
        assert "누구세요 ?" in terminal.wait_for(f"{GREETING}\n> ")
        terminal.type("\x04")
        assert terminal.ended() == 0
    history = Path(".posttrain/chat_history")
    assert "누구세요 ?" in history.read_text(encoding="utf-8").splitlines()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.slow
@pytest.mark.usefixtures("museum")
def test_ctrl_c_ends_the_answer_and_not_the_program() -> None:
    folder = exported("peft")
    words = ("--max-new-tokens", "500", "--adapter", "both")  # the adapter's answer has no end
    with on_terminal(folder, *words, columns=70) as terminal:
        terminal.wait_for("> ")
        terminal.type("what colour ?\n")
        assert "base" + " " * 29 + " │ adapter" in terminal.wait_for("│ adapter")
        terminal.wait_for("│")
        terminal.type("\x03")
        assert "cut off" not in terminal.wait_for("\n> ")
        terminal.type("/undo\n")
        terminal.wait_for("> ")
        terminal.type("/undo\n")
        terminal.wait_for("nothing was said\n> ")
        terminal.type("\x04")
        assert terminal.ended() == 0
