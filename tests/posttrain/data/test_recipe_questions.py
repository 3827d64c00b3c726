"""Questions from a recipe's sources: columns mean what they mean in training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from posttrain.data.recipe_questions import recipe_questions
from posttrain.facts import Role
from posttrain.recipe.ingest import IngestRecipe, Source
from tests.hub import Hub, serve
from tests.stand_ins import SOCRATIC, write_socratic

ASK = """
import json, sys
from posttrain.data.recipe_questions import recipe_questions
from posttrain.recipe.ingest import Source
role, source, split, limit = json.loads(sys.argv[1])
questions = recipe_questions(Source.model_validate(source), role, split, limit)
print(json.dumps([[q.row, q.messages] for q in questions]))
"""


def of_file(folder: Path, role: Role, rows: list[dict[str, Any]], **source: Any) -> Source:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = IngestRecipe.model_validate({role: {"source": str(file), **source}})
    found: Source = getattr(recipe, role)
    return found


def test_an_instructions_last_answer_is_what_is_expected(tmp_path: Path) -> None:
    rows = [{"input": f"{place} ?", "target": "red", "topic": "a"} for place in range(3)]
    names = {"prompt": "input", "response": "target", "kind": "topic"}
    source = of_file(tmp_path, "instructions", rows, fields=names)
    first, second = recipe_questions(source, "instructions", limit=2, system="be kind")
    assert first.row["expected"] == "red"
    assert first.row["kind"] == "a"
    assert second.row["messages"] == [{"role": "user", "content": "1 ?"}]
    assert second.messages == [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "1 ?"},
    ]


@pytest.mark.parametrize(
    ("role", "row", "expected"),
    [
        ("probes", {"prompt": "red ?", "answer": "yes", "set": "A"}, "yes"),
        ("prompts", {"prompt": "red ?", "set": "A"}, None),
        ("preferences", {"prompt": "red ?", "chosen": "yes", "rejected": "no"}, "yes"),
    ],
)
def test_every_role_with_questions_can_be_asked(
    tmp_path: Path, role: Role, row: dict[str, Any], expected: str | None
) -> None:
    (question,) = recipe_questions(of_file(tmp_path, role, [row]), role)
    assert question.messages == [{"role": "user", "content": "red ?"}]
    assert question.row.get("expected") == expected
    assert question.where.endswith("rows.jsonl: row 1")


def test_what_the_recipe_holds_out_can_be_asked_for(tmp_path: Path) -> None:
    rows = [{"prompt": f"{place} ?", "response": "red"} for place in range(40)]
    source = of_file(tmp_path, "instructions", rows, held_out_share=0.3)
    held_out = recipe_questions(source, "instructions", "held_out")
    assert 0 < len(held_out) < 40
    assert {question.row["split"] for question in held_out} == {"held_out"}
    assert len(recipe_questions(source, "instructions", "held_out", limit=2)) == 2


def test_a_file_has_no_splits_of_a_name(tmp_path: Path) -> None:
    source = of_file(tmp_path, "probes", [{"prompt": "red ?", "answer": "yes", "set": "A"}])
    with pytest.raises(ValueError, match=r"--split test: ingest.probes reads .*; name held_out"):
        recipe_questions(source, "probes", "test")


def test_rows_without_a_question_are_named(tmp_path: Path) -> None:
    rows = [{"prompt": "red ?", "set": "A"}, {"prompt": None, "set": "A"}]
    with pytest.raises(ValueError, match=r"row 2: .*look at ingest.prompts.fields"):
        recipe_questions(of_file(tmp_path, "prompts", rows), "prompts")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    with serve(folder / "served") as hub:
        write_socratic(folder / "rows")
        hub.push("datasets", SOCRATIC, folder / "rows")
        yield hub


@pytest.mark.parametrize("role", ["probes", "instructions"])
def test_the_first_seeds_test_split_is_asked_as_its_document_does(
    hub: Hub, tmp_path: Path, role: str
) -> None:
    file = Path("recipes/gemma3_1b_socratic.yaml")
    recipe = yaml.safe_load(file.read_text(encoding="utf-8"))["parameters"]["recipe"]
    given = [role, recipe["ingest"][role], "test", 5]
    done = hub.run(tmp_path, ASK, json.dumps(given))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 5
    rows = _rows_of_the_split(hub, "test")[:5]
    assert [messages[-1]["content"] for _, messages in found] == [row["input"] for row in rows]
    assert [row["expected"] for row, _ in found] == [row["target"] for row in rows]


def _rows_of_the_split(hub: Hub, split: str) -> list[dict[str, str]]:
    (folder,) = hub.repositories["datasets", SOCRATIC].commits.values()
    rows: list[dict[str, str]] = pq.read_table(
        folder / f"data/{split}-00000-of-00001.parquet"
    ).to_pylist()
    return rows
