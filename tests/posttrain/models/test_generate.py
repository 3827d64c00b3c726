"""Generation against transformers' own, on tiny models of four families."""

import math

import pytest
import torch
from torch.testing import assert_close
from transformers import PreTrainedModel

from posttrain.models.generate import (
    Sampling,
    cut_after_end,
    evaluating,
    generate,
    pad_left,
    pick,
    positions,
)
from tests.tiny_models import FAMILIES, tiny

NEVER = 10_000  # no token of the vocabulary: responses run to their full length


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(1, 25, (17,), generator=generator).tolist()
    return [torch.randint(3, 300, (n,), generator=generator).tolist() for n in lengths]


def sampling(**changes: object) -> Sampling:
    plain = {"max_new_tokens": 30, "temperature": 0, "end_ids": (NEVER,), "pad_id": 0}
    return Sampling.model_validate({**plain, "batch_size": 8, "seed": 0, **changes})


def some_ends(model: PreTrainedModel) -> tuple[int, ...]:
    """Tokens that the model does say, so that some rows end early and some never."""
    said = generate(model, prompts(), sampling(batch_size=1))
    return tuple({row[place] for row, place in zip(said, (2, 5, 9, 14, 20), strict=False)})


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_equals_transformers_one_prompt_at_a_time(family: str) -> None:
    model = tiny(family)
    ends = some_ends(model)
    expected = []
    for prompt in prompts():
        ids = torch.tensor([prompt])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=30,
            eos_token_id=list(ends),
            pad_token_id=0,
        )
        expected.append(whole[0, len(prompt) :].tolist())
    found = generate(model, prompts(), sampling(end_ids=ends))
    assert found == expected
    assert len({len(row) for row in found}) > 3, "rows leave the batch at different times"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_batch_size_and_padding_change_nothing(family: str, temperature: float) -> None:
    model = tiny(family)
    ends = some_ends(model)
    found = [
        generate(
            model,
            prompts(),
            sampling(end_ids=ends, temperature=temperature, batch_size=size, pad_id=pad),
        )
        for size, pad in ((1, 0), (5, 0), (17, 299))
    ]
    assert found[0] == found[1] == found[2]


def test_prompts_of_unlike_lengths_are_read_apart_and_answered_together() -> None:
    model = tiny("llama")
    read: list[tuple[int, ...]] = []
    forward = model.forward
    model.forward = lambda **given: (
        read.append(tuple(given["input_ids"].shape)),
        forward(**given),
    )[1]
    asked = [[5] * 40, [6] * 4, [7] * 38, *([8 + n] * 5 for n in range(5))]
    found = generate(model, asked, sampling(max_new_tokens=3))
    assert read == [(2, 40), (6, 5), (8, 1), (8, 1)]
    model.forward = forward
    assert found == [generate(model, [one], sampling(max_new_tokens=3))[0] for one in asked]


def test_draws_depend_on_the_seed_and_not_on_torchs_global_state() -> None:
    model = tiny("llama")
    drawn = sampling(temperature=1)
    torch.manual_seed(1)
    first = generate(model, prompts(), drawn)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    assert generate(model, prompts(), drawn) == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "and leave it as it was"
    assert generate(model, prompts(), drawn.model_copy(update={"seed": 1})) != first


def test_alignment_15_sampling_is_from_the_plain_softmax_at_the_temperature() -> None:
    """20,000 draws at one position: the shares are the softmax's, within five standard errors."""
    logits_V = torch.tensor([2.0, 1.0, 0.0, -1.0, -math.inf])
    draw_B = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    token_B = pick(logits_V.expand(20_000, -1), draw_B, temperature=0.5)
    expected_V = (logits_V / 0.5).softmax(-1)
    found_V = token_B.bincount(minlength=5) / 20_000
    error_V = (expected_V * (1 - expected_V) / 20_000).sqrt()
    assert ((found_V - expected_V).abs() <= 5 * error_V + 1e-12).all()


def test_alignment_15_the_models_generation_config_is_ignored() -> None:
    model = tiny("llama")
    drawn = sampling(temperature=1)
    free = generate(model, prompts(), drawn)
    model.generation_config.update(top_k=1, min_new_tokens=29, temperature=0.1, do_sample=True)
    assert generate(model, prompts(), drawn) == free


def test_a_token_without_probability_is_never_drawn() -> None:
    logits_BV = torch.tensor([[-math.inf, 0.0, -math.inf]]).expand(2, -1)
    edges_B = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert pick(logits_BV, edges_B, temperature=1.0).tolist() == [1, 1]


@pytest.mark.parametrize("family", FAMILIES)
def test_alignment_14_logits_of_a_left_padded_and_an_unpadded_prompt_agree(family: str) -> None:
    model = tiny(family)
    rows = prompts()[:6]
    ids_BS, mask_BS = pad_left(rows, 0, torch.device("cpu"))
    with torch.no_grad():
        padded_BSV = model(
            input_ids=ids_BS, attention_mask=mask_BS, position_ids=positions(mask_BS)
        ).logits
        for row, prompt in zip(padded_BSV, rows, strict=True):
            alone_SV = model(input_ids=torch.tensor([prompt])).logits[0]
            assert_close(row[-len(prompt) :], alone_SV, rtol=1e-4, atol=1e-5)


def test_alignment_14_position_ids_come_from_the_mask() -> None:
    mask_BS = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    assert positions(mask_BS).tolist() == [[0, 0, 0, 1], [0, 1, 2, 3]]


def test_alignment_16_a_response_is_cut_after_its_first_end_token() -> None:
    assert cut_after_end([5, 9, 6, 9], (9, 7)) == [5, 9]
    assert cut_after_end([5, 6], (9,)) == [5, 6]
    assert cut_after_end([9, 5], (9,)) == [9]


def test_every_modules_own_mode_comes_back() -> None:
    model = tiny("gpt2").train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == modes


def test_no_prompts_no_responses() -> None:
    assert generate(tiny("llama"), [], sampling()) == []


def test_an_empty_prompt_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"prompts \[1\] are empty"):
        generate(tiny("llama"), [[4], []], sampling())


def test_a_response_beyond_the_models_positions_is_refused_before_it_begins() -> None:
    with pytest.raises(ValueError, match=r"80 tokens and max_new_tokens \(30\).* 96 positions"):
        generate(tiny("gpt2"), [[4] * 80], sampling())


def test_vllm_is_asked_for_by_the_runtime_and_missed_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTTRAIN_GENERATOR", "vllm")
    with pytest.raises(ValueError, match=r"POSTTRAIN_GENERATOR=vllm, but vLLM is not installed"):
        generate(tiny("llama"), prompts(), sampling())
