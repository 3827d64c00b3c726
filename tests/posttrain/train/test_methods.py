"""SFT by every method: it learns, it is what it says, and adapters stay in float32."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, TrainerCallback

from posttrain.artifacts import BaseModel, Policy, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.models.adapters import adapter_weights
from posttrain.models.load import load_policy
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method
from posttrain.tracking import Curves, read_history
from posttrain.train import sft
from posttrain.train.checkpoints import checkpoints_of
from tests.architectures import make_base

ADAPTERS: tuple[Method, ...] = ("lora", "qlora", "dora", "bottleneck")
FAST = {
    "learning_rate": 1e-2,
    "num_epochs": 2,
    "batch_size": 2,
    "log_every_steps": 2,
    "lora": LoraRecipe(rank=4, alpha=8),
    "bottleneck": BottleneckRecipe(size=8),
}

World = Callable[[str], tuple[Tokens, BaseModel]]


@pytest.fixture
def world(records: Records, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> World:
    """Tokens and a base of the architecture named."""

    def make(architecture: str) -> tuple[Tokens, BaseModel]:
        base = make_base(architecture, tokenizer, tmp_path / architecture)
        chats = template(records, base, TemplateRecipe())
        return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64)), base

    return make


def recipe(method: Method, **changes: Any) -> SftRecipe:
    return SftRecipe(method=method, **{**FAST, **changes})


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = load_file(
        policy.path / "adapter" / "adapter_model.safetensors"
    )
    return found


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("method", ADAPTERS)
def test_every_method_learns_and_loads(method: Method, architecture: str, world: World) -> None:
    tokens, base = world(architecture)
    policy = sft.train(tokens, base, recipe(method))
    facts = policy.facts
    assert facts.method == method
    assert (facts.quantization is not None) == (method == "qlora")
    linear = 8 if architecture == "gpt2" else 14
    assert facts.num_adapted_modules == (4 if method == "bottleneck" else linear)
    assert facts.num_trainable == sum(weight.numel() for weight in weights(policy).values())
    losses = [point["loss"] for point in read_history(policy.path)]
    assert losses[-1] < 0.8 * losses[0]
    model = load_policy(base, policy)
    assert not any(weight.requires_grad for weight in model.parameters())
    assert all(tensor.dtype == torch.float32 for tensor in weights(policy).values())
    assert any("magnitude" in key for key in weights(policy)) == (method == "dora")


@pytest.mark.parametrize("method", ADAPTERS)
def test_alignment_07_adapters_are_float32_before_and_after_training(
    method: Method, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL casts them to bfloat16 on a quantised base; at 2e-5 half of LoRA-A would not move."""
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    tokens, base = world("llama")
    torch.manual_seed(0)
    slow = recipe(method, learning_rate=2e-5, schedule="constant", warmup_share=0.0)
    model = sft.to_train(base, slow)
    adapter = adapter_weights(model, sft.ADAPTER)
    before = {key: weight.detach().clone() for key, weight in adapter.items()}
    checkpoints = checkpoints_of("sft", slow, tokens, base)
    trainer = sft.new_trainer(model, tokens, base, slow, checkpoints)
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    assert all(torch.equal(weight, before[key]) for key, weight in adapter.items())
    trainer.checkpoints = checkpoints
    trainer.train()
    assert {weight.dtype for weight in adapter.values()} == {torch.float32}
    assert {weight.dtype for weight in adapter_weights(model, sft.ADAPTER).values()} == {
        torch.float32
    }
    down = [key for key in before if "lora_A" in key or "bottleneck_down" in key]
    assert down
    moved = torch.cat([(adapter[key] != before[key]).flatten() for key in down])
    assert float(moved.float().mean()) > 0.99


@pytest.mark.parametrize("method", ("full", *ADAPTERS))
def test_gradient_checkpointing_changes_no_gradient(method: Method, world: World) -> None:
    tokens, base = world("llama")
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        chosen = recipe(method, gradient_checkpointing=on, max_steps=1)
        model = sft.to_train(base, chosen)
        trainer = sft.new_trainer(
            model, tokens, base, chosen, checkpoints_of("sft", chosen, tokens, base)
        )
        keep = Gradients()
        trainer.add_callback(keep)
        trainer.checkpoints = checkpoints_of("sft", chosen, tokens, base)
        trainer.train()
        assert model.is_gradient_checkpointing is on
        found.append(keep.found)
    without, with_it = found
    assert without.keys() == with_it.keys() != set()
    assert any(float(gradient.abs().max()) > 0 for gradient in without.values())
    for key, gradient in without.items():
        assert torch.allclose(gradient, with_it[key], rtol=1e-5, atol=1e-7), key


class Gradients(TrainerCallback):
    """Keeps the gradients of a step."""

    found: dict[str, torch.Tensor]

    def on_pre_optimizer_step(self, *_: Any, model: Any = None, **more: Any) -> None:
        self.found = {
            key: weight.grad.clone()
            for key, weight in model.named_parameters()
            if weight.grad is not None
        }


@pytest.mark.parametrize("method", ["qlora", "dora", "bottleneck"])
def test_an_interrupted_run_equals_an_uninterrupted_one(
    method: Method, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, base = world("llama")
    chosen = recipe(method, checkpoint_every_steps=2)
    whole = sft.train(tokens, base, chosen)
    original = sft.SftTrainer.__init__

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 3

    def stopping(self: sft.SftTrainer, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        self.add_callback(Stop())

    with monkeypatch.context() as patch:
        patch.setattr(sft.SftTrainer, "__init__", stopping)
        with pytest.raises(RuntimeError, match="training ended at step 3 of"):
            sft.train(tokens, base, chosen)
    resumed = sft.train(tokens, base, chosen)
    for key, tensor in weights(whole).items():
        assert torch.equal(weights(resumed)[key], tensor), key


@pytest.mark.parametrize("method", ["lora", "full"])
def test_alignment_07_in_float16_a_loss_that_is_scaled_too_far_is_scaled_less(
    method: Method, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scaler is the real one, put where accelerate puts it on a GPU."""
    tokens, base = world("llama")
    chosen = recipe(method, max_steps=12, schedule="constant", warmup_share=0.0)
    model = sft.to_train(base, chosen)
    checkpoints = checkpoints_of("sft", chosen, tokens, base)
    trainer = sft.new_trainer(model, tokens, base, chosen, checkpoints)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    monkeypatch.setitem(trainer.accelerator.state._shared_state, "_mixed_precision", "fp16")
    monkeypatch.setattr(trainer.accelerator, "native_amp", True)
    monkeypatch.setattr(trainer.accelerator, "scaler", scaler)
    before = {key: weight.detach().clone() for key, weight in model.named_parameters()}
    figures = trainer.run(chosen, checkpoints, Curves(tmp_path / "sft", "sft"))
    assert 1 < scaler.get_scale() < 2.0**24
    norms = [point["grad_norm"] for point in read_history(tmp_path / "sft")]
    assert norms[0] is None  # infinite: that step was passed over
    assert norms[-1] is not None
    assert figures["steps"] == 12
    for key, weight in model.named_parameters():
        assert torch.equal(weight, before[key]) is not weight.requires_grad, key
    assert {w.dtype for w in model.parameters() if w.requires_grad} == {torch.float32}
