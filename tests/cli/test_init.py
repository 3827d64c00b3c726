"""`posttrain init`: real files in, a recipe that loads out."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from cli.columns import look_at
from cli.main import app
from cli.recipe_yaml import commented
from posttrain.recipe import Recipe

QUESTION, ANSWER = "달무리실 관람료 좀요.", "달무리실 관람료는 삼천 원입니다."


def jsonl(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


def init(*words: str) -> Any:
    return CliRunner().invoke(app, ["init", *words])


def loaded(file: Path) -> Recipe:
    return Recipe.model_validate(yaml.safe_load(file.read_text())["parameters"]["recipe"])


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_instructions_by_korean_columns(tmp_path: Path) -> None:
    file = tmp_path / "qa.csv"
    file.write_text(f"번호;질문;답변;비고\n1;{QUESTION};{ANSWER};\n", encoding="utf-8-sig")
    done = init("--from", "qa.csv", "--name", "museum")
    assert done.exit_code == 0, done.output
    assert "role: instructions; 질문 -> prompt, 답변 -> response, 번호 -> id" in done.output
    assert "not trained on: 비고" in done.output
    source = loaded(Path("recipe.yaml")).ingest.instructions
    assert source is not None
    assert (source.source, source.delimiter) == ("qa.csv", ";")
    assert source.fields == {"prompt": "질문", "response": "답변", "id": "번호"}
    assert source.held_out_share == 0.05
    assert loaded(Path("recipe.yaml")).registration.model_name == "museum"


@pytest.mark.parametrize(
    ("row", "role", "fields"),
    [
        ({"messages": [{"role": "user", "content": "가"}]}, "instructions", {}),
        (
            {"instruction": "가", "input": "", "output": "나"},
            "instructions",
            {"prompt": "instruction", "response": "output"},
        ),
        ({"prompt": "가", "chosen": "나", "rejected": "다"}, "preferences", {}),
        (
            {"question": "가", "better": "나", "worse": "다"},
            "preferences",
            {"prompt": "question", "chosen": "better", "rejected": "worse"},
        ),
        ({"본문": "가"}, "corpus", {"text": "본문"}),
        ({"prompt": "가", "answer": "나", "set": "A"}, "probes", {}),
        ({"prompt": "가", "answer": "나"}, "instructions", {"response": "answer"}),
        ({"query": "가", "type": "plain"}, "prompts", {"prompt": "query", "kind": "type"}),
    ],
)
def test_the_role_follows_from_the_columns(
    tmp_path: Path, row: dict[str, Any], role: str, fields: dict[str, str]
) -> None:
    found = look_at(jsonl(tmp_path / "data.jsonl", row))
    assert (found.role, found.source.fields) == (role, fields)


def test_every_kind_of_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("첫 줄\n둘째 줄\n")
    (tmp_path / "b.json").write_text('[{"text": "가"}]')
    pq.write_table(pa.table({"text": ["가"]}), tmp_path / "c.parquet")
    (tmp_path / "d.csv").write_text("text\tsplit\n가\ttrain\n")
    for name in ("a.txt", "b.json", "c.parquet", "d.csv"):
        assert look_at(tmp_path / name).role == "corpus"


def test_several_files_make_one_recipe(tmp_path: Path) -> None:
    jsonl(tmp_path / "docs.jsonl", {"text": "가" * 700})
    jsonl(tmp_path / "qa.jsonl", {"question": "가", "answer": "나"})
    jsonl(
        tmp_path / "test.jsonl",
        {"prompt": "가", "answer": "나", "set": "A"},
        {"prompt": "다", "answer": None, "set": "open"},
    )
    assert init("--from", "docs.jsonl", "--from", "qa.jsonl", "--from", "test.jsonl").exit_code == 0
    recipe = loaded(Path("recipe.yaml"))
    assert recipe.base_finetune.method == "lora"
    assert recipe.tokenize.max_length == 1024
    assert [probe.sets for probe in recipe.evaluation.probes] == [("A",)]


def test_instructions_alone_train_no_base(tmp_path: Path) -> None:
    jsonl(tmp_path / "qa.jsonl", {"question": "가", "answer": "나"})
    init("--from", "qa.jsonl")
    assert loaded(Path("recipe.yaml")).base_finetune.method == "none"


def test_an_existing_recipe_is_kept(tmp_path: Path) -> None:
    jsonl(tmp_path / "docs.jsonl", {"text": "가"})
    Path("recipe.yaml").write_text("mine")
    done = init("--from", "docs.jsonl")
    assert isinstance(done.exception, ValueError)
    assert Path("recipe.yaml").read_text() == "mine"
    assert init("--from", "docs.jsonl", "--force").exit_code == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jsonl", None, "no such file"),
        ("empty.jsonl", "", "has no rows"),
        ("odd.jsonl", '{"x": 1}\n', r"its columns \['x'\] fit no role"),
        ("data.xlsx", "PK", "nothing is known of the suffix"),
        ("broken.jsonl", "{\n", "line 1 is no JSON"),
        (
            "sharegpt.jsonl",
            '{"conversations": [{"from": "human", "value": "hi"}]}\n',
            r"must be a list of messages.*found \['from', 'value'\]",
        ),
    ],
)
def test_what_cannot_be_used_is_said(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        look_at(tmp_path / name)


def test_two_files_of_one_role_need_a_word(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", {"text": "가"})
    jsonl(tmp_path / "b.jsonl", {"text": "가", "prompt": "나"})
    assert "name the role" in str(init("--from", "a.jsonl", "--from", "b.jsonl").exception)
    assert init("--from", "a.jsonl", "--from", "prompts=b.jsonl").exit_code == 0
    assert loaded(Path("recipe.yaml")).ingest.prompts is not None


def test_the_yaml_explains_every_field_once(tmp_path: Path) -> None:
    jsonl(tmp_path / "docs.jsonl", {"text": "가"})
    init("--from", "docs.jsonl")
    text = Path("recipe.yaml").read_text()
    assert text.count("# Peak learning rate.") == 1
    assert text.count("learning_rate:") == 2
    assert text.count("seed:") == 1  # sections inherit it


def test_the_commented_recipe_is_the_recipe() -> None:
    file = Path(__file__).parents[2] / "zenml_config.yaml"
    content = yaml.safe_load(file.read_text())["parameters"]["recipe"]
    recipe = Recipe.model_validate(content)
    assert Recipe.model_validate(yaml.safe_load(commented(recipe))) == recipe
