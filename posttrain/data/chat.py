"""Conversations to token ids: the one renderer of training text and inference prompts.

transformers' `apply_chat_template` can either return the mask of assistant tokens or keep control
tokens inside a user's text as text, not both. Here both hold: control tokens in a message are
replaced by private marks before the template renders, and the marks are encoded as plain text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

Message = Mapping[str, Any]
"""`role`, `content`, and optionally `learn` (False: an assistant turn that is context only)."""

OPEN, CLOSE = "\ue000", "\ue001"  # private use area: stands for nothing in any text


@dataclass(frozen=True)
class Encoded:
    """One conversation as token ids."""

    input_ids: list[int]
    assistant_mask: list[bool]
    """True where SFT is supervised: the assistant's text and its end token."""


def encode_conversations(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Sequence[Message]]
) -> list[Encoded]:
    """Encode whole conversations with the mask of what the assistant says.

    Raises:
        ValueError: a conversation's assistant turns are not all marked by `{% generation %}`.
    """
    texts, spans = _render(tokenizer, conversations, add_generation_prompt=False)
    learned = [_learned(turns, marks) for turns, marks in zip(conversations, spans, strict=True)]
    return _encode(tokenizer, texts, learned)


def encode_prompts(
    tokenizer: PreTrainedTokenizerFast, conversations: Sequence[Sequence[Message]]
) -> list[list[int]]:
    """Encode conversations that end with the user, up to where the assistant begins to speak."""
    texts, _ = _render(tokenizer, conversations, add_generation_prompt=True)
    return [encoded.input_ids for encoded in _encode(tokenizer, texts, [[] for _ in texts])]


def encode_within(
    tokenizer: PreTrainedTokenizerFast, conversation: Sequence[Message], room: int
) -> tuple[list[int], int]:
    """Encode a conversation that ends with the user, without its oldest turns until it fits.

    A question goes with its answer; a system message at the start stays.

    Returns:
        The ids, and how many questions went.

    Raises:
        ValueError: the last question alone has more than `room` tokens.
    """
    assert conversation[-1]["role"] == "user"
    num_system = sum(turn["role"] == "system" for turn in conversation[:1])
    head, turns = list(conversation[:num_system]), list(conversation[num_system:])
    for num_gone in range(0, len(turns), 2):
        ids = encode_prompts(tokenizer, [[*head, *turns[num_gone:]]])[0]
        if len(ids) <= room:
            return ids, num_gone // 2
    raise ValueError(
        f"the question has {len(ids)} tokens with its template, and there is room for {room}; "
        "shorten it, or ask for a shorter answer"
    )


def control_tokens(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Strings that the tokenizer turns into one id of their own, longest first."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    return sorted((token for token in added if not token.isspace()), key=len, reverse=True)


def end_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[int, ...]:
    """Ids that end an answer: the template's end of turn, and the tokenizer's end of text."""
    trial = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    encoded = encode_conversations(tokenizer, [trial])[0]
    special = special_ids(tokenizer)
    turn = [
        token
        for token, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True)
        if on and token in special
    ]
    # the last: a template may mark the turn's header too
    return tuple(dict.fromkeys([*turn[-1:], tokenizer.eos_token_id]))


def special_ids(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Ids of control tokens.

    `all_special_ids` has those with a role alone (BOS, EOS, ...): Gemma 3's `<end_of_turn>` and
    Llama 3's `<|eot_id|>` are special without one.
    """
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {i for i, token in added if token.special}


def _render(
    tokenizer: PreTrainedTokenizerFast,
    conversations: Sequence[Sequence[Message]],
    add_generation_prompt: bool,
) -> tuple[list[str], list[list[tuple[int, int]]]]:
    """Render to text with private marks, and the character spans of generation."""
    controls = control_tokens(tokenizer)
    pattern = re.compile("|".join(map(re.escape, controls))) if controls else None

    def marked(text: str) -> str:
        text = text.replace(OPEN, "").replace(CLOSE, "")
        return pattern.sub(rf"{OPEN}\g<0>{CLOSE}", text) if pattern else text

    variables: dict[str, Any] = tokenizer.special_tokens_map
    rendered: Any = render_jinja_template(
        conversations=[
            [{"role": turn["role"], "content": marked(turn["content"])} for turn in turns]
            for turns in conversations
        ],
        chat_template=tokenizer.get_chat_template(),
        return_assistant_tokens_mask=not add_generation_prompt,
        add_generation_prompt=add_generation_prompt,
        **variables,
    )
    texts, spans = rendered
    return texts, spans


def _learned(turns: Sequence[Message], marks: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans of the turns that are to be learned."""
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    if len(answers) != len(marks):
        raise ValueError(
            f"the chat template marks {len(marks)} of {len(answers)} assistant turns with "
            "{% generation %}; put the marks around the assistant's text and its end token"
        )
    return [
        mark for turn, mark in zip(answers, marks, strict=True) if turn.get("learn") is not False
    ]


def _encode(
    tokenizer: PreTrainedTokenizerFast,
    texts: Sequence[str],
    spans: Sequence[Sequence[tuple[int, int]]],
) -> list[Encoded]:
    plain = [i for i, text in enumerate(texts) if OPEN not in text]
    encoded: dict[int, Encoded] = {
        i: _encode_marked(tokenizer, text, spans[i]) for i, text in enumerate(texts) if OPEN in text
    }
    if plain:
        batch = tokenizer(
            [texts[i] for i in plain], add_special_tokens=False, return_offsets_mapping=True
        )
        for i, ids, offsets in zip(plain, batch["input_ids"], batch["offset_mapping"], strict=True):
            encoded[i] = Encoded(ids, _mask(offsets, spans[i]))
    return [encoded[i] for i in range(len(texts))]


def _encode_marked(
    tokenizer: PreTrainedTokenizerFast, text: str, spans: Sequence[tuple[int, int]]
) -> Encoded:
    """Encode piece by piece: what stands between private marks as text, the rest as usual."""
    input_ids: list[int] = []
    mask: list[bool] = []
    for found in re.finditer(f"{OPEN}([^{CLOSE}]*){CLOSE}|[^{OPEN}]+", text):
        forged = found[1] is not None
        start = found.start(1) if forged else found.start()
        piece = tokenizer(
            found[1] if forged else found[0],
            add_special_tokens=False,
            split_special_tokens=forged,
            return_offsets_mapping=True,
        )
        input_ids += piece["input_ids"]
        mask += _mask([(a + start, b + start) for a, b in piece["offset_mapping"]], spans)
    return Encoded(input_ids, mask)


def _mask(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> list[bool]:
    """True for tokens that begin within a span; `offsets` are (start, end) in characters."""
    mask = [False] * len(offsets)
    position = 0
    for start, end in spans:
        while position < len(offsets) and offsets[position][0] < start:
            position += 1
        while position < len(offsets) and offsets[position][0] < end:
            mask[position] = True
            position += 1
    return mask
