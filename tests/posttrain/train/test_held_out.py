"""The loss on held-out conversations after each epoch: what it is, when, and that nothing moves."""

import os
import signal
from pathlib import Path
from typing import Any

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mlflow import MlflowClient

from posttrain import spool
from posttrain.artifacts import BaseModel, Policy, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.facts import RecordsFacts
from posttrain.models.load import load_policy
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe, Method
from posttrain.tracking import read_history
from posttrain.train import sft
from posttrain.train.interrupt import Interrupted
from posttrain.train.trainer import GuardedTrainer
from tests.architectures import make_base
from tests.store import migrated_store as migrated_store
from tests.store import registry as registry

FAST = {
    "learning_rate": 1e-2,
    "num_epochs": 2,
    "batch_size": 2,
    "log_every_steps": 2,
    "lora": LoraRecipe(rank=4, alpha=8, dropout=0.2),
}


def recipe(method: Method = "lora", evaluated: bool = True, **changes: Any) -> SftRecipe:
    return SftRecipe(method=method, evaluate_each_epoch=evaluated, **{**FAST, **changes})


@pytest.fixture
def base(tokenizer: Any, tmp_path: Path) -> BaseModel:
    return make_base("llama", tokenizer, tmp_path / "llama")


def tokens_of(base: BaseModel, folder: Path, num_held_out: int) -> Tokens:
    """Conversations whose answers are of very different lengths."""
    folder.mkdir()
    rows = [
        {
            "id": f"i{i}",
            "kind": "qa",
            "group": f"g{i}",
            "split": "held_out" if i < num_held_out else "train",
            "messages": [
                {"role": "user", "content": f"{i} what colour ?", "learn": None},
                {"role": "assistant", "content": "red indeed " * (1 + i % 5), "learn": None},
            ],
        }
        for i in range(33)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "instructions.parquet")
    facts = RecordsFacts(num_rows={"instructions": len(rows)}, sources={})
    chats = template(Records.write(folder, "validate", facts), base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))


@pytest.fixture
def tokens(base: BaseModel, tmp_path: Path) -> Tokens:
    return tokens_of(base, tmp_path / "some", num_held_out=9)


def points(policy: Policy) -> list[tuple[float, float]]:
    """Step and held-out loss."""
    curve = read_history(policy.path)
    return [(p["step"], p["eval_loss"]) for p in curve if "eval_loss" in p]  # type: ignore[misc]


@torch.no_grad()
def by_hand(policy: Policy, base: BaseModel, tokens: Tokens) -> tuple[float, float]:
    """Of the held-out conversations, one at a time: loss a token, and the mean of their means."""
    model = load_policy(base, policy)
    rows = pq.read_table(tokens.path / sft.EXAMPLES, filters=[("split", "==", "held_out")])
    sums, counts = [], []
    for row in rows.to_pylist():
        ids, on = torch.tensor([row["input_ids"]]), torch.tensor(row["assistant_mask"][1:]).bool()
        log_probs = model(ids).logits[0, :-1].double().log_softmax(-1)
        losses = -log_probs.gather(1, ids[0, 1:, None])[:, 0]
        sums.append(float(losses[on].sum()))
        counts.append(int(on.sum()))
    means = [total / count for total, count in zip(sums, counts, strict=True)]
    return sum(sums) / sum(counts), sum(means) / len(means)


@pytest.mark.parametrize("method", ["lora", "full", "qlora"])
def test_alignment_08_the_held_out_loss_is_of_tokens_and_leaks_nothing(
    method: Method, tokens: Tokens, base: BaseModel
) -> None:
    """Packed two rows at a time, it equals what each conversation costs alone."""
    policy = sft.train(tokens, base, recipe(method))
    steps = policy.facts.figures["steps"]
    assert [step for step, _ in points(policy)] == [steps / 2, steps]
    a_token, of_means = by_hand(policy, base, tokens)
    assert points(policy)[-1][1] == pytest.approx(a_token, rel=1e-5)
    assert abs(a_token - of_means) > 1e-3 * a_token
    assert policy.facts.figures["eval_loss"] == points(policy)[-1][1]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_weights_are_the_same_bits_with_it_and_without(
    method: Method, tokens: Tokens, base: BaseModel
) -> None:
    """Dropout draws between two evaluations."""
    made = [sft.train(tokens, base, recipe(method, evaluated)) for evaluated in (False, True)]
    weights = [
        {name: sha for name, sha in one.manifest.files.items() if name.endswith("safetensors")}
        for one in made
    ]
    assert weights[0] == weights[1] != {}
    assert "eval_loss" not in made[0].facts.figures
    losses = [[p["loss"] for p in read_history(one.path) if "loss" in p] for one in made]
    assert losses[0] == losses[1]


def test_a_plan_that_ends_within_an_epoch_ends_with_a_figure(
    tokens: Tokens, base: BaseModel
) -> None:
    policy = sft.train(tokens, base, recipe(max_steps=3))
    assert points(policy)[-1][0] == 3


def test_without_held_out_conversations_it_is_refused(base: BaseModel, tmp_path: Path) -> None:
    tokens = tokens_of(base, tmp_path / "none", num_held_out=0)
    with pytest.raises(ValueError, match=r"no conversation is held out; set ingest\.instructions"):
        sft.train(tokens, base, recipe())


def test_a_resumed_stage_has_the_figure_of_the_epoch_in_whose_last_step_it_was_stopped(
    tokens: Tokens, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sft.train(tokens, base, recipe())
    original = GuardedTrainer._clip_grad_norm

    def told(self: GuardedTrainer, model: torch.nn.Module) -> torch.Tensor:
        if self.state.global_step == whole.facts.figures["steps"] / 2 - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(GuardedTrainer, "_clip_grad_norm", told)
        sft.train(tokens, base, recipe())
    assert points(sft.train(tokens, base, recipe())) == points(whole)


def test_the_run_tracks_the_figure_of_each_epoch_and_the_kernels(
    tokens: Tokens, base: BaseModel, registry: MlflowClient
) -> None:
    with mlflow.start_run() as run:
        policy = sft.train(tokens, base, recipe())
    assert spool.flush()
    logged = registry.get_metric_history(run.info.run_id, "eval/loss")
    assert [(point.step, point.value) for point in logged] == points(policy)
    kernels = registry.get_run(run.info.run_id).data.params["sft.kernels"]
    assert kernels == "float32 (a CPU), sdpa (a CPU), no liger (a CPU)"
