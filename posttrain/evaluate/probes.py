"""Probes: held-out questions whose answers are judged by rule, or by ROUGE against a reference."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import Tokens
from posttrain.data.chat import end_tokens
from posttrain.evaluate import bootstrap, rouge
from posttrain.figures import Figure, Items
from posttrain.models.generate import Sampling, generate
from posttrain.recipe.evaluation import EvaluationRecipe, Probe
from posttrain.reports import Sample

SPACES = re.compile(r"\s+")


@dataclass(frozen=True)
class Answered:
    """A question, and what the model said."""

    set: str
    prompt: str
    expected: str | None
    response: str
    num_tokens: int
    ended: bool


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tokens: Tokens,
    probe: Probe,
    recipe: EvaluationRecipe,
) -> list[Answered]:
    """Put a probe's questions to the model.

    Raises:
        ValueError: the run has no question of the probe's sets, or one lacks its answer.
    """
    rows = [row for row in _questions(tokens, probe) for _ in range(probe.num_samples)]
    column = "cloze_ids" if probe.kind == "cloze" else "prompt_ids"
    ends = end_tokens(tokenizer)
    responses = generate(
        model,
        [row[column] for row in rows],
        Sampling(
            max_new_tokens=recipe.max_new_tokens,
            temperature=probe.temperature,
            end_ids=ends,
            pad_id=ends[0],  # masked by length: any id may pad
            batch_size=recipe.batch_size,
            seed=recipe.seed,
        ),
    )
    return [
        Answered(
            set=row["set"],
            prompt=row["prompt"],
            expected=row["answer"],
            response=str(tokenizer.decode(response, skip_special_tokens=True)).strip(),
            num_tokens=len(response),
            ended=bool(response) and response[-1] in ends,
        )
        for row, response in zip(rows, responses, strict=True)
    ]


def _questions(tokens: Tokens, probe: Probe) -> list[dict[str, Any]]:
    file = tokens.path / "probes.parquet"
    rows = pq.read_table(file).to_pylist() if file.exists() else []
    rows = [row for row in rows if row["set"] in probe.sets]
    if not rows:
        raise ValueError(
            f"evaluation.probes: {probe.name} asks the sets {list(probe.sets)}, and ingest.probes "
            "has no row of them"
        )
    lacking = [row["id"] for row in rows if row["answer"] is None]
    if lacking and probe.kind != "markers":
        raise ValueError(
            f"evaluation.probes: {probe.name} compares with an answer, and {len(lacking)} of "
            f"{len(rows)} rows have none (the first: {lacking[0]}); map it by "
            "`ingest.probes.fields: {answer: its_column}`, or leave their set out"
        )
    return rows


def hit(probe: Probe, answered: Answered) -> bool:
    """Whether one answer counts."""
    response = normalised(answered.response)
    if probe.kind == "markers":
        found = _contains(response, probe.any_of)
        return found or (bool(probe.or_none_of) and not _contains(response, probe.or_none_of))
    right = normalised(_expected(answered)) in response
    return right and not _contains(response, probe.not_any_of)


def figures(
    probe: Probe, answers: Sequence[Answered], recipe: EvaluationRecipe
) -> dict[str, Figure]:
    """The probe's figures, and one of each a set where the recipe asks for it."""
    drawn = (recipe.num_bootstrap, recipe.seed)
    return {name: bootstrap.of_items(one, *drawn) for name, one in items(probe, answers).items()}


def items(probe: Probe, answers: Sequence[Answered]) -> dict[str, Items]:
    """What each of the probe's figures is made of."""
    found: dict[str, Items] = {}
    for name, values in zip(probe.figures, _values(probe, answers), strict=True):
        found[name] = by_question(values, probe.num_samples)
        for one in probe.sets if probe.by_set else ():
            of_set = [v for v, answer in zip(values, answers, strict=True) if answer.set == one]
            found[f"{name}.{one}"] = by_question(of_set, probe.num_samples)
    return found


def by_question(values: Sequence[float], num_samples: int) -> Items:
    """An item a question: answers to the same one are not independent of each other."""
    sums = [sum(values[at : at + num_samples]) for at in range(0, len(values), num_samples)]
    return bootstrap.items(sums, [num_samples] * len(sums))


def _values(probe: Probe, answers: Sequence[Answered]) -> list[list[float]]:
    """What each answer is worth, for each figure of the probe."""
    if probe.kind != "rouge":
        return [[float(hit(probe, answer)) for answer in answers]]
    scores = [rouge.f1(_expected(one), one.response, probe.rouge_unit) for one in answers]
    return [[score[kind] for score in scores] for kind in rouge.KINDS]


def _expected(answered: Answered) -> str:
    assert answered.expected is not None, "a question without an answer is refused before it is put"
    return answered.expected


def samples(probe: Probe, answers: Sequence[Answered], number: int) -> list[Sample]:
    """Evenly spaced questions with their answers: the same ones for every stage."""
    step = max(1, len(answers) // max(1, number))
    return [
        Sample(
            probe=probe.name,
            prompt=answer.prompt,
            expected=answer.expected,
            response=answer.response,
        )
        for answer in answers[::step][:number]
    ]


def normalised(text: str) -> str:
    """NFC, one space for any white space."""
    return SPACES.sub(" ", unicodedata.normalize("NFC", text)).strip()


def _contains(text: str, markers: Sequence[str]) -> bool:
    return any(marker in text for marker in markers)
