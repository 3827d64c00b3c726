import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from posttrain.data import ingest as module
from posttrain.data.ingest import ingest
from posttrain.data.rows import SCHEMAS
from posttrain.data.sources import digest
from posttrain.facts import Role
from posttrain.hashes import sha256
from posttrain.recipe.ingest import IngestRecipe, Source

Rows = list[dict[str, Any]]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def ingested(role: Role, source: str, **options: Any) -> Rows:
    records = ingest(IngestRecipe(**{role: Source(source=source, **options)}))
    table = pq.read_table(records.file(role))
    assert table.schema.equals(SCHEMAS[role])
    rows: Rows = table.to_pylist()
    return rows


def refused(source: Path | str, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        ingested("corpus", str(source), **options)
    return str(error.value)


TEXTS = [{"text": "하나"}, {"text": 'two, "2"'}]


def write_json(path: Path) -> None:
    path.write_text(json.dumps(TEXTS, ensure_ascii=False, indent=1), encoding="utf-8")


def write_csv(path: Path) -> None:
    path.write_text('\ufefftext\n하나\n"two, ""2"""\n', encoding="utf-8")


def write_parquet(path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(TEXTS), path)


def write_txt(path: Path) -> None:
    path.write_text('하나\r\n\ntwo, "2"\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        ("jsonl", lambda path: jsonl(path, TEXTS)),
        ("json", write_json),
        ("csv", write_csv),
        ("parquet", write_parquet),
        ("txt", write_txt),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, write: Any) -> None:
    file = tmp_path / f"a.{suffix}"
    write(file)
    assert ingested("corpus", str(file)) == [
        {"id": "corpus-1", "text": "하나", "split": "train", "extra": None},
        {"id": "corpus-2", "text": 'two, "2"', "split": "train", "extra": None},
    ]


def test_a_glob_reads_files_in_order_and_records_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    records = ingest(IngestRecipe(corpus=Source(source=f"{tmp_path}/*.jsonl")))
    assert pq.read_table(records.file("corpus"))["text"].to_pylist() == ["a", "b"]
    facts = records.facts
    assert facts.num_rows == {"corpus": 2}
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    assert facts.sources["corpus"].files == {file.as_posix(): sha256(file) for file in files}
    assert records.stage == "ingest" and records.verify()


def test_fields_limit_and_unused_columns(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"body": str(i), "topic": i, "n": None} for i in range(9)])
    rows = ingested("corpus", file, fields={"text": "body"}, limit=2)
    assert [row["text"] for row in rows] == ["0", "1"]
    assert [row["extra"] for row in rows] == ['{"topic": 0}', '{"topic": 1}']


def test_limit_runs_over_several_files(tmp_path: Path) -> None:
    for name in "abc":
        jsonl(tmp_path / f"{name}.jsonl", [{"text": name}] * 2)
    rows = ingested("corpus", f"{tmp_path}/*.jsonl", limit=3)
    assert [row["text"] for row in rows] == ["a", "a", "b"]


def test_prompt_and_response_become_a_conversation(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"system": "s", "prompt": "q", "response": "r"}])
    (row,) = ingested("instructions", file)
    assert row["messages"] == [
        {"role": "system", "content": "s", "learn": False},
        {"role": "user", "content": "q", "learn": False},
        {"role": "assistant", "content": "r", "learn": True},
    ]


def test_learn_false_marks_an_assistant_turn_as_context(tmp_path: Path) -> None:
    turn = {"role": "assistant", "content": "x"}
    messages = [{"role": "user", "content": "q"}, {**turn, "learn": False}, turn]
    (row,) = ingested("instructions", jsonl(tmp_path / "a.jsonl", [{"messages": messages}]))
    assert [message["learn"] for message in row["messages"]] == [False, False, True]


def test_messages_as_json_in_a_csv_cell(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('messages\n"[{""role"": ""user"", ""content"": ""q""}]"\n', encoding="utf-8")
    (row,) = ingested("instructions", str(file))
    assert row["messages"] == [{"role": "user", "content": "q", "learn": False}]


def test_preferences_take_strings_and_conversations(tmp_path: Path) -> None:
    answer = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}]
    raw = {"prompt": "q", "chosen": answer, "rejected": "bad", "margin": "0.5", "kind": 3}
    (row,) = ingested("preferences", jsonl(tmp_path / "a.jsonl", [raw]))
    assert row["prompt"] == [{"role": "user", "content": "q"}]
    assert (row["chosen"], row["rejected"]) == ("good", "bad")
    assert (row["margin"], row["kind"]) == (0.5, "3")


def test_rows_that_ask_the_same_share_a_group(tmp_path: Path) -> None:
    raw = [{"prompt": p, "response": str(i)} for i, p in enumerate(("q", " q ", "other"))]
    first, second, third = ingested("instructions", jsonl(tmp_path / "a.jsonl", raw))
    assert first["group"] == second["group"] != third["group"]


def test_held_out_share_splits_by_group_and_keeps_a_given_split(tmp_path: Path) -> None:
    raw = [{"prompt": f"q{i // 2}", "response": str(i)} for i in range(2_000)]
    rows = ingested("instructions", jsonl(tmp_path / "a.jsonl", raw), held_out_share=0.3)
    held_out = [row for row in rows if row["split"] == "held_out"]
    assert 0.25 < len(held_out) / len(rows) < 0.35
    assert len({row["group"] for row in held_out}) * 2 == len(held_out)
    given = jsonl(tmp_path / "b.jsonl", [{"text": str(i), "split": "train"} for i in range(50)])
    assert {r["split"] for r in ingested("corpus", given, held_out_share=0.9)} == {"train"}


def test_bad_values_pass_as_null_for_validate_to_judge(tmp_path: Path) -> None:
    raw: list[Any] = [{"text": "ok"}, {"text": 5}, {"txt": "?"}, {"text": None}, {"text": "\ud800"}]
    rows = ingested("corpus", jsonl(tmp_path / "a.jsonl", raw))
    assert [row["text"] for row in rows] == ["ok", None, None, None, "\ufffd"]
    raw = [{"messages": m} for m in ("no list", [5], [{"role": "user"}], [])]
    rows = ingested("instructions", jsonl(tmp_path / "b.jsonl", raw))
    nothing = {"role": None, "content": None, "learn": False}
    user = {"role": "user", "content": None, "learn": False}
    assert [row["messages"] for row in rows] == [None, [nothing], [user], []]


def test_a_mistyped_label_is_kept_in_extra(tmp_path: Path) -> None:
    raw = {"prompt": "q", "chosen": "a", "rejected": "b", "margin": "much", "kind": ["x"]}
    (row,) = ingested("preferences", jsonl(tmp_path / "a.jsonl", [raw]))
    assert row["margin"] is None and row["kind"] is None
    assert json.loads(row["extra"]) == {"margin": "much", "kind": ["x"]}


def test_a_csv_line_that_is_too_long_keeps_its_surplus_in_extra(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text\na\nb,c\n", encoding="utf-8")
    assert ingested("corpus", str(file))[1]["extra"] == '{"(beyond the header)": ["c"]}'


def test_batches_are_bounded_by_rows_and_by_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 4)
    monkeypatch.setattr(module, "BATCH_CHARS", 100)
    raw = [{"text": "x" * 5}] * 6 + [{"text": "y" * 200}] * 2
    records = ingest(IngestRecipe(corpus=Source(source=jsonl(tmp_path / "a.jsonl", raw))))
    metadata = pq.read_metadata(records.file("corpus"))
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sizes == [4, 3, 1]


def test_a_json_list_longer_than_a_chunk(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    texts = ["가" * 3_000_000, *map(str, range(1_000))]
    file.write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")
    assert [row["text"] for row in ingested("corpus", str(file))] == texts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', ["a.jsonl", "line 2", "no JSON"]),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', ["a.jsonl", "line 2", "a list"]),
        ("a.jsonl", b"[" * 99_999, ["a.jsonl", "line 1", "no JSON"]),
        ("a.jsonl", "안녕".encode("cp949"), ["a.jsonl", "not UTF-8", "be c8", "iconv"]),
        ("a.jsonl", b'{"body": "a"}\n', ["a.jsonl", "'text'", "ingest.corpus.fields", "body"]),
        ("a.jsonl", b"\n", ["a.jsonl", "no rows"]),
        ("a.json", b'{"text": "a"}', ["a.json", "a list of objects", "jsonl"]),
        ("a.json", b'[{"text": "a"}, 5]', ["a.json", "item 2", "a number"]),
        ("a.json", b'[{"text": "a"}, {"te', ["a.json", "item 2", "no JSON"]),
        ("a.csv", b"body;x\na;b\n", ["a.csv", "'text'", "body;x"]),
        ("a.csv", b'text\n"a', ["a.csv", "malformed after line 1"]),
        ("a.parquet", b"PAR1 no", ["a.parquet", "no readable Parquet"]),
        ("a.xyz", b"?", ["a.xyz", "'.xyz'", "format"]),
    ],
)
def test_malformed_files_are_refused(
    tmp_path: Path, name: str, content: bytes, words: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name)
    assert all(word in message for word in words), message


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "none*.jsonl")
    assert "is a folder" in refused(tmp_path)


def test_instructions_say_which_columns_they_take(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"prompt": "q", "answer": "a"}])
    with pytest.raises(ValueError, match=r"'messages'|'response'"):
        ingested("instructions", file)


def test_the_recipe_refuses_fields_that_are_not_canonical() -> None:
    with pytest.raises(ValueError, match="txt"):
        IngestRecipe(corpus=Source(source="a.jsonl", fields={"txt": "body"}))
    with pytest.raises(ValueError, match="held_out_share"):
        IngestRecipe(probes=Source(source="a.jsonl", held_out_share=0.1))


def composed(tmp_path: Path, raw: list[Any], **compose: str) -> Rows:
    file = jsonl(tmp_path / "a.jsonl", raw)
    return ingested("instructions", file, compose=compose, fields={"response": "output"})


def test_a_prompt_is_composed_of_columns(tmp_path: Path) -> None:
    raw = {"instruction": "요약해 {input} 주세요", "input": 7, "output": "o", "other": 1}
    (row,) = composed(tmp_path, [raw], prompt="{{{instruction}}}: {input}!")
    assert row["messages"][0]["content"] == "{요약해 {input} 주세요}: 7!"
    assert row["extra"] == '{"other": 1}'


def test_a_composed_text_reaches_no_attribute(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    with pytest.raises(ValueError, match=r"no column 'text.__class__'"):
        ingested("corpus", file, compose={"text": "{text.__class__}"})


@pytest.mark.parametrize("empty", [None, "", " \n", [], {"a": 1}])
def test_paragraphs_whose_columns_are_empty_are_left_out(tmp_path: Path, empty: Any) -> None:
    raw = [
        {"instruction": "q", "input": "i", "output": "o"},
        {"instruction": "q", "input": empty, "output": "o"},
        {"instruction": empty, "input": empty, "output": "o"},
    ]
    rows = composed(tmp_path, raw, prompt="할 일:\n{instruction}\n\n자료: {input}\n\n답:")
    asked = [row["messages"][0]["content"] for row in rows]
    assert asked == ["할 일:\nq\n\n자료: i\n\n답:", "할 일:\nq\n\n답:", None]


def test_a_constant_gives_every_row_a_set(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"q": "1", "a": "2"}])
    options = {"fields": {"prompt": "q", "answer": "a"}, "compose": {"set": "test"}}
    (row,) = ingested("probes", file, **options)
    assert (row["prompt"], row["answer"], row["set"]) == ("1", "2", "test")


def test_mapped_columns_win_over_a_column_named_messages(tmp_path: Path) -> None:
    raw = {"messages": [{"role": "user", "content": "no"}], "q": "yes", "output": "o"}
    (row,) = composed(tmp_path, [raw], prompt="{q}")
    assert [message["content"] for message in row["messages"]] == ["yes", "o"]


def test_a_column_that_compose_misspells_is_named(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"document": "d", "summary": "s"}])
    options = {"compose": {"prompt": "요약: {documnt}"}, "fields": {"response": "summary"}}
    with pytest.raises(ValueError) as error:
        ingested("instructions", file, **options)
    assert str(error.value) == (
        f"{file}: no column 'documnt', which stands in braces in ingest.instructions.compose.prompt"
        "; did you mean 'document'? (found: ['document', 'summary'])"
    )


def test_a_column_that_rows_may_lack_is_no_error(tmp_path: Path) -> None:
    raw = [{"instruction": "a", "output": "x"}, {"instruction": "b", "input": "i", "output": "y"}]
    rows = composed(tmp_path, raw, prompt="{instruction}\n\n{input}")
    assert [row["messages"][0]["content"] for row in rows] == ["a", "b\n\ni"]


def test_a_response_that_is_lacking_beside_a_composed_prompt_is_named(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"document": "d", "summary": "s"}])
    with pytest.raises(ValueError, match=r"no column 'response'; ingest.instructions.fields must"):
        ingested("instructions", file, compose={"prompt": "{document}"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compose": {"text": "{a"}}, r"compose.text has a lone '{' at character 1; write '{{'"),
        ({"compose": {"text": "{}"}}, r"compose.text has a lone '{' at character 1"),
        ({"compose": {"text": "{a} }"}}, r"compose.text has a lone '}' at character 5; write '}}'"),
        ({"compose": {"txt": "{a}"}}, r"ingest.corpus.compose maps canonical .*\['txt'\]"),
        ({"compose": {"text": "{a}"}, "fields": {"text": "b"}}, r"\['text'\] stand in both"),
        ({"held_out_split": "test"}, "a hub data set"),
        ({"held_out_limit": 5}, "without held_out_split"),
        ({"format": "hub", "held_out_split": "train"}, "are both 'train'"),
        (
            {"format": "hub", "held_out_split": "test", "held_out_share": 0.1},
            "held_out_split sets a whole split aside and held_out_share a part",
        ),
    ],
)
def test_what_a_source_may_not_say(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IngestRecipe(corpus=Source(source="a.jsonl", **options))


def test_messages_are_not_composed_and_prompts_not_held_out_by_split() -> None:
    with pytest.raises(ValueError, match="`messages` is no text"):
        IngestRecipe(instructions=Source(source="a.jsonl", compose={"messages": "{a}"}))
    with pytest.raises(ValueError, match=r"ingest.prompts.held_out_split: .*compose: {set: its"):
        IngestRecipe(prompts=Source(source="a/b", format="hub", held_out_split="test"))


def test_equal_data_is_an_equal_artifact(tmp_path: Path) -> None:
    recipe = IngestRecipe(corpus=Source(source=jsonl(tmp_path / "a.jsonl", TEXTS)))
    assert ingest(recipe).content_hash() == ingest(recipe).content_hash()


def test_the_digest_follows_the_bytes(tmp_path: Path) -> None:
    recipe = IngestRecipe(corpus=Source(source=jsonl(tmp_path / "a.jsonl", TEXTS)))
    before = digest(recipe)
    assert digest(recipe) == before
    jsonl(tmp_path / "a.jsonl", TEXTS[:1])
    assert digest(recipe) != before


def test_sources_are_cheap_to_import() -> None:
    heavy = "{'pyarrow', 'datasets', 'pandas', 'torch', 'great_expectations'}"
    code = f"import sys, posttrain.data.sources; assert not {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_a_local_path_may_not_stand_in_for_a_hub_data_set(tmp_path: Path) -> None:
    assert "is also a path here" in refused(tmp_path, format="hub")


def test_a_list_of_files_is_one_source(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "b.jsonl", [{"text": "one"}])
    write_csv(tmp_path / "a.csv")
    rows = ingested("corpus", (first, str(tmp_path / "a.csv"), str(tmp_path / "b*")))  # type: ignore[arg-type]
    assert [row["text"] for row in rows] == ["one", "하나", 'two, "2"']
    assert len({row["id"] for row in rows}) == 3


def test_each_path_of_a_list_must_be_there(tmp_path: Path) -> None:
    first = jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    with pytest.raises(ValueError, match=r"absent.jsonl: no such file"):
        ingested("corpus", (first, str(tmp_path / "absent.jsonl")))  # type: ignore[arg-type]


def test_a_hub_data_set_stands_alone() -> None:
    with pytest.raises(ValueError, match="takes one id, and source lists 2"):
        Source(source=("a/b", "c/d"), format="hub")
