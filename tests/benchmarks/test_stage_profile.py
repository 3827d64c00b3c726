"""The flame graph of a stage, on a tiny model; `pyinstrument` is in the extra `dev`."""

from pathlib import Path

import pytest

pytest.importorskip("pyinstrument")
from benchmarks import stage_profile  # imports it


@pytest.mark.parametrize("stage", ["ingest", "tokenize"])
def test_a_stage_has_its_flame_graph(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORK", "CHECKPOINTS", "CACHE"):  # the profile sets its own
        monkeypatch.setenv(f"POSTTRAIN_{name}", str(tmp_path))
    stage_profile.main([stage, "--tiny", "--out", str(tmp_path)])
    page = (tmp_path / f"{stage}.html").read_text(encoding="utf-8")
    assert f"posttrain/data/{stage}.py" in page
    assert "posttrain/data/readers.py" in page or stage != "ingest"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "reward_model", "ppo", "self_critique", "evaluate"])
def test_a_training_stage_has_its_flame_graph(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORK", "CHECKPOINTS", "CACHE"):
        monkeypatch.setenv(f"POSTTRAIN_{name}", str(tmp_path))
    stage_profile.main([stage, "--tiny", "--out", str(tmp_path)])
    assert "posttrain/" in (tmp_path / f"{stage}.html").read_text(encoding="utf-8")
