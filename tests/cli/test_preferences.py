"""`posttrain preferences` on a run that ZenML really made: out to raters, and back."""

import json
from pathlib import Path
from typing import Any

import pytest

from posttrain.artifacts import BaseModel, Policy, Tokens
from tests.cli.test_report import python
from tests.posttrain.align.conftest import assistant, domain, tokenizer, tokens

__all__ = ["assistant", "domain", "tokenizer", "tokens"]  # fixtures of this module

MAIN = ["-c", "from cli.main import main; main()", "preferences"]


@pytest.fixture(scope="module")
def store(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    tmp_path_factory: Any,
) -> Path:
    store: Path = tmp_path_factory.mktemp("store")
    folders = [str(folder.path) for folder in (tokens, domain, assistant)]
    done = python(store, "-m", "tests.cli.trained_run", *folders)
    assert done.returncode == 0, done.stdout + done.stderr
    return store


def test_the_last_runs_pairs_go_out_and_come_back(store: Path) -> None:
    done = python(store, *MAIN, "export", "--set", "rollout", "--number", "20", "--seed", "5")
    assert done.returncode == 0, done.stderr
    assert "two samples of sft, prompts of the set rollout" in done.stdout
    rows = [json.loads(line) for line in (store / "pairs.jsonl").read_text().splitlines()]
    assert f"wrote {len(rows)} pairs to pairs.jsonl" in done.stdout

    again = python(store, *MAIN, "export", "--set", "rollout")
    assert again.returncode == 1
    assert "pairs.jsonl: exists" in again.stderr

    for row in rows[1:]:
        row["choice"] = "response_1"
    lines = [json.dumps(row) for row in [*rows, {"pair_id": "stranger", "choice": "1"}]]
    (store / "rated.jsonl").write_text("\n".join(lines), encoding="utf-8")
    done = python(store, *MAIN, "import", "rated.jsonl")
    assert done.returncode == 0, done.stderr
    assert "rated.jsonl: line 1: unanswered" in done.stderr
    assert f"rated.jsonl: line {len(rows) + 1}: unknown pair: stranger" in done.stderr
    assert f"wrote {len(rows) - 1} preferences to human.jsonl" in done.stdout
    assert "The answer shown first is preferred: 1.00" in done.stdout
    written = [json.loads(line) for line in (store / "human.jsonl").read_text().splitlines()]
    assert [row["chosen"] for row in written] == [row["response_1"] for row in rows[1:]]


def test_a_run_is_asked_for_by_name(store: Path) -> None:
    done = python(store, *MAIN, "export", "--run", "no-such-run", "--out", "other.jsonl")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("posttrain: --run no-such-run: ")


def test_a_mistyped_stage_is_one_line(store: Path) -> None:
    done = python(store, *MAIN, "export", "--between", "sft,pppo", "--out", "other.jsonl")
    assert done.returncode == 1
    assert "'sft', 'ppo', 'dpo', 'self_critique' or 'rlai" in done.stderr.splitlines()[-1]
