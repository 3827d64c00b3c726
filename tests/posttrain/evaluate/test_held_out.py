"""The hash by which two evaluations compare."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posttrain.artifacts import BaseModel, Policy, Records
from posttrain.evaluate.held_out import answering_of, held_out_hash
from posttrain.evaluate.stages import Stages
from posttrain.models.tokenizer import train_tokenizer
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HarnessRecipe
from posttrain.recipe.ppo import PpoRecipe
from tests.conftest import llama
from tests.tiny_run import FACT, RECIPE, tokens_of


def hash_of(stages: Stages, recipe: EvaluationRecipe) -> str:
    return held_out_hash(stages.tokens, stages.domain, stages.policy, recipe)


def test_the_hash_is_of_what_is_measured_alone(
    stages: Stages, records: Records, base: BaseModel, tmp_path: Path
) -> None:
    def hash_with(split: str) -> str:
        changed = tokens_of(with_text(records, split, tmp_path / split), base)
        assert changed.content_hash() != stages.tokens.content_hash()
        return hash_of(Stages(changed, base, base, stages.assistant), RECIPE)

    whole = hash_of(stages, RECIPE)
    assert hash_with("train") == whole
    assert hash_with("held_out") != whole


def test_alignment_09_the_hash_is_of_texts_whatever_the_tokenizer(
    stages: Stages, records: Records, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = llama(train_tokenizer(["the sky is red on day 7"] * 20, 300), tmp_path / "other", 0)
    assert other.facts.tokenizer_hash != stages.base.facts.tokenizer_hash
    theirs = Stages(tokens_of(records, other), other, other, stages.assistant)
    assert hash_of(theirs, RECIPE) == hash_of(stages, RECIPE)


def with_text(records: Records, split: str, folder: Path) -> Records:
    """The same records, with another document in place of the first of `split`."""
    folder.mkdir()
    for file in records.path.glob("*.parquet"):
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        if file.stem == "corpus":
            next(row for row in rows if row["split"] == split)["text"] = "the sea is gold ."
        pq.write_table(pa.Table.from_pylist(rows), folder / file.name)
    return Records.write(folder, "validate", records.facts)


def test_the_hash_is_of_how_it_is_measured(stages: Stages) -> None:
    whole = hash_of(stages, RECIPE)
    marked = FACT.model_copy(update={"not_any_of": ("sorry", "alas")})
    assert hash_of(stages, RECIPE.model_copy(update={"probes": (marked,)})) != whole
    cheaper = RECIPE.model_copy(update={"batch_size": 1, "num_bootstrap": 5, "seed": 3})
    assert hash_of(stages, cheaper) == whole
    benchmarked = RECIPE.model_copy(update={"harness": HarnessRecipe(tasks=("arc_easy",))})
    assert hash_of(stages, benchmarked) == whole


def test_dpos_section_says_how_held_out_prompts_are_answered(
    stages: Stages, tmp_path: Path
) -> None:
    dpo = DpoRecipe(
        learning_rate=1e-4,
        num_epochs=1,
        batch_size=4,
        max_new_tokens=5,
        temperature=0.7,
        held_out_set="rollout",
        num_held_out=3,
    )
    facts = stages.assistant.facts.model_copy(update={"recipe": dpo.model_dump()})
    (tmp_path / "dpo").mkdir()
    policy = Policy.write(tmp_path / "dpo", "dpo", facts)
    found = answering_of(policy)
    assert (found.max_new_tokens, found.temperature, found.num_held_out) == (5, 0.7, 3)
    assert list(replace(stages, policy=policy).policies) == ["sft", "dpo"]


def test_the_hash_is_of_the_prompts_that_policies_answer(stages: Stages, tmp_path: Path) -> None:
    def hash_with(num_held_out: int) -> str:
        ppo = PpoRecipe(
            num_iterations=1,
            batch_size=4,
            learning_rate=1e-4,
            max_new_tokens=4,
            prompt_set="other",
            held_out_set="rollout",
            num_held_out=num_held_out,
        )
        facts = stages.assistant.facts.model_copy(update={"recipe": ppo.model_dump()})
        folder = tmp_path / f"ppo-{num_held_out}"
        folder.mkdir(exist_ok=True)
        return hash_of(replace(stages, policy=Policy.write(folder, "ppo", facts)), RECIPE)

    assert len({hash_of(stages, RECIPE), hash_with(3), hash_with(8)}) == 3
    assert hash_with(8) == hash_with(80)  # there are 8
