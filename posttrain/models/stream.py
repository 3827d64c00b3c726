"""One answer as it is made: tokens from the decode loop that `generate` runs, and their text.

What is streamed is what `generate` gives for the same prompt and seed, token for token; and the
pieces of text joined are the text of the whole answer.
"""

import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.models.generate import Sampling, check_lengths, decode, draws, evaluating

BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""A token of SentencePiece's byte fallback: a run of them is text only as a whole."""

UNREADABLE = "\ufffd"
"""What a decoder puts for bytes that are no character, or not yet one."""


def stream(
    model: PreTrainedModel | PeftModel, prompt: Sequence[int], sampling: Sampling
) -> Generator[int]:
    """Answer one prompt, a token at a time, the end token included.

    Always our own loop, whatever the runtime asks of `generate`.

    Raises:
        ValueError: the prompt is empty, or a response to it could exceed the model's positions.
    """
    check_lengths(model, [prompt], sampling)
    steps = decode(model, [prompt], draws(1, sampling).to(model.device), sampling)
    with evaluating(model), closing(steps):
        for _, token_B in steps:
            yield int(token_B)


def text_of(
    tokenizer: PreTrainedTokenizerFast, response: Sequence[int], end_ids: Sequence[int]
) -> str:
    """What a response says: no end token, no control tokens, no space around it."""
    if response and response[-1] in end_ids:  # an end token need not be a special one
        response = response[:-1]
    return _decoded(tokenizer, response).strip()


def pieces(
    tokenizer: PreTrainedTokenizerFast, tokens: Iterable[int], end_ids: Sequence[int]
) -> Generator[str]:
    """The same text bit by bit, one piece a token and one at the end; pieces may be empty.

    A piece waits until later tokens cannot change it: half a character waits for its other bytes,
    space for what follows it. Each piece decodes all tokens anew, since what a token reads as can
    depend on those before it; that is little beside the model's own time.
    """
    response: list[int] = []
    shown = 0
    for token in tokens:
        response.append(token)
        settled = "" if token in end_ids else _settled(tokenizer, response)
        yield settled[shown:]
        shown = max(shown, len(settled))
    yield text_of(tokenizer, response, end_ids)[shown:]


def _settled(tokenizer: PreTrainedTokenizerFast, response: Sequence[int]) -> str:
    """The text that no later token changes."""
    end = len(response)
    while end and _undecided(tokenizer, response[end - 1]):
        end -= 1
    return _decoded(tokenizer, response[:end]).lstrip().rstrip(UNREADABLE).rstrip()


def _undecided(tokenizer: PreTrainedTokenizerFast, token: int) -> bool:
    written = str(tokenizer.convert_ids_to_tokens(token))
    # a token without a text of its own does not end a run of bytes
    return BYTE.fullmatch(written) is not None or not _decoded(tokenizer, [token])


def _decoded(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[int]) -> str:
    return str(
        tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )
