"""The PPO benchmark's table, its copies of our models, and two of its arms on a tiny world."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from benchmarks.ppo import OURS, RESULTS, TUTORIAL, Bench
from benchmarks.ppo_judge import Judge, Point
from benchmarks.ppo_models import demo_recipe, export
from benchmarks.ppo_start import Models
from benchmarks.ppo_table import Run, as_json, cell, table
from posttrain.align.score import load_scorer
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.figures import Figure
from posttrain.models.load import load_base
from tests.posttrain.align.conftest import (  # noqa: F401
    assistant,
    domain,
    reward,
    tokenizer,
    tokens,
)


def point(kl: float, gain: float) -> Point:
    def figure(value: float) -> Figure:
        return Figure(value=value, low=value, high=value, num=1)

    return Point(
        iteration=1, gain=figure(gain), kl=figure(kl), ended=1.0, length=9.0, samples=("a",)
    )


def run(seed: int = 0, *points: Point) -> Run:
    cost = {"num_episodes": 60, "cpu_seconds": 20.0, "peak_mb": 700.0, "growth_mb": 100.0}
    accuracy = {"fact_accuracy.A": 1.0, "fact_accuracy.B": 0.5}
    return Run(
        arm="ours",
        seed=seed,
        learning_rate=1e-3,
        points=points or (point(0.0, 0.0), point(4.0, 2.0)),
        accuracy=accuracy,
        cost=cost,
    )


def test_the_readme_shows_what_was_measured() -> None:
    runs = [Run.model_validate(one) for one in json.loads(RESULTS.read_text("utf-8"))["runs"]]
    assert table(runs) in Path("docs/benchmarks.md").read_text(encoding="utf-8")
    assert len({one.seed for one in runs}) == 3


def test_gains_are_compared_at_equal_kl() -> None:
    # In the root of KL: 1 lies half-way between 0 and 4.
    assert run().gain_at(1.0) == pytest.approx(1.0)
    assert run().gain_at(4.5) is None
    there_and_back = run(0, point(0.0, 0.0), point(1.0, 1.0), point(0.5, 0.9), point(2.0, 5.0))
    assert there_and_back.gain_at(0.81) == pytest.approx(0.9), "where it first comes by"


def test_a_cell_says_how_seeds_differ() -> None:
    assert cell([1.0, 3.0, 2.0], ".1f") == "2.0 (1.0 to 3.0)"
    assert cell([2.0, 2.01], ".1f") == "2.0"
    assert cell([1.0, None], ".1f") == "–"


def test_results_say_where_they_were_measured() -> None:
    found = json.loads(as_json([run(0), run(1)], [], demo_recipe()))
    assert found["seeds"] == [0, 1]
    assert found["medians"]["ours"]["episodes a CPU second"] == 3.0
    assert found["machine"]["cpus"] >= 1 and found["machine"]["flags"]


@pytest.fixture
def models(
    tokens: Tokens,  # noqa: F811
    domain: BaseModel,  # noqa: F811
    assistant: Policy,  # noqa: F811
    reward: RewardModel,  # noqa: F811
    tmp_path: Path,
) -> Models:
    """The tiny world with probes, and the baselines' copies of it."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    for file in tokens.path.glob("*.parquet"):
        (folder / file.name).write_bytes(file.read_bytes())
    ids = pq.read_table(tokens.path / "prompts.parquet").to_pylist()[0]["prompt_ids"]
    probes = [
        {"set": name, "prompt": "what ?", "answer": "gold", "prompt_ids": ids, "cloze_ids": ids}
        for name in ("A", "B", "C")
    ]
    pq.write_table(pa.Table.from_pylist(probes), folder / "probes.parquet")
    made = Models(
        tokens=Tokens.write(folder, "tokenize", tokens.facts).path,
        domain=domain.path,
        assistant=assistant.path,
        reward=reward.path,
        plain_sft=tmp_path / "sft",
        plain_reward=tmp_path / "reward",
    )
    export(made)
    return made


def test_the_copy_of_the_reward_model_scores_as_ours_does(models: Models) -> None:
    stored, domain, _, reward = models.artifacts  # noqa: F811
    rows = pq.read_table(stored.path / "preferences.parquet").to_pylist()[:8]
    whole = [[*row["prompt_ids"], *row["chosen_ids"]] for row in rows]
    scores = load_scorer(load_base(domain), reward, domain, pad_id=0).scores(whole, batch_size=4)
    plain = AutoModelForSequenceClassification.from_pretrained(models.plain_reward).eval()
    with torch.no_grad():
        theirs = torch.cat([plain(torch.tensor([row])).logits[0] for row in whole])
    gap = theirs - scores / reward.facts.score_std
    assert float(gap.max() - gap.min()) < 1e-4, "but for a constant"


@pytest.mark.slow
def test_our_arm_and_the_tutorial_run_and_are_judged(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "checkpoints", "cache"):
        monkeypatch.setenv(f"POSTTRAIN_{name.upper()}", str(tmp_path / name))
    recipe = demo_recipe()
    small = {"num_iterations": 2, "batch_size": 8, "max_new_tokens": 8, "held_out_set": "revision"}
    recipe = recipe.model_copy(update={"ppo": recipe.ppo.model_copy(update=small)})
    bench = Bench(recipe, models, Judge(models, recipe), tmp_path / "runs")
    for arm in (OURS, TUTORIAL):
        rate = arm.rates[0] if arm.rates else None
        found = bench.judged(bench.train(arm, 0, rate, sys.executable))
        first, *_, last = found.points
        assert [one.iteration for one in found.points] == [0, 1, 2]
        assert first.kl.value == 0 and first.gain.value == pytest.approx(0, abs=1e-5)
        assert last.kl.value != 0, "the policy has moved"
        assert found.cost["num_episodes"] == 16 and found.cost["cpu_seconds"] > 0
        assert 0 < found.cost["growth_mb"] < found.cost["peak_mb"]
