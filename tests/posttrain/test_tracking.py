"""MLflow has a stage's curves while it trains, under the names of every stage."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

from posttrain import spool
from posttrain.artifacts import BaseModel, Records
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.reports import StepCost
from posttrain.tracking import Curves, log_cost, log_figures, log_page, metric_name, read_history
from tests.tiny_run import tokens_of

STEPS = 3_000
"""More than a minute's worth: what is seen is seen while it trains."""

PROGRAM = """
import sys
from pathlib import Path
import mlflow
from posttrain.artifacts import BaseModel, Tokens
from posttrain.recipe.sft import SftRecipe
from posttrain.train import sft
uri, tokens, base, recipe = sys.argv[1:]
mlflow.set_tracking_uri(uri)
mlflow.set_experiment("live")
with mlflow.start_run():
    sft.train(Tokens(Path(tokens)), BaseModel(Path(base)), SftRecipe.model_validate_json(recipe))
"""


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def active(uri: str, tmp_path: Path) -> "Iterator[mlflow.ActiveRun]":
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("names", (tmp_path / "artifacts").as_uri())
    with mlflow.start_run(experiment_id=experiment) as run:
        yield run
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize(
    ("group", "figure", "name"),
    [
        ("train", "loss", "train/loss"),
        ("train", "eval_loss", "eval/loss"),
        ("ppo", "kl", "ppo/kl"),
    ],
)
def test_a_name_says_what_is_measured(group: str, figure: str, name: str) -> None:
    assert metric_name(group, figure) == name


def test_stages_share_their_names(active: "mlflow.ActiveRun", uri: str, tmp_path: Path) -> None:
    Curves(tmp_path / "sft", "sft").log(1, {"loss": 2.0, "eval_loss": 1.5})
    Curves(tmp_path / "reward", "reward_model").log(2, {"loss": 0.5})
    Curves(tmp_path / "rlaif", "rlaif", "ppo").log(3, {"kl": 0.1})
    assert spool.flush()
    client, run = MlflowClient(uri), active.info.run_id
    points = {
        name: [(point.step, point.value) for point in client.get_metric_history(run, name)]
        for name in ("train/loss", "eval/loss", "ppo/kl")
    }
    assert points == {
        "train/loss": [(1, 2.0), (2, 0.5)],
        "eval/loss": [(1, 1.5)],
        "ppo/kl": [(3, 0.1)],
    }
    assert read_history(tmp_path / "sft") == [{"step": 1, "loss": 2.0, "eval_loss": 1.5}]


def test_cost_and_page_lie_in_the_run(active: "mlflow.ActiveRun", uri: str) -> None:
    cost = StepCost(
        step="ppo",
        wall_seconds=2.5,
        cpu_seconds=4.0,
        tokens={"trained": 7, "generated": 3},
        bytes_at_start=0,
        peak_bytes=512 * 2**20,
        peak_gpu_bytes=None,
    )
    log_cost(cost)
    log_figures("result", {"steps": 9.0})
    log_page("report.html", "<p>말씀</p>")
    assert spool.flush()
    client, run = MlflowClient(uri), active.info.run_id
    assert client.get_run(run).data.metrics == {
        "cost/wall_seconds": 2.5,
        "cost/cpu_seconds": 4.0,
        "cost/peak_memory_mib": 512.0,
        "cost/trained_tokens": 7.0,
        "cost/generated_tokens": 3.0,
        "result/steps": 9.0,
    }
    kept = Path(client.download_artifacts(run, "report.html"))
    assert kept.read_text(encoding="utf-8") == "<p>말씀</p>"


@pytest.mark.slow
def test_the_store_has_the_curve_while_the_stage_trains(
    records: Records, base: BaseModel, uri: str, tmp_path: Path
) -> None:
    tokens = tokens_of(records, base)
    recipe = SftRecipe(
        method="lora",
        lora=LoraRecipe(rank=4, alpha=8),
        learning_rate=1e-3,
        num_epochs=1,
        max_steps=STEPS,
        batch_size=2,
        log_every_steps=1,
    )
    MlflowClient(uri)  # makes the tables, before two processes would
    given = [uri, str(tokens.path), str(base.path), recipe.model_dump_json()]
    with (tmp_path / "log").open("w") as log:
        trains = subprocess.Popen([sys.executable, "-c", PROGRAM, *given], stdout=log, stderr=log)
        try:
            seen = first_points(uri, trains)
            assert trains.poll() is None, (tmp_path / "log").read_text()
        finally:
            trains.kill()
            trains.wait()
    assert [point.step for point in seen] == list(range(1, len(seen) + 1))
    assert len(seen) < STEPS


def first_points(uri: str, trains: "subprocess.Popen[bytes]") -> list[Metric]:
    """Three or more points of `train/loss`, as soon as another process finds them in the store."""
    client = MlflowClient(uri)
    while trains.poll() is None:
        experiment = client.get_experiment_by_name("live")
        for run in client.search_runs([experiment.experiment_id]) if experiment else ():
            points = client.get_metric_history(run.info.run_id, "train/loss")
            if len(points) >= 3:
                return list(points)
        time.sleep(0.2)
    return []
