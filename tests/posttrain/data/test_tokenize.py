from collections import Counter

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Records
from posttrain.data.template import template
from posttrain.data.tokenize import Encoder, tokenize
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe


def test_every_role_is_encoded_and_counted(records: Records, base: BaseModel) -> None:
    chats = template(records, base, TemplateRecipe())
    tokens = tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))
    counts = tokens.facts.counts
    assert {role: count["rows"] for role, count in counts.items() if role != "corpus"} == {
        "instructions": 40,
        "preferences": 12,
        "prompts": 8,
        "probes": 8,
    }
    blocks = pq.read_table(tokens.path / "corpus.parquet").to_pylist()
    assert all(sum(row["lengths"]) == len(row["input_ids"]) <= 64 for row in blocks)
    assert sum(len(row["input_ids"]) for row in blocks) == counts["corpus"]["tokens"]
    assert sum(row["split"] == "held_out" for row in blocks) == 12
    pairs = pq.read_table(tokens.path / "preferences.parquet").to_pylist()
    assert all(row["chosen_ids"][-1] == row["rejected_ids"][-1] for row in pairs)


def test_alignment_06_what_is_too_long_is_dropped_and_counted(
    records: Records, base: BaseModel
) -> None:
    chats = template(records, base, TemplateRecipe())
    with pytest.raises(ValueError, match=r"no instruction is left \(counts: .*'too_long': 40"):
        tokenize(chats, base, TokenizeRecipe(max_length=4, block_size=64))


def test_chats_of_another_template_are_refused(records: Records, base: BaseModel) -> None:
    chats = template(records, base, TemplateRecipe())
    facts = chats.facts.model_copy(update={"template_hash": "0" * 64})
    forged = type(chats).write(chats.path, "template", facts)
    with pytest.raises(ValueError, match="made for template_hash 000000000000"):
        tokenize(forged, base, TokenizeRecipe(max_length=64, block_size=64))


def test_documents_that_a_block_splits_are_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    for packing, split in (("best_fit", 1), ("concatenate", 2)):
        recipe = TokenizeRecipe(max_length=8, block_size=8, packing=packing)
        tally: Counter[str] = Counter()
        blocks = Encoder(tokenizer, recipe).blocks([[1] * 5, [2] * 4, [3] * 10], tally)
        assert tally["split"] == split
        assert sorted(token for block in blocks for piece in block for token in piece) == (
            [1] * 5 + [2] * 4 + [3] * 10
        )


def test_a_pair_that_becomes_identical_is_dropped(tokenizer: PreTrainedTokenizerFast) -> None:
    row = {
        "messages": [{"role": "user", "content": "red ?"}],
        "chosen": "it is red",
        "rejected": "it is red",
    }
    tally: Counter[str] = Counter()
    recipe = TokenizeRecipe(max_length=64, block_size=64)
    assert Encoder(tokenizer, recipe).preferences([row], tally) == []
    assert tally == {"identical": 1}


def test_learn_prompts_supervises_every_token(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "red ?"}, {"role": "assistant", "content": "gold"}]
    recipe = TokenizeRecipe(max_length=64, block_size=64, learn_prompts=True)
    rows = Encoder(tokenizer, recipe).instructions([{"messages": messages}], Counter())
    assert all(rows[0]["assistant_mask"])


def test_alignment_03_an_example_without_a_supervised_token_is_dropped_and_counted(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    messages = [
        {"role": "user", "content": "red ?"},
        {"role": "assistant", "content": "gold", "learn": False},
    ]
    tally: Counter[str] = Counter()
    recipe = TokenizeRecipe(max_length=64, block_size=64)
    assert Encoder(tokenizer, recipe).instructions([{"messages": messages}], tally) == []
    assert tally == {"nothing_supervised": 1}
