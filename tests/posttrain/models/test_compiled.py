"""Compiled layers compute what the layers do, and no longer than they are asked to."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.testing import assert_close

from posttrain.models.compiled import check_compiler, compiled
from posttrain.models.fused_lora import fuse_adapters
from posttrain.models.packed_attention import attend_within_sequences
from tests.tiny_models import FAMILIES, tiny

TRACED = "aot_eager"
"""Graphs, forward and backward, without a compiler."""

PACKED = {
    "input_ids": torch.tensor([[5, 6, 7, 8, 9, 10, 30, 31, 32, 33, 34]]),
    "position_ids": torch.tensor([[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4]]),
}


def model_of(family: str, checkpointing: bool = False) -> nn.Module:
    plain = {"r": 4, "lora_alpha": 12, "init_lora_weights": False, "target_modules": "all-linear"}
    base = tiny(family)
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(**plain, fan_in_fan_out=family == "gpt2"))
    fuse_adapters(model)
    attend_within_sequences(model)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def read(model: nn.Module) -> dict[str, Tensor]:
    """Logits of two texts in a row, and the gradients of a loss."""
    logits = model(**PACKED, use_cache=False).logits
    logits.square().mean().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **grads}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_the_layers_own(family: str, checkpointing: bool) -> None:
    torch.compiler.reset()
    counters.clear()
    model = model_of(family, checkpointing)
    with compiled(model, TRACED):
        found = read(model)
    assert counters["stats"]["unique_graphs"] > 0
    assert_close(found, read(model_of(family, checkpointing)), rtol=1e-4, atol=1e-5)


def test_afterwards_the_layers_run_as_they_are() -> None:
    torch.compiler.reset()
    model = model_of("llama")
    names = set(model.state_dict())
    with pytest.raises(KeyError, match="here"), compiled(model, TRACED):
        assert set(model.state_dict()) == names
        raise KeyError("here")
    counters.clear()
    read(model)
    assert not counters["stats"]["unique_graphs"]


def test_a_model_without_such_layers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="POSTTRAIN_COMPILE: Linear has no layers"):
        compiled(nn.Linear(2, 2)).__enter__()


def test_a_machine_without_a_compiler_is_told_before_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r"install g\+\+"), compiled(tiny("llama")):
        pass
    mine = tmp_path / "my-compiler"
    mine.touch(mode=0o755)
    monkeypatch.setenv("CXX", str(mine))
    check_compiler()
