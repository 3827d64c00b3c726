"""A layer and its adapter as one function, against PEFT's own layer."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.testing import assert_close

from posttrain.models import fused_lora
from posttrain.models.fused_lora import FusedLora, fuse_adapters
from posttrain.models.merged import merged
from tests.tiny_models import FAMILIES, sharded, tiny

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12], [30, 31, 32, 33, 34, 35, 36, 37]])
Found = dict[str, Tensor]
PLAIN = [name for name in FAMILIES if name != "gpt2"]  # whose layers are transposed


def adapted(
    family: str = "llama", dtype: torch.dtype = torch.float32, seed: int = 1, **config: object
) -> PeftModel:
    base = tiny(family).to(dtype)
    torch.manual_seed(seed)
    plain = {"r": 4, "lora_alpha": 12, "init_lora_weights": False, "target_modules": "all-linear"}
    given = LoraConfig(**{**plain, **config}, fan_in_fan_out=family == "gpt2")
    return get_peft_model(base, given, autocast_adapter_dtype=True).eval()


def with_bias(model: PeftModel, trains: bool) -> PeftModel:
    for module in model.modules():
        if isinstance(module, Linear):
            base = module.get_base_layer()
            base.bias = nn.Parameter(torch.arange(float(base.out_features)) / 50, trains)
    return model


def read(model: PeftModel, fused: bool) -> Found:
    """Logits, and the gradients of a loss."""
    if fused:
        fuse_adapters(model)
    logits = model(input_ids=IDS, use_cache=False).logits
    logits.float().square().mean().backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return {"logits": logits.detach().float(), **grads}


@contextmanager
def counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How often the one function is called."""
    calls: list[int] = []
    apply = fused_lora._Adapted.apply
    with monkeypatch.context() as patch:
        patch.setattr(
            fused_lora._Adapted, "apply", lambda *given: (calls.append(1), apply(*given))[1]
        )
        yield calls


@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_pefts(family: str) -> None:
    theirs, ours = read(adapted(family), fused=False), read(adapted(family), fused=True)
    assert len(ours) > 1
    assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_layer_with_a_bias_and_rslora() -> None:
    def model() -> PeftModel:
        return with_bias(adapted(use_rslora=True), trains=False)

    assert_close(read(model(), True), read(model(), False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("family", PLAIN)
def test_in_bfloat16_it_errs_no_more_than_peft(family: str, autocast: bool) -> None:
    """Of the logits, and of all gradients together: the mean ratio over adapters.

    One adapter's is 0.6 to 1.7, as rounding falls.
    """
    ratios = []
    for seed in range(12):
        exact = read(adapted(family, seed=seed), fused=False)
        errors = []
        for fused in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                found = read(adapted(family, torch.bfloat16, seed=seed), fused)
            assert all(one.dtype == torch.float32 for one in found.values())
            gaps = {name: (found[name] - exact[name]).square().sum() for name in exact}
            grads = sum(gap for name, gap in gaps.items() if name != "logits")
            errors.append(torch.stack([gaps["logits"], torch.as_tensor(grads)]))
        ratios.append(0.5 * (errors[0] / errors[1]).log())
    assert (torch.stack(ratios).mean(0).exp() < 1.25).all(), ratios


def test_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with counting(monkeypatch) as calls:
        read(adapted(), fused=True)
    assert len(calls) == 2 * 7
    with counting(monkeypatch) as calls, torch.autocast("cpu", torch.bfloat16):
        read(adapted(dtype=torch.bfloat16), fused=True)
    assert len(calls) == 2 * 7


@pytest.mark.parametrize(
    "case",
    [
        *("dora", "dropout", "disabled", "merged", "two", "float16", "sharded", "transposed"),
        *("a trained bias", "an adapter's bias"),
    ],
)
def test_every_other_case_is_pefts_own(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    more: dict[str, object] = {
        "dora": {"use_dora": True},
        "dropout": {"lora_dropout": 0.5},
        "an adapter's bias": {"lora_bias": True},
    }.get(case, {})
    dtype = torch.float16 if case == "float16" else torch.float32
    model = adapted("gpt2" if case == "transposed" else "llama", dtype, **more)
    fuse_adapters(model)
    if case == "dropout":
        model.train()
    if case == "a trained bias":
        with_bias(model, trains=True)
    if case == "two":
        model.add_adapter("other", model.peft_config["default"])
        model.base_model.set_adapter(["default", "other"])
    if case == "sharded":
        found = [module for module in model.modules() if isinstance(module, FusedLora)]
        sharded([layer for one in found for layer in (one.get_base_layer(), one.lora_A["default"])])
    with counting(monkeypatch) as calls, torch.no_grad():
        if case == "disabled":
            with model.disable_adapter():
                model(input_ids=IDS)
        elif case == "merged":
            with merged(model):
                model(input_ids=IDS)
        else:
            model(input_ids=IDS)
    assert not calls


def test_dropout_that_is_off_is_no_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(lora_dropout=0.5).eval()
    with counting(monkeypatch) as calls:
        read(model, fused=True)
    assert calls


def test_under_checkpointing() -> None:
    model = adapted()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
    theirs = read(adapted().train(), fused=False)
    assert_close(read(model.train(), fused=True), theirs, rtol=1e-4, atol=1e-5)


def test_a_second_adapter_and_peft_itself_go_on_as_before() -> None:
    model = adapted()
    fuse_adapters(model)
    model.add_adapter("other", model.peft_config["default"])
    model.set_adapter("other")
    fuse_adapters(model)
    with torch.no_grad():
        before = model(input_ids=IDS).logits
        after = model.merge_and_unload()(input_ids=IDS).logits
    assert_close(after, before, rtol=1e-4, atol=1e-5)
