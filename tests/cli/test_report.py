"""`posttrain report` on a run that ZenML really made, in a store of the test's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MAIN = ["-c", "from cli.main import main; main()", "report"]


def python(store: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "ZENML_CONFIG_PATH": str(store / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_CUSTOM_SOURCE_ROOT": str(ROOT),
        "PYTHONPATH": str(ROOT),
        "POSTTRAIN_WORK": str(store / "work"),
        "COLUMNS": "160",
    }
    return subprocess.run(
        [sys.executable, *words],
        cwd=store,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a finished run and a later one that failed."""
    store = tmp_path_factory.mktemp("store")
    done = python(store, "-m", "tests.cli.finished_run", str(store / "quarantine"))
    assert done.returncode == 0, done.stdout + done.stderr
    return store


@pytest.fixture(scope="module")
def document(store: Path) -> dict[str, Any]:
    done = python(store, *MAIN, "--json")
    assert done.returncode == 0, done.stderr
    assert "newer, without an evaluation" in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_json_has_every_key(document: dict[str, Any]) -> None:
    assert list(document) == [
        *("run", "seconds", "stages", "reward_model", "data", "cost", "promotion"),
    ]
    assert document["cost"] == []
    assert document["run"].startswith("fine_tuning-")
    assert document["seconds"] > 0
    assert document["reward_model"] is None
    assert document["data"] == {"quarantined": {"email": 3, "too_long": 1}}
    assert document["promotion"] == {
        "version": 3,
        "promoted": False,
        "reasons": ["fact_accuracy.A of the final stage is 0.95; required: at least 0.99"],
    }


def test_a_stage_has_nulls_where_it_has_no_figure(document: dict[str, Any]) -> None:
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert list(stages) == ["untrained", "base_finetune", "sft"]
    assert stages["sft"] == {
        "stage": "sft",
        "perplexity_domain": 2.71,
        "perplexity_answers": 1.94,
        "bits_per_byte_domain": None,
        "fact_cloze": 0.81,
        "fact_accuracy": {"A": 0.95, "B": 0.99, "C": 0.89},
        "mean_score": 0.0,
        "score_std": 1.0,
        "kl_to_sft": None,
        "violation_rate": 0.43,
        "helpfulness": 0.92,
        "ended_share": 1.0,
        "mean_length": 18.2,
    }
    assert stages["untrained"]["mean_score"] is None


def test_the_table_says_the_verdict_and_why(store: Path) -> None:
    done = python(store, *MAIN)
    assert done.returncode == 0, done.stderr
    assert "Not fit to promote: falls short in fact accuracy A" in done.stdout
    assert "Version 3 was not promoted:" in done.stdout
    assert "Quarantined: e-mail address 3, too long 1" in done.stdout
    page = store / ".posttrain" / "report.html"
    assert page.as_uri() in done.stderr
    assert "달무리실" in page.read_text(encoding="utf-8")


def test_table_and_page_speak_korean_where_asked(store: Path) -> None:
    done = python(store, *MAIN, "--language", "ko")
    assert done.returncode == 0, done.stderr
    assert "승격 불가: 기준 미달 (사실 정확도 A)" in done.stdout
    assert "SFT가 답변하는 법을 학습했습니다: 사실 정확도" in done.stdout
    assert "격리된 행: 이메일 주소 3, 길이 초과 1" in done.stdout
    assert "최종 단계 사실 정확도 A: 0.95, 95 % 신뢰구간" in done.stdout
    page = (store / ".posttrain" / "report.html").read_text(encoding="utf-8")
    assert '<html lang="ko">' in page
    assert page.count(" checked>") == 1


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    done = python(tmp_path, *MAIN)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("posttrain: no run of post_training or")
