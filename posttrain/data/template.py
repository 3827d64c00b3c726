"""Records to conversations in the one form that training and inference render.

What is dropped here is counted: conversations with more turns than the recipe allows.
"""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from posttrain.artifacts import BaseModel, Chats, Records
from posttrain.data.columns import MESSAGE, Row, batches, write
from posttrain.facts import ChatsFacts, Role
from posttrain.recipe.template import TemplateRecipe
from posttrain.runtime import Runtime

TEXT = pa.string()
COMMON = [("id", TEXT), ("kind", TEXT), ("group", TEXT)]
MESSAGES = ("messages", pa.list_(MESSAGE))
SCHEMAS: dict[Role, pa.Schema] = {
    "instructions": pa.schema([*COMMON, ("split", TEXT), MESSAGES]),
    "preferences": pa.schema(
        [
            *COMMON,
            ("split", TEXT),
            ("margin", pa.float64()),
            MESSAGES,
            ("chosen", TEXT),
            ("rejected", TEXT),
        ]
    ),
    "prompts": pa.schema([*COMMON, ("set", TEXT), MESSAGES]),
    "probes": pa.schema([*COMMON, ("set", TEXT), ("prompt", TEXT), ("answer", TEXT), MESSAGES]),
}


def template(records: Records, base: BaseModel, recipe: TemplateRecipe) -> Chats:
    """Bring every role with conversations into messages under the base's chat template.

    The corpus is handed on as it is; it has no turns.
    """
    records.verify()
    folder = Runtime.from_environment().new_folder("chats")
    num_rows: dict[str, int] = {}
    dropped: dict[str, dict[str, int]] = {}
    for role, schema in SCHEMAS.items():
        if records.file(role).exists():
            counts: Counter[str] = Counter()
            chunks = _chunks(records.file(role), role, recipe, counts)
            num_rows[role] = write(folder / f"{role}.parquet", schema, chunks)
            dropped[role] = dict(counts)
    corpus = records.file("corpus")
    if corpus.exists():
        shutil.copyfile(corpus, folder / corpus.name)
        num_rows["corpus"] = records.facts.num_rows["corpus"]
    facts = base.facts
    return Chats.write(
        folder,
        "template",
        ChatsFacts(
            num_rows=num_rows,
            dropped=dropped,
            template_hash=facts.template_hash,
            tokenizer_hash=facts.tokenizer_hash,
            data_hashes={
                Path(name).stem: sha
                for name, sha in records.manifest.files.items()
                if name.endswith(".parquet")
            },
        ),
    )


def _chunks(
    file: Path, role: Role, recipe: TemplateRecipe, dropped: Counter[str]
) -> Iterator[list[Row]]:
    for rows in batches(file):
        kept = []
        for row in rows:
            messages = _messages(role, row)
            if len(messages) > recipe.max_turns:
                dropped["too_many_turns"] += 1
                continue
            kept.append({**row, "messages": messages})
        names = SCHEMAS[role].names
        yield [{name: row.get(name) for name in names} for row in kept]


def _messages(role: Role, row: Row) -> list[dict[str, Any]]:
    if role == "instructions":
        return list(row["messages"])
    if role == "probes":
        return [{"role": "user", "content": row["prompt"]}]
    return list(row["prompt"])
