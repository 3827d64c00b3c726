"""SFT's output layer on a CPU says what TRL's says."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import GraniteConfig, GraniteForCausalLM, PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from posttrain.align import forward
from posttrain.train.collate import IGNORED
from posttrain.train.cpu_head import add_cpu_head
from tests.tiny_models import FAMILIES, SIZES, tiny

IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12]])
LABELS = torch.tensor([[IGNORED, 6, IGNORED, 8, 9, 10, IGNORED, 12]])


def read(model: PreTrainedModel, ours: bool, labels: torch.Tensor = LABELS) -> dict[str, object]:
    """What a trainer reads of a model, and the gradients of the loss that it makes of it."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    if ours:
        add_cpu_head(model)
    adapted = get_peft_model(
        model, LoraConfig(target_modules="all-linear", init_lora_weights=False)
    )
    found = adapted(input_ids=IDS, labels=labels, fused_lm_head=True)
    (-found.log_probs.sum()).backward()
    return {
        "log_probs": found.log_probs.detach(),
        "hits": found.is_top1,
        "mask": found.label_mask,
        "gradients": {n: p.grad for n, p in adapted.named_parameters() if p.grad is not None},
    }


@pytest.mark.parametrize("max_logits", [2**25, 300 * 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_figures_and_gradients_equal_trls(
    family: str, max_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one chunk, or in chunks of two tokens; under an adapter."""
    monkeypatch.setattr(forward, "MAX_LOGITS", max_logits)
    found = []
    for ours in (False, True):
        torch.manual_seed(1)
        model = tiny(family)
        torch.manual_seed(2)
        found.append(read(model, ours))
    assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)
    assert found[1]["gradients"]


def test_a_batch_that_teaches_nothing_has_no_loss_and_no_gradient() -> None:
    found = read(tiny("llama"), ours=True, labels=torch.full_like(LABELS, IGNORED))
    assert not found["log_probs"].any() and not found["mask"].any()  # type: ignore[attr-defined]
    assert not any(one.any() for one in found["gradients"].values())  # type: ignore[attr-defined]


def test_without_the_question_the_model_answers_as_ever() -> None:
    model = tiny("llama")
    before = model(input_ids=IDS, labels=IDS)
    add_cpu_head(model)
    after = model(input_ids=IDS, labels=IDS)
    assert torch.equal(before.logits, after.logits) and torch.equal(before.loss, after.loss)


def test_a_family_that_scales_its_logits_otherwise_stays_with_trl() -> None:
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    model = GraniteForCausalLM(GraniteConfig(**sizes, logits_scaling=8.0)).eval()
    add_fused_lm_head(model)
    theirs = model.forward
    add_cpu_head(model)
    assert model.forward == theirs
