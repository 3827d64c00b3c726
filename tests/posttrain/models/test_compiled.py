"""Compiled layers compute what the layers do, and no longer than they are asked to."""

import sysconfig
from pathlib import Path

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


def model_of(family: str, checkpointing: bool = False) -> nn.Module:
    plain = {"r": 4, "lora_alpha": 12, "init_lora_weights": False, "target_modules": "all-linear"}
    base = tiny(family)
    torch.manual_seed(1)
    model = get_peft_model(base, LoraConfig(**plain, fan_in_fan_out=family == "gpt2"))
    fuse_adapters(model)
    attend_within_sequences(model)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model.train()


def row(*lengths: int) -> dict[str, Tensor]:
    """A packed row."""
    ids = torch.arange(5, 5 + sum(lengths))[None]
    return {"input_ids": ids, "position_ids": torch.cat([*map(torch.arange, lengths)])[None]}


def read(model: nn.Module, packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits of a row, and the gradients of a loss."""
    logits = model(**packed, use_cache=False).logits
    logits.square().mean().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach(), **grads}


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


@pytest.fixture(autouse=True)
def anew() -> None:
    torch.compiler.reset()
    counters.clear()


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_are_the_layers_own(family: str) -> None:
    model = model_of(family)
    with compiled(model, TRACED):
        found = read(model, row(6, 5))
    assert graphs() > 0
    assert_close(found, read(model_of(family), row(6, 5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_under_checkpointing_they_are_too(family: str) -> None:
    model = model_of(family, checkpointing=True)
    with compiled(model, TRACED):
        found = read(model, row(6, 5))
    assert_close(found, read(model_of(family), row(6, 5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_other_lengths_need_no_other_graphs(family: str) -> None:
    model = model_of(family)
    with compiled(model, TRACED), torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        read(model, row(6, 5))
        first = graphs()
        read(model, row(7, 3, 6))  # the length is a variable from here on
        second = graphs()
        assert second <= 2 * first
        for lengths in ((9,), (2, 2, 3, 4, 9), (5, 17), (4, 4, 4)):
            read(model, row(*lengths))
    assert graphs() == second


def test_afterwards_the_layers_run_as_they_are() -> None:
    model = model_of("llama")
    names = set(model.state_dict())
    with pytest.raises(KeyError, match="here"), compiled(model, TRACED):
        assert set(model.state_dict()) == names
        raise KeyError("here")
    read(model, row(6, 5))
    assert not graphs()


def test_a_model_without_such_layers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="POSTTRAIN_COMPILE: Linear has no layers"):
        compiled(nn.Linear(2, 2)).__enter__()


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_a_machine_without_a_compiler_is_told_before_training(
    device: str, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "Python.h").touch()
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(variable, "mine")
    with pytest.raises(ValueError, match=rf"on {device} needs mine .*apt-get install g\+\+"):
        check_compiler(torch.device(device))
    (tmp_path / "mine").touch(mode=0o755)
    check_compiler(torch.device(device))
    (tmp_path / "Python.h").unlink()
    with pytest.raises(ValueError, match=r"needs \S+Python.h, not found"):
        check_compiler(torch.device(device))
