"""The ChatML template that `posttrain init` proposes, on a tokenizer with Qwen's control tokens."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

from posttrain.data.chat import encode_conversations, encode_prompts
from posttrain.models.tokenizer import train_tokenizer

TEMPLATE = Path(__file__).parents[2] / "recipes" / "chatml.jinja"
TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "what ?"},
    {"role": "assistant", "content": "it is red"},
]


def qwen_like() -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(["what ? it is red be kind user assistant system"] * 20, 320)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "eos_token": "<|im_end|>"}
    )
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return tokenizer


def test_only_the_assistants_words_and_end_are_learned() -> None:
    tokenizer = qwen_like()
    encoded = encode_conversations(tokenizer, [TURNS])[0]
    kept = zip(encoded.input_ids, encoded.assistant_mask, strict=True)
    learned = tokenizer.decode([token for token, learn in kept if learn])
    assert learned.replace(" ", "") == "itisred<|im_end|>"


def test_a_prompt_is_the_beginning_of_the_conversation() -> None:
    tokenizer = qwen_like()
    whole = encode_conversations(tokenizer, [TURNS])[0].input_ids
    prompt = encode_prompts(tokenizer, [TURNS[:2]])[0]
    assert whole[: len(prompt)] == prompt
    assert tokenizer.decode(prompt).endswith("<|im_start|> assistant\n")
