"""`posttrain preferences versions`: two registered versions really answer a file of prompts."""

import json
from pathlib import Path

import pytest
from mlflow import MlflowClient
from typer.testing import CliRunner, Result

from cli.main import app
from posttrain.artifacts import BaseModel
from posttrain.evaluate.ballots import pairs_file, read_pairs
from tests.policies import register_policy

STATE = Path("review")
FILE = pairs_file(STATE, "guide", (1, 2))
PROMPTS = [{"prompt": f"what colour is {i} ?", "group": f"g{i}"} for i in range(12)]


@pytest.fixture
def guide(registry: MlflowClient, greeter: BaseModel, tmp_path: Path) -> MlflowClient:
    """Two versions that greet almost alike."""
    register_policy(greeter, "lora", tmp_path / "one", "guide")
    register_policy(greeter, "bottleneck", tmp_path / "two", "guide")
    rows = [*PROMPTS, {"prompt": "누구세요 ?", "set": "held_out"}]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    Path("prompts.jsonl").write_text(lines, encoding="utf-8")
    return registry


def run(*words: str) -> Result:
    given = ("--input", "prompts.jsonl", "--state", str(STATE), "--max-new-tokens", "96")
    return CliRunner().invoke(app, ["preferences", "versions", *words, *given])


@pytest.mark.usefixtures("guide")
def test_both_versions_answer_and_what_differs_becomes_pairs() -> None:
    done = run("1", "2", "--temperature", "1.3", "--train")
    assert done.exit_code == 0, done.exception
    pairs = read_pairs(FILE)
    assert f"wrote {len(pairs)} pairs to {FILE}" in done.stdout
    assert {pair.versions for pair in pairs} == {(1, 2)}
    assert all(pair.response_1 != pair.response_2 for pair in pairs)
    kept = {pair.messages[-1].content: (pair.held_out, pair.group) for pair in pairs}
    for asked, (held_out, group) in kept.items():
        assert (held_out, group) == (
            (True, "") if asked == "누구세요 ?" else (False, f"g{asked.split()[3]}")
        )

    again = run("1", "2")
    assert again.exit_code == 1
    assert "exists; overwrite it by --force" in str(again.exception)


@pytest.mark.usefixtures("guide")
def test_prompts_of_a_file_are_held_out_unless_said_otherwise() -> None:
    assert run("1", "2", "--temperature", "1.3", "--limit", "6").exit_code == 0
    assert all(pair.held_out for pair in read_pairs(FILE))


@pytest.mark.usefixtures("guide")
def test_a_version_is_not_compared_with_itself() -> None:
    done = run("2", "2")
    assert done.exit_code == 1
    assert "2 and 2 are both version 2; name two versions" in str(done.exception)
