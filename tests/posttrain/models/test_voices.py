"""Base and policy side by side: who answers, and that neither disturbs the other."""

from itertools import zip_longest
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.data.chat import encode_prompts
from posttrain.models.generate import generate
from posttrain.models.load import load_base, load_policy
from posttrain.models.voices import Voice, of_artifacts
from posttrain.recipe.inference import InferenceRecipe
from posttrain.recipe.train import Method
from tests.architectures import NAMES, make_base
from tests.policies import make_policy

DRAWN = InferenceRecipe(temperature=1.0, max_new_tokens=24)
ASK = [{"role": "user", "content": "what colour is red ?"}]


def said(voice: Voice, prompt: list[int], base: BaseModel, policy: Policy) -> list[int]:
    return list(voice.tokens(prompt, of_artifacts(base, policy, "one").sampling(DRAWN)))


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "dora", "bottleneck"])
def test_two_voices_that_take_turns_say_what_each_says_alone(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, method: Method
) -> None:
    base = make_base("llama", tokenizer, tmp_path / "base")
    policy = make_policy(base, method, tmp_path / "policy")
    source = of_artifacts(base, policy, "one")
    sampling = source.sampling(DRAWN)
    (prompt,) = encode_prompts(source.tokenizer, [ASK])
    first, second = source.load("both")
    turns = list(zip_longest(first.tokens(prompt, sampling), second.tokens(prompt, sampling)))
    said_by = zip(*turns, strict=True)
    together = [[token for token in voice if token is not None] for voice in said_by]
    (off,), (on,) = source.load("off"), source.load("on")
    assert [one.label for one in (first, second, off, on)] == ["base", "adapter"] * 2
    assert together == [said(off, prompt, base, policy), said(on, prompt, base, policy)]
    assert together[0] != together[1]
    assert together[1] == generate(load_policy(base, policy), [prompt], sampling)[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_base_alone_answers_as_it_was_before_training(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, name: str
) -> None:
    base = make_base(name, tokenizer, tmp_path / "base")
    source = of_artifacts(base, make_policy(base, "lora", tmp_path / "policy"), "one")
    (prompt,) = encode_prompts(source.tokenizer, [ASK])
    sampling = source.sampling(DRAWN)
    expected = generate(load_base(base), [prompt], sampling)[0]
    for voice in (source.load("off")[0], source.load("both")[0]):
        assert list(voice.tokens(prompt, sampling)) == expected


def test_a_voice_that_is_cut_short_leaves_the_adapter_on(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base("llama", tokenizer, tmp_path / "base")
    source = of_artifacts(base, make_policy(base, "lora", tmp_path / "policy"), "one")
    (prompt,) = encode_prompts(source.tokenizer, [ASK])
    first, second = source.load("both")
    sampling = source.sampling(DRAWN)
    expected = list(second.tokens(prompt, sampling))
    cut = first.tokens(prompt, sampling)
    next(cut)
    cut.close()
    assert list(second.tokens(prompt, sampling)) == expected


def test_a_policy_of_another_template_is_refused_before_a_weight_is_read(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_base("llama", tokenizer, tmp_path / "base")
    policy = make_policy(base, "lora", tmp_path / "policy")
    changed = tokenizer.get_chat_template().replace("<|assistant|>", "<|user|>")
    monkeypatch.setattr(tokenizer, "chat_template", changed)
    other = make_base("llama", tokenizer, tmp_path / "other")
    hashes = f"{base.facts.template_hash[:12]}, and .* has {other.facts.template_hash[:12]}"
    with pytest.raises(ValueError, match=f"template hash {hashes}"):
        of_artifacts(other, policy, "one")
