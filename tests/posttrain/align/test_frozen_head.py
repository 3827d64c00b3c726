"""Log-probabilities through a frozen output layer, against autograd through its logits."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from posttrain.align import forward, frozen_head
from posttrain.align.forward import log_probs, log_probs_and_entropies, log_probs_and_hits, logits
from tests.tiny_models import FAMILIES, sharded, tiny

NUM_TOKENS = 11
TEMPERATURE = 0.7


def frozen(family: str) -> PreTrainedModel:
    model = tiny(family)
    model.requires_grad_(False)
    return model


def given(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    width = model.config.get_text_config().hidden_size
    hidden_ND = torch.randn(NUM_TOKENS, width).to(model.dtype).requires_grad_()
    token_N = torch.randint(0, 300, (NUM_TOKENS,))
    token_N[0] = logits(model, hidden_ND[:1]).argmax()  # a hit
    return hidden_ND, token_N


def exact(model: PreTrainedModel, hidden_ND: Tensor, token_N: Tensor) -> dict[str, Tensor]:
    """All by autograd, in float64."""
    model = model.double()
    hidden_ND = hidden_ND.detach().double().requires_grad_()
    all_NV = (logits(model, hidden_ND) / TEMPERATURE).log_softmax(-1)
    log_prob_N = all_NV.gather(-1, token_N[:, None]).squeeze(-1)
    (weights(log_prob_N) * log_prob_N).sum().backward()
    return {
        "log_probs": log_prob_N.detach(),
        "hits": all_NV.argmax(-1) == token_N,
        "entropies": -(all_NV.exp() * all_NV).sum(-1).detach(),
        "gradient": hidden_ND.grad,
    }


def weights(log_prob_N: Tensor) -> Tensor:
    """A loss that weighs each token otherwise."""
    return torch.linspace(-1, 2, len(log_prob_N))


def ours(model: PreTrainedModel, hidden_ND: Tensor, token_N: Tensor) -> dict[str, Tensor]:
    log_prob_N, hit_N = log_probs_and_hits(model, hidden_ND, token_N, TEMPERATURE)
    (weights(log_prob_N) * log_prob_N).sum().backward()
    watched_N, entropy_N = log_probs_and_entropies(model, hidden_ND, token_N, TEMPERATURE)
    assert watched_N.equal(log_prob_N), "the ratio of a policy to itself is 1, bit by bit"
    assert log_prob_N.dtype == entropy_N.dtype == torch.float32
    assert hidden_ND.grad is not None and hidden_ND.grad.dtype == hidden_ND.dtype
    return {
        "log_probs": log_prob_N.detach().double(),
        "hits": hit_N,
        "entropies": entropy_N.double(),
        "gradient": hidden_ND.grad.double(),
    }


@pytest.mark.parametrize("chunk", [2, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_figures_and_gradient_are_autograds(
    family: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma's logits are capped; eleven tokens in chunks of two, or in one."""
    monkeypatch.setattr(frozen_head, "CHUNK", {"cpu": 300 * chunk})
    monkeypatch.setattr(frozen_head, "MIN_TOKENS", 1)
    model = frozen(family)
    hidden_ND, token_N = given(model)
    found = ours(model, hidden_ND, token_N)
    assert found["hits"][0]
    assert_close(found, exact(model, hidden_ND, token_N), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bfloat16_it_errs_no_more_than_autograd(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = frozen(family).bfloat16()
    hidden_ND, token_N = given(model)
    found = ours(model, hidden_ND, token_N)
    hidden_ND.grad = None
    with monkeypatch.context() as patch:
        patch.setattr(frozen_head, "is_frozen", lambda *_: False)
        usual = ours(model, hidden_ND, token_N)
    true = exact(model, hidden_ND, token_N)
    for name in ("log_probs", "entropies", "gradient"):
        error, theirs = ((one[name] - true[name]).norm() for one in (found, usual))
        assert error <= 1.25 * theirs, name


def test_nothing_as_wide_as_the_vocabulary_waits_for_the_backward_pass() -> None:
    model = frozen("llama")
    hidden_ND, token_N = given(model)
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        log_probs(model, hidden_ND, token_N, 1.0)
    assert sizes == [hidden_ND.numel()]


def test_without_gradients_there_is_one_product_of_two() -> None:
    model = frozen("llama")
    hidden_ND, token_N = given(model)
    found, cost = {}, {}
    for trains in (False, True):
        with FlopCounterMode(display=False) as counter:
            found[trains] = log_probs(
                model, hidden_ND.detach().requires_grad_(trains), token_N, 1.0
            )
        cost[trains] = counter.get_total_flops()
    assert 2 * cost[False] == cost[True] == 4 * NUM_TOKENS * model.lm_head.weight.numel()
    assert found[True].equal(found[False])


@pytest.mark.parametrize("case", ["trains", "adapted", "another precision", "float16", "sharded"])
def test_another_output_layer_goes_through_autograd(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the layer is not an ordinary frozen one")

    monkeypatch.setattr(forward.frozen_head, "log_probs_and_hits", refuse)
    model: Any = frozen("llama")
    hidden_ND, token_N = given(model)
    if case == "trains":
        model.get_output_embeddings().requires_grad_(True)
    if case == "float16":
        model, hidden_ND = model.half(), hidden_ND.detach().half().requires_grad_()
    if case == "sharded":
        sharded([model.lm_head])
    if case == "adapted":
        model = get_peft_model(model, LoraConfig(target_modules=["lm_head"]))
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "another precision"):
        assert log_probs(model, hidden_ND, token_N, 1.0).requires_grad
