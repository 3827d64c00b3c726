"""What every stage is measured on: held-out texts, and the hash by which evaluations compare."""

from typing import Any

import pyarrow.parquet as pq

from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.evaluate.alignment import held_out_prompts
from posttrain.evaluate.perplexity import Scored
from posttrain.hashes import sha256_of
from posttrain.models.tokenizer import load_tokenizer, plain_texts
from posttrain.recipe.answering import Answering
from posttrain.recipe.evaluation import EvaluationRecipe

SPLIT = [("split", "==", "held_out")]

ELSEWHERE = {"batch_size", "num_bootstrap", "num_samples", "seed", "harness", "report_language"}
"""Fields of the recipe that leave the meaning of these figures as it is: effort, the report's
language, and benchmarks, which have hashes of their own."""


def held_out_texts(tokens: Tokens) -> dict[str, list[Scored]]:
    """The held-out texts of a run by figure; a run may lack either."""
    texts = {
        "perplexity_domain": [
            Scored(row["input_ids"], [True] * len(row["input_ids"]))
            for row in _rows(tokens, "corpus", "input_ids")
        ],
        "perplexity_answers": [
            Scored(row["input_ids"], row["assistant_mask"])
            for row in _rows(tokens, "instructions", "input_ids", "assistant_mask")
        ],
    }
    return {name: scored for name, scored in texts.items() if scored}


def held_out_hash(
    tokens: Tokens, domain: BaseModel, policy: Policy | None, recipe: EvaluationRecipe
) -> str:
    """SHA-256 over what is measured on and how, and not over what is trained on.

    Of texts, not of ids: a run with another tokenizer may measure on the same. `policy` is the one
    whose section says which prompts are answered.
    """
    tokenizer = load_tokenizer(domain)
    corpus = [row["input_ids"] for row in _rows(tokens, "corpus", "input_ids")]
    found: list[object] = [
        recipe.model_dump(mode="json", exclude=ELSEWHERE),
        plain_texts(tokenizer, corpus),
        _rows(tokens, "instructions", "messages"),
        _rows(tokens, "probes", "set", "answer", "prompt", split=None),
    ]
    if policy is not None:
        asked = held_out_prompts(tokens, answering_of(policy))
        found.append(plain_texts(tokenizer, asked))
    return sha256_of(found)


def answering_of(policy: Policy) -> Answering:
    """How the section that trained a policy has held-out prompts answered, PPO's or DPO's."""
    values = policy.facts.recipe
    return Answering.model_validate({name: values[name] for name in Answering.model_fields})


def _rows(
    tokens: Tokens, role: str, *columns: str, split: list[tuple[str, str, str]] | None = SPLIT
) -> list[dict[str, Any]]:
    """A role's rows; none where the run lacks it."""
    file = tokens.path / f"{role}.parquet"
    if not file.exists():
        return []
    found: list[dict[str, Any]] = pq.read_table(
        file, columns=list(columns), filters=split
    ).to_pylist()
    return found
