"""Hidden states, log-probabilities and adapters, against the model's own forward pass."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close
from transformers import GraniteConfig, GraniteForCausalLM

from posttrain.align import forward
from posttrain.align.forward import (
    check_head,
    collate,
    hidden_states,
    like_lengths,
    log_probs,
    log_probs_and_entropies,
    using,
)
from tests.tiny_models import FAMILIES, SIZES, tiny

CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12]]
RESPONSES = [[20, 21], [22, 23, 24, 1], [1]]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_logits", [2**25, 300 * 3])
def test_alignment_17_log_probs_equal_the_models_own_row_by_row(
    family: str, max_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one chunk or in chunks of three tokens, in a padded batch or alone."""
    monkeypatch.setattr(forward, "MAX_LOGITS", max_logits)
    model = tiny(family)
    batch = collate(PROMPTS, RESPONSES, pad_id=1, device=CPU)  # the end token pads: no matter
    hidden_ND = hidden_states(model, batch.ids_BS)[batch.predicts_BS]
    log_prob_N, entropy_N = log_probs_and_entropies(
        model, hidden_ND, batch.token_N, temperature=0.7
    )
    expected, entropies = [], []
    for prompt, response in zip(PROMPTS, RESPONSES, strict=True):
        logits_SV = model(input_ids=torch.tensor([prompt + response])).logits[0] / 0.7
        all_TV = logits_SV.log_softmax(-1)[len(prompt) - 1 : -1]
        expected.append(all_TV.gather(-1, torch.tensor(response)[:, None]).squeeze(-1))
        entropies.append(-(all_TV.exp() * all_TV).sum(-1))
    assert batch.token_N.tolist() == [token for response in RESPONSES for token in response]
    assert_close(log_prob_N, torch.cat(expected), rtol=1e-4, atol=1e-5)
    assert_close(log_probs(model, hidden_ND, batch.token_N, temperature=0.7), log_prob_N)
    assert_close(entropy_N, torch.cat(entropies), rtol=1e-4, atol=1e-5)


def test_chunks_give_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for max_logits in (2**25, 300 * 2):
        monkeypatch.setattr(forward, "MAX_LOGITS", max_logits)
        model = tiny("llama")
        batch = collate(PROMPTS, RESPONSES, pad_id=0, device=CPU)
        hidden_ND = hidden_states(model, batch.ids_BS)[batch.predicts_BS]
        log_probs(model, hidden_ND, batch.token_N, temperature=1.0).sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for whole, chunked in zip(*gradients, strict=True):
        assert_close(whole, chunked)


def test_a_batch_marks_what_predicts_the_response_and_nothing_else() -> None:
    batch = collate(PROMPTS, RESPONSES, pad_id=0, device=CPU)
    assert batch.predicts_BS.int().tolist() == [
        [0, 0, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [0, 0, 0, 1, 0],
    ]


def test_like_lengths_takes_each_once_and_the_longest_first() -> None:
    found = like_lengths([3, 9, 1, 7, 8], 2, torch.device("cpu"))
    assert [index for batch in found for index in batch] == [1, 4, 3, 0, 2]
    assert max(map(len, found)) == 2


def test_a_pass_is_worth_less_than_much_padding_and_more_than_little() -> None:
    cpu = torch.device("cpu")
    assert like_lengths([10, 500, 10, 12], 4, cpu) == [[1], [3, 0, 2]]
    # 3 x 15 tokens of padding cost more than a pass of 32, 2 x 15 less
    assert like_lengths([30, 15, 15, 15], 4, cpu) == [[0], [1, 2, 3]]
    assert like_lengths([30, 15, 15], 4, cpu) == [[0, 1, 2]]
    assert like_lengths([30, 15, 15, 15], 4, torch.device("cuda")) == [[0, 1, 2, 3]]
    assert like_lengths([], 4, cpu) == []


def test_the_head_of_known_families_is_the_models_own() -> None:
    for family in FAMILIES:
        check_head(tiny(family))


def test_a_family_that_scales_its_logits_otherwise_is_refused() -> None:
    sizes = {key: value for key, value in SIZES.items() if key != "head_dim"}
    model = GraniteForCausalLM(GraniteConfig(**sizes, logits_scaling=8.0)).eval()
    with pytest.raises(ValueError, match="GraniteForCausalLM: its logits differ by"):
        check_head(model)


def two_adapters() -> PeftModel:
    config = LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    model = get_peft_model(tiny("llama"), config, adapter_name="one")
    model.add_adapter("two", config)
    return model


def test_using_switches_and_returns_and_trains_only_what_it_is_told() -> None:
    model = two_adapters()
    model.set_adapter("one", inference_mode=True)
    with using(model, "two", trainable=True):
        assert model.active_adapter == "two"
        learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert learning
        assert all(".two." in name for name in learning)
        with using(model, "one"):
            assert not any(weight.requires_grad for weight in model.parameters())
    assert model.active_adapter == "one"


def test_using_returns_after_an_error() -> None:
    model = two_adapters()
    model.set_adapter("one", inference_mode=True)
    with pytest.raises(KeyError), using(model, "two"):
        raise KeyError
    assert model.active_adapter == "one"
