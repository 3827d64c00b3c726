import math
from typing import Any

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.evaluate import bootstrap
from posttrain.evaluate.perplexity import Scored, byte_items, perplexity, text_losses
from posttrain.models.load import load_base
from posttrain.models.tokenizer import train_tokenizer
from posttrain.recipe.evaluation import EvaluationRecipe

TEXTS = [
    Scored(list(range(5, 5 + length)), [True] * length) for length in (3, 40, 7, 21, 2, 33, 12)
]


def recipe(**changes: Any) -> EvaluationRecipe:
    values = {"window": 64, "stride": 32, "batch_size": 4, "num_bootstrap": 20}
    return EvaluationRecipe.model_validate(values | changes)


@pytest.fixture(scope="module")
def model(base: BaseModel) -> Any:
    return load_base(base)


def by_hand(model: Any, texts: list[Scored]) -> float:
    """One text at a time, nothing padded, no window."""
    loss, number = 0.0, 0
    for text in texts:
        ids = torch.tensor([text.input_ids])
        with torch.no_grad():
            logs = torch.log_softmax(model(ids).logits[0, :-1].double(), -1)
        picked = logs.gather(1, ids[0, 1:, None])[:, 0]
        counts = torch.tensor(text.counts[1:])
        loss -= float(picked[counts].sum())
        number += int(counts.sum())
    return math.exp(loss / number)


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_alignment_08_batch_and_padding_do_not_change_the_figure(
    model: Any, batch_size: int
) -> None:
    figure = perplexity(model, TEXTS, recipe(batch_size=batch_size))
    assert figure.value == pytest.approx(by_hand(model, TEXTS), rel=1e-4)
    assert figure.num == sum(len(text.input_ids) - 1 for text in TEXTS)
    assert figure.low <= figure.value <= figure.high


def test_alignment_08_it_is_no_mean_of_text_means(model: Any) -> None:
    means = [math.log(by_hand(model, [text])) for text in TEXTS]
    unweighted = math.exp(sum(means) / len(means))
    assert perplexity(model, TEXTS, recipe()).value != pytest.approx(unweighted, rel=1e-3)


def test_alignment_08_a_window_as_long_as_the_text_changes_nothing(model: Any) -> None:
    whole = perplexity(model, TEXTS, recipe())
    assert perplexity(model, TEXTS, recipe(window=40, stride=1)).value == pytest.approx(
        whole.value, rel=1e-4
    )


@pytest.mark.parametrize(("window", "stride"), [(16, 15), (16, 8), (10, 3)])
def test_alignment_08_every_token_is_scored_once(model: Any, window: int, stride: int) -> None:
    figure = perplexity(model, TEXTS, recipe(window=window, stride=stride))
    assert figure.num == sum(len(text.input_ids) - 1 for text in TEXTS)
    text = TEXTS[1]
    scored, expected = 1, 0.0
    start = 0
    while scored < len(text.input_ids):  # the same windows, one by one
        end = min(start + window, len(text.input_ids))
        ids = torch.tensor([text.input_ids[start:end]])
        with torch.no_grad():
            logs = torch.log_softmax(model(ids).logits[0].double(), -1)
        for position in range(scored, end):
            expected -= float(logs[position - 1 - start, text.input_ids[position]])
        scored = end
        start = max(0, min(end + stride, len(text.input_ids)) - window)
    alone = perplexity(model, [text], recipe(window=window, stride=stride))
    assert math.log(alone.value) * alone.num == pytest.approx(expected, rel=1e-4)


def test_a_stride_that_would_skip_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match=r"stride \(16\) must be below evaluation.window \(16\)"):
        recipe(window=16, stride=16)


def test_only_what_counts_is_scored(model: Any) -> None:
    text = Scored([5, 6, 7, 8], [False, False, True, True])
    assert perplexity(model, [text], recipe()).num == 2


def test_a_soft_cap_counts(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        initializer_range=0.5,
        final_logit_softcapping=2.0,
        attn_implementation="eager",
    )
    model = Gemma2ForCausalLM(config).eval()
    figure = perplexity(model, TEXTS, recipe())
    assert figure.value == pytest.approx(by_hand(model, TEXTS), rel=1e-4)
    config.final_logit_softcapping = None
    assert by_hand(model, TEXTS) != pytest.approx(figure.value, rel=0.1)


def test_a_scaling_that_is_not_known_is_refused(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = type(model).forward

    def capped(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        output.logits = torch.tanh(output.logits)
        return output

    monkeypatch.setattr(type(model), "forward", capped)
    with pytest.raises(ValueError, match="its logits differ by"):
        perplexity(model, TEXTS, recipe())


def test_alignment_09_bits_per_byte_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    one = tokenizer("안녕 what colour ?", add_special_tokens=False)["input_ids"]
    two = tokenizer("it is gold", add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    texts = [
        Scored([end, *one, end], [True] * (len(one) + 2)),
        Scored([end, *two, end], [True] * (len(two) + 2)),
    ]
    found = byte_items([20 * math.log(2), 10 * math.log(2)], texts, tokenizer)
    assert found.parts == (20.0, 10.0)
    figure = bootstrap.of_items(found, 20, seed=0)
    assert figure.num == len("안녕 what colour ?".encode()) + len("it is gold") == 30
    assert figure.value == pytest.approx(1.0)
    assert figure.low <= figure.value <= figure.high


def test_alignment_09_equal_losses_are_equal_bits_under_any_tokenizer(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    text = "what colour is gold ?"
    nats = len(text) * math.log(256)  # a uniform guess at each byte
    lengths = []
    for one in (tokenizer, train_tokenizer(["a"], 300)):
        ids = one(text, add_special_tokens=False)["input_ids"]
        scored = [Scored([one.eos_token_id, *ids], [True] * (len(ids) + 1))]
        found = byte_items([nats], scored, one)
        assert bootstrap.of_items(found, 20, seed=0).value == pytest.approx(8.0)
        lengths.append(len(ids))
    assert lengths[0] < lengths[1]


def test_alignment_09_losses_sum_to_the_perplexity(model: Any) -> None:
    losses = text_losses(model, TEXTS, recipe())
    scored = sum(len(text.input_ids) - 1 for text in TEXTS)
    assert math.exp(sum(losses) / scored) == pytest.approx(perplexity(model, TEXTS, recipe()).value)
