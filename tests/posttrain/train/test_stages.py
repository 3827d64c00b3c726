"""Base FT and SFT on tiny models: what they make, and what they refuse."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.facts import Reference
from posttrain.models.load import load_base, load_policy
from posttrain.models.seal import seal
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.tracking import read_history
from posttrain.train import base_finetune, sft
from posttrain.train.interrupt import Interrupted
from posttrain.train.trainer import GuardedTrainer
from tests.faults import Injected

FAST = {"learning_rate": 1e-2, "num_epochs": 3, "batch_size": 2, "log_every_steps": 2}
LORA = LoraRecipe(rank=4, alpha=8)


def test_full_base_ft_makes_a_new_base_that_knows_more(tokens: Tokens, base: BaseModel) -> None:
    recipe = BaseFinetuneRecipe(method="full", **FAST)
    domain = base_finetune.train(tokens, base, recipe)
    assert domain.stage == "base_finetune"
    training = domain.facts.training
    assert base.facts.training is None
    assert training is not None
    assert training.recipe == recipe.model_dump(mode="json")
    assert training.figures["loss"] > 0
    assert domain.facts.fingerprint != base.facts.fingerprint
    assert domain.facts.reference.kind == "own"
    losses = [point["loss"] for point in read_history(domain.path)]
    assert losses[-1] < 0.7 * losses[0]


def test_method_none_hands_the_base_on(tokens: Tokens, base: BaseModel) -> None:
    assert base_finetune.train(tokens, base, BaseFinetuneRecipe(method="none", **FAST)) is base


def test_lora_base_ft_on_a_reference_stores_a_delta_alone(
    tokens: Tokens, base: BaseModel, tmp_path: Path
) -> None:
    local = referred_to(base, tmp_path)
    recipe = BaseFinetuneRecipe(method="lora", lora=LORA, **FAST)
    domain = base_finetune.train(tokens, local, recipe)
    assert domain.facts.has_delta
    assert [file.name for file in domain.path.rglob("*.safetensors")] == [
        "adapter_model.safetensors"
    ]
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.allclose(load_base(domain)(ids).logits, load_base(local)(ids).logits)


def referred_to(base: BaseModel, tmp_path: Path) -> BaseModel:
    """The same base as a reference to a folder outside the artifact."""
    folder = tmp_path / "reference"
    folder.mkdir()
    weights = base.path / "weights"
    reference = Reference(kind="local", source=str(weights))
    return seal(folder, "base_model", reference, weights, load_tokenizer(base), has_delta=False)


def test_sft_trains_an_adapter_on_the_domain(tokens: Tokens, base: BaseModel) -> None:
    policy = sft.train(tokens, base, SftRecipe(method="lora", lora=LORA, **FAST))
    assert policy.facts.num_adapted_modules == 14
    assert policy.facts.trained_on.base_fingerprint == base.facts.fingerprint
    losses = [point["loss"] for point in read_history(policy.path)]
    assert losses[-1] < losses[0]
    load_policy(base, policy)


def test_full_sft_writes_weights(tokens: Tokens, base: BaseModel) -> None:
    policy = sft.train(tokens, base, SftRecipe(method="full", **FAST))
    assert policy.facts.method == "full"
    load_policy(base, policy)


def test_a_stage_shorter_than_the_interval_has_a_curve(tokens: Tokens, base: BaseModel) -> None:
    recipe = BaseFinetuneRecipe(method="full", **{**FAST, "log_every_steps": 500})
    assert len(read_history(base_finetune.train(tokens, base, recipe).path)) == 1


def test_packed_rows_keep_every_supervised_token(tokens: Tokens) -> None:
    rows = list(sft.packed(tokens.path / "instructions.parquet", 64, "train"))
    supervised = sum(label != -100 for row in rows for label in row["labels"])
    held_out = 8
    answer = 4  # `it is <word>` and the end token
    assert supervised == (40 - held_out) * answer
    assert all(len(row["input_ids"]) == sum(row["lengths"]) <= 64 for row in rows)


def test_nan_is_seen_at_its_step(
    tokens: Tokens, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = GuardedTrainer.compute_loss

    def poisoned(self: GuardedTrainer, *args: object, **kwargs: object) -> torch.Tensor:
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 3 else loss

    monkeypatch.setattr(GuardedTrainer, "compute_loss", poisoned)
    with pytest.raises(FloatingPointError, match="step 4: the loss is NaN or infinite"):
        base_finetune.train(tokens, base, BaseFinetuneRecipe(method="full", **FAST))


def test_bad_steps_within_the_tolerance_are_skipped(
    tokens: Tokens, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = GuardedTrainer.compute_loss

    def poisoned(self: GuardedTrainer, *args: object, **kwargs: object) -> torch.Tensor:
        loss = original(self, *args, **kwargs)
        return loss * float("nan") if self.state.global_step == 3 else loss

    monkeypatch.setattr(GuardedTrainer, "compute_loss", poisoned)
    recipe = BaseFinetuneRecipe(method="full", max_bad_steps=1, **FAST)
    domain = base_finetune.train(tokens, base, recipe)
    assert all(torch.isfinite(p).all() for p in load_base(domain).parameters())


def full_base_ft(tokens: Tokens, base: BaseModel) -> BaseModel:
    recipe = BaseFinetuneRecipe(method="full", max_steps=7, **FAST)
    return base_finetune.train(tokens, base, recipe)


def lora_sft(tokens: Tokens, base: BaseModel) -> Policy:
    return sft.train(tokens, base, SftRecipe(method="lora", lora=LORA, max_steps=7, **FAST))


@pytest.mark.fault("Training", "a stage is asked to end", "SIGTERM within a step, the last one too")
@pytest.mark.parametrize("train", [full_base_ft, lora_sft])
@pytest.mark.parametrize("last", [5, 7])
def test_sigterm_saves_and_never_counts_as_success(
    tokens: Tokens,
    base: BaseModel,
    train: Callable[[Tokens, BaseModel], BaseModel | Policy],
    last: int,
    monkeypatch: pytest.MonkeyPatch,
    injected: Injected,
) -> None:
    """In the last of seven steps, too; the same call then ends in the same bits."""
    whole = train(tokens, base)
    original = GuardedTrainer._clip_grad_norm

    def told(self: GuardedTrainer, model: torch.nn.Module) -> torch.Tensor:
        if self.state.global_step == last - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(GuardedTrainer, "_clip_grad_norm", told)
        with pytest.raises(Interrupted, match=f"training ended at step {last} of 7"):
            train(tokens, base)
    resumed = train(tokens, base)
    hashes = [made.manifest.files for made in (whole, resumed)]
    weights = [{n: h for n, h in one.items() if n.endswith(".safetensors")} for one in hashes]
    injected.add(lost=weights[0] != weights[1])
    assert weights[0] == weights[1]
    curves = [[p["step"] for p in read_history(made.path)] for made in (whole, resumed)]
    assert curves[0] == curves[1]


def test_training_that_ends_early_is_no_success_and_goes_on(
    tokens: Tokens, base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(TrainerCallback):
        def on_step_end(self, args: object, state: object, control: object, **_: object) -> None:
            if state.global_step == 5:  # type: ignore[attr-defined]
                control.should_training_stop = True  # type: ignore[attr-defined]

    recipe = BaseFinetuneRecipe(method="full", checkpoint_every_steps=2, **FAST)
    whole = base_finetune.train(tokens, base, recipe)
    original = GuardedTrainer.__init__

    def stopping(self: GuardedTrainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Stop())

    with monkeypatch.context() as patch:
        patch.setattr(GuardedTrainer, "__init__", stopping)
        with pytest.raises(RuntimeError, match="training ended at step 5 of"):
            base_finetune.train(tokens, base, recipe)
    resumed = base_finetune.train(tokens, base, recipe)
    assert resumed.facts.fingerprint == whole.facts.fingerprint  # bit by bit
