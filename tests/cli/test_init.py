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
from cli.families import template_of
from cli.generate import read
from cli.main import app
from cli.recipe_yaml import commented
from posttrain.artifacts import BaseModel
from posttrain.recipe import Recipe
from tests.cli.runs import instructions, model_folder

ROOT = Path(__file__).parents[2]

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
    content = yaml.safe_load(Path("recipe.yaml").read_text())["parameters"]["recipe"]
    assert content["base_finetune"] == {"method": "none"}  # its other fields would be read by none
    assert content["sft"]["learning_rate"] == 2e-4


@pytest.mark.parametrize(
    ("base", "template"),
    [
        ("google/gemma-3-1b-it", "gemma3"),
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama3"),
        ("meta-llama/Llama-3.2-1B", "llama3"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "chatml"),
        ("Qwen/Qwen3-4B", "chatml"),
        ("google/gemma-2-2b-it", None),
        ("meta-llama/Llama-2-7b-chat-hf", None),
        ("meta-llama/Llama-30B", None),
        ("registry:gemma-3-guide@champion", None),
        ("gemma3_text <end_of_turn>", "gemma3"),
        ("qwen2 <|im_end|>", "chatml"),
        ("llama <|eot_id|>", "llama3"),
        ("llama </s>", None),
        ("gpt2 <|im_end|>", None),
    ],
)
def test_a_familys_template_is_named_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, template: str | None
) -> None:
    model_type, _, end = base.partition(" ")
    if end:
        base = str(tmp_path / "gemma-3-by-name-alone")
        Path(base).mkdir()
        jsonl(Path(base) / "config.json", {"model_type": model_type})
        jsonl(Path(base) / "tokenizer.json", {"added_tokens": [{"content": end}]})
    assert template_of(base) is None  # no recipes/ here
    monkeypatch.chdir(ROOT)
    assert template_of(base) == (f"recipes/{template}.jinja" if template else None)


def test_a_broken_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json: is no JSON"):
        template_of(str(tmp_path))


def test_a_recipe_names_the_template_of_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = jsonl(tmp_path / "docs.jsonl", {"text": "가"}), tmp_path / "recipe.yaml"
    words = ("--from", str(file), "--out", str(out), "--base", "google/gemma-3-1b-it")
    assert "template: that of google/gemma-3-1b-it itself" in init(*words).output
    assert loaded(out).template.chat_template is None
    assert "llama3.jinja" in out.read_text()  # the note
    monkeypatch.chdir(ROOT)
    assert "template:" not in init(*words, "--force").output
    assert loaded(out).template.chat_template == "recipes/gemma3.jinja"


def test_what_it_writes_can_be_checked_pinned_and_asked(
    base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    model, out = model_folder(base, tmp_path / "model"), tmp_path / "recipe.yaml"
    words = ("--from", str(instructions(tmp_path)), "--base", str(model), "--out", str(out))
    assert init(*words).exit_code == 0
    steps = yaml.safe_load(out.read_text())["steps"]
    assert "sft" in steps and not {"reward_model", "ppo", "self_critique"} & set(steps)
    for command in ("check", "pin", "check"):
        more = ("--gpu-gib", "80") if command == "check" else ()
        done = CliRunner().invoke(app, [command, "-c", str(out), *more])
        assert done.exit_code == 0, (command, done.output, done.exception)
        assert "note:" not in done.output
    assert loaded(out).base_model.fingerprint == base.facts.fingerprint
    asked = read(None, out, "instructions", None, 2, None)
    assert [one.row["expected"] for one in asked] == ["it is gold"] * 2
    with pytest.raises(ValueError, match=r"has no parameters.recipe.ingest.probes; .*instructions"):
        read(None, out, "probes", None, None, None)


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
    file = ROOT / "zenml_config.yaml"
    content = yaml.safe_load(file.read_text())["parameters"]["recipe"]
    recipe = Recipe.model_validate(content)
    assert Recipe.model_validate(yaml.safe_load(commented(recipe))) == recipe
