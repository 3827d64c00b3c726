"""Many questions answered in batches, each with what it was and how its answer ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any

from posttrain.data.questions import Question, encode, refuse
from posttrain.models.generate import Sampling, generate
from posttrain.models.stream import text_of
from posttrain.models.voices import Source, Voice


@dataclass(frozen=True)
class Asked:
    """Questions in ids, and those that are too long for the model."""

    questions: list[Question]
    prompts: list[list[int]]
    num_skipped: int


@dataclass(frozen=True)
class Answered:
    """A question with its answer."""

    question: Question
    response: str
    ended: bool
    """An end token came; else the answer was cut off."""

    num_tokens: int
    """Of the answer, its end token included."""

    def row(self) -> dict[str, Any]:
        """The question's row with the answer's columns."""
        return {
            **self.question.row,
            "response": self.response,
            "ended": self.ended,
            "num_tokens": self.num_tokens,
        }


def ask(
    source: Source, questions: Sequence[Question], max_new_tokens: int, skip_long: bool
) -> Asked:
    """Render questions by the template of the training.

    Raises:
        ValueError: the template refuses some, or they are too long and not to be skipped: names
            them by line.
    """
    prompts = encode(source.tokenizer, questions)
    room = source.max_positions - max_new_tokens
    fits = [len(prompt) <= room for prompt in prompts]
    if not skip_long:
        refuse(
            [
                f"{question.where}: {len(prompt)} tokens"
                for question, prompt, fit in zip(questions, prompts, fits, strict=True)
                if not fit
            ],
            f"the model's {source.max_positions} positions less an answer of {max_new_tokens} "
            f"tokens leave {room}; shorten them, lower --max-new-tokens, or leave them out with "
            "--skip-long",
        )
    return Asked(
        questions=list(compress(questions, fits)),
        prompts=list(compress(prompts, fits)),
        num_skipped=fits.count(False),
    )


def answer(source: Source, voice: Voice, asked: Asked, sampling: Sampling) -> list[Answered]:
    """Answer all questions, in their order."""
    responses = generate(voice.model, asked.prompts, sampling)
    return [
        Answered(
            question=question,
            response=text_of(source.tokenizer, response, sampling.end_ids),
            ended=response[-1] in sampling.end_ids,
            num_tokens=len(response),
        )
        for question, response in zip(asked.questions, responses, strict=True)
    ]
