"""Prompts from a file: what is taken, and what is refused by its line."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from posttrain.data.chat import encode_prompts
from posttrain.data.questions import Question, encode, messages_of, read_questions

ASK = {"role": "user", "content": "무슨 색 😀 ?"}


def written(folder: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file = folder / "prompts.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_prompts_and_messages_are_conversations_and_the_rest_is_kept(tmp_path: Path) -> None:
    answered = [ASK, {"role": "assistant", "content": "red"}, ASK]
    file = written(tmp_path, {"prompt": ASK["content"], "id": 7}, "", {"messages": answered})
    first, second = read_questions(file)
    assert first == Question(f"{file}: line 1", {"prompt": ASK["content"], "id": 7}, [ASK])
    assert second.where == f"{file}: line 3"
    assert second.messages == answered


def test_a_system_message_goes_where_there_is_none(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "be curt"}, ASK]
    file = written(tmp_path, {"prompt": "red ?"}, {"messages": own})
    first, second = read_questions(file, system="be kind")
    assert first.messages[0] == {"role": "system", "content": "be kind"}
    assert second.messages == own


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"prompt": "red ?"}\r\n')
    assert read_questions(file)[0].messages == [{"role": "user", "content": "red ?"}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{'prompt': 1}", "is no JSON"),
        (["red"], "an object such as {...} is wanted, found list"),
        ({"question": "red"}, r"either `prompt` or `messages` is wanted \(found \['question'\]\)"),
        ({"prompt": "red", "messages": [ASK]}, r"either .* is wanted \(has both\)"),
        ({"prompt": 3}, "`prompt` must be a text, found int"),
        ({"prompt": " \n"}, "`prompt` is empty"),
        ({"prompt": "red", "ended": 1}, "has a column 'ended' already.*'expected_ended'"),
        ({"messages": []}, "`messages` must be a list"),
        ({"messages": ["red"]}, "message 1 needs a `role` of system, user, assistant, found None"),
        ({"messages": [{"role": "user"}]}, "the `content` of message 1 must be a text"),
        (
            {"messages": [ASK, {"role": "assistant", "content": "red"}]},
            "its last message is the assistant's; the user's is wanted",
        ),
    ],
)
def test_a_row_that_is_no_question_is_refused_by_its_line(
    tmp_path: Path, row: Any, reason: str
) -> None:
    file = written(tmp_path, {"prompt": "red ?"}, row)
    with pytest.raises(ValueError, match=rf"prompts.jsonl: line 2: {reason}"):
        read_questions(file)


def test_problems_are_named_together_and_then_counted(tmp_path: Path) -> None:
    file = written(tmp_path, *[{"prompt": ""}] * 7)
    with pytest.raises(ValueError, match=r"line 1: .*line 5: .*; and 2 more; nothing was answered"):
        read_questions(file)


def test_a_file_that_is_absent_empty_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent.jsonl: cannot be read: No such file"):
        read_questions(tmp_path / "absent.jsonl")
    with pytest.raises(ValueError, match=r'has no rows; .* such as {"prompt"'):
        read_questions(written(tmp_path, ""))
    file = tmp_path / "cp949.jsonl"
    file.write_bytes('{"prompt": "색"}'.encode("cp949"))
    with pytest.raises(ValueError, match="line 1: is not UTF-8"):
        read_questions(file)


def test_half_a_character_becomes_a_mark_that_can_be_encoded() -> None:
    assert messages_of({"prompt": "red \ud83d"})[0]["content"] == "red \ufffd"


def test_questions_are_encoded_as_any_prompt(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    questions = read_questions(written(tmp_path, {"prompt": "red ?"}, {"messages": [ASK]}))
    assert encode(tokenizer, questions) == encode_prompts(
        tokenizer, [question.messages for question in questions]
    )


def test_what_the_template_refuses_is_named_by_its_line(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", strict + tokenizer.get_chat_template())
    system = [{"role": "system", "content": "be kind"}, ASK]
    questions = read_questions(written(tmp_path, {"prompt": "red ?"}, {"messages": system}))
    with pytest.raises(ValueError, match=r"line 2: the chat template refuses it: no system here"):
        encode(tokenizer, questions)
