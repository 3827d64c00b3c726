import pyarrow.parquet as pq

from posttrain.artifacts import BaseModel, Records
from posttrain.data.template import template
from posttrain.recipe.template import TemplateRecipe


def test_every_role_comes_out_in_messages(records: Records, base: BaseModel) -> None:
    chats = template(records, base, TemplateRecipe())
    for role in ("instructions", "preferences", "prompts", "probes"):
        rows = pq.read_table(chats.path / f"{role}.parquet").to_pylist()
        assert all(row["messages"][0]["role"] == "user" for row in rows), role
    assert chats.facts.template_hash == base.facts.template_hash
    assert set(chats.facts.data_hashes) == set(chats.facts.num_rows)


def test_long_conversations_are_dropped_and_counted(records: Records, base: BaseModel) -> None:
    chats = template(records, base, TemplateRecipe(max_turns=1))
    assert chats.facts.num_rows["instructions"] == 0
    assert chats.facts.dropped["instructions"] == {"too_many_turns": 40}
