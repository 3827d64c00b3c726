"""Pairs drawn from the tiny world: blind, comparable, the same for the same seed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from posttrain.align.pairs import (
    Drawn,
    Turn,
    draw,
    last_two,
    shown,
    unfit,
    untrained_set,
    write,
)
from posttrain.align.revise import Utterance
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.hashes import sha256_of
from posttrain.models.adapters import new_adapter, save_adapter
from posttrain.models.load import load_base
from posttrain.recipe.human_preferences import PairsRecipe
from posttrain.recipe.train import LoraRecipe

RECIPE = PairsRecipe(num_prompts=24, max_new_tokens=12, seed=3)


@pytest.fixture(scope="module")
def policy(domain: BaseModel, tmp_path_factory: Any) -> Policy:
    """As PPO would hand it over."""
    return new_policy(domain, tmp_path_factory.mktemp("policy"), "ppo", {"prompt_set": "rollout"})


def new_policy(domain: BaseModel, folder: Path, stage: str, recipe: dict[str, Any]) -> Policy:
    torch.manual_seed(2)
    model = new_adapter(load_base(domain), LoraRecipe(rank=4, alpha=8))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    save_adapter(model, "default", folder / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(domain),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe=recipe,
        figures={},
    )
    return Policy.write(folder, stage, facts)


@pytest.fixture(scope="module")
def drawn(
    tokens: Tokens, domain: BaseModel, assistant: Policy, policy: Policy, tmp_path_factory: Any
) -> Drawn:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTTRAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        return draw(tokens, domain, {"sft": assistant, "ppo": policy}, RECIPE, "a-run")


def test_each_pair_has_an_answer_of_either_stage(drawn: Drawn, policy: Policy) -> None:
    assert len(drawn.rows) + sum(drawn.dropped.values()) == 16  # the whole set `revision`
    assert len(drawn.rows) > 4
    for row in drawn.rows:
        assert {row.stage_1, row.stage_2} == {"sft", "ppo"}
        assert row.response_1 != row.response_2
        assert (row.policy_1 if row.stage_1 == "ppo" else row.policy_2) == policy.content_hash()


def test_either_stage_stands_first(drawn: Drawn) -> None:
    assert {row.stage_1 for row in drawn.rows} == {"sft", "ppo"}


def test_the_default_set_is_one_never_trained_on(
    drawn: Drawn, tokens: Tokens, assistant: Policy, policy: Policy
) -> None:
    assert drawn.prompt_set == "revision"
    assert untrained_set(tokens, [assistant]) == "rollout"  # none was trained on: the largest
    assert untrained_set(tokens, [assistant, policy]) == "revision"


def test_the_same_seed_draws_the_same_pairs_and_another_does_not(
    drawn: Drawn, tokens: Tokens, domain: BaseModel, assistant: Policy, policy: Policy
) -> None:
    policies = {"sft": assistant, "ppo": policy}
    assert draw(tokens, domain, policies, RECIPE, "a-run") == drawn  # type: ignore[arg-type]
    other = RECIPE.model_copy(update={"seed": 4})
    assert draw(tokens, domain, policies, other, "a-run").rows != drawn.rows  # type: ignore[arg-type]


def test_one_policy_is_sampled_twice(tokens: Tokens, domain: BaseModel, assistant: Policy) -> None:
    drawn = draw(tokens, domain, {"sft": assistant}, RECIPE, "a-run")
    assert drawn.between == ("sft", "sft")
    assert all(row.response_1 != row.response_2 for row in drawn.rows)


@pytest.mark.parametrize("layout", ["jsonl", "label-studio"])
def test_what_raters_see_names_no_writer(drawn: Drawn, layout: Any, tmp_path: Path) -> None:
    key = write(drawn, tmp_path / "pairs.json", layout)
    text = (tmp_path / "pairs.json").read_text(encoding="utf-8")
    rows = (
        json.loads(text)
        if layout == "label-studio"
        else list(map(json.loads, text.split("\n")[:-1]))
    )
    shapes = {tuple(row.get("data", row)) for row in rows}
    given = ("pair_id", "prompt", "response_1", "response_2", "messages")
    assert shapes == {given if layout == "label-studio" else (*given, "choice")}
    secret = {drawn.rows[0].policy_1, drawn.rows[0].policy_2, "sft", "ppo", "a-run", "q0"}
    assert [word for word in secret if word in text] == []
    assert all(word in key.read_text() for word in secret - {"q0"})


def test_ids_do_not_tell_the_order(drawn: Drawn) -> None:
    for row in drawn.rows:
        turns = [turn.model_dump() for turn in row.messages]
        for texts in ([row.response_1, row.response_2], [row.response_2, row.response_1]):
            assert row.pair_id == sha256_of([turns, sorted(texts)])[:16]


def test_a_pair_comes_once(
    tokens: Tokens, domain: BaseModel, assistant: Policy, policy: Policy, tmp_path: Path
) -> None:
    rows = pq.read_table(tokens.path / "prompts.parquet").to_pylist()
    pq.write_table(pa.Table.from_pylist([*rows, *rows]), tmp_path / "prompts.parquet")
    twice = Tokens.write(tmp_path, "tokenize", tokens.facts)
    recipe = RECIPE.model_copy(update={"num_prompts": 200, "temperature": 1e-4})
    found = draw(twice, domain, {"sft": assistant, "ppo": policy}, recipe, "a-run")
    assert found.dropped["duplicate"] == len(found.rows)


def test_a_stage_that_the_run_lacks_is_named(
    tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    recipe = PairsRecipe(between=("sft", "ppo"))
    with pytest.raises(ValueError, match="no policy of 'ppo'"):
        draw(tokens, domain, {"sft": assistant}, recipe, "a-run")


def test_without_a_pair_the_reasons_are_given(
    tokens: Tokens, domain: BaseModel, assistant: Policy
) -> None:
    recipe = RECIPE.model_copy(update={"max_new_tokens": 1})
    with pytest.raises(ValueError, match=r"gave two answers to compare \(\{'unfinished': 24\}\)"):
        draw(tokens, domain, {"sft": assistant}, recipe, "a-run")


def said(text: str, ended: bool = True) -> Utterance:
    return Utterance([1], text, ended)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([said("a"), said("b")], None),
        ([said("a"), said("a")], "identical"),
        ([said("a"), said("")], "empty"),
        ([said("a"), said("b", ended=False)], "unfinished"),
    ],
)
def test_answers_that_cannot_be_compared(answers: list[Utterance], reason: str | None) -> None:
    assert unfit(answers) == reason


def test_a_conversation_is_shown_by_who_speaks() -> None:
    turns = [Turn(role="user", content="Hi"), Turn(role="assistant", content="Hello")]
    assert shown(turns[:1]) == "Hi"
    assert shown(turns) == "[user]\nHi\n\n[assistant]\nHello"


def test_the_last_two_policies_are_compared() -> None:
    assert last_two(["sft", "ppo", "self_critique"]) == ("ppo", "self_critique")
