import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from posttrain.artifacts import Records
from posttrain.data import ingest as ingest_module
from posttrain.data.ingest import ingest
from posttrain.data.rows import SCHEMAS
from posttrain.data.validate import Validated, validate
from posttrain.facts import Role
from posttrain.recipe.ingest import IngestRecipe, Source
from posttrain.recipe.validation import NearDuplicates, RoleRules, ValidationRecipe

PAIR = {"chosen": "good", "rejected": "bad"}
LONG = " ".join(f"낱말{number}" for number in range(40))


def records(folder: Path, **roles: list[dict[str, Any]]) -> Records:
    sources = {}
    for role, rows in roles.items():
        file = folder / f"{role}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sources[role] = Source(source=str(file))
    return ingest(IngestRecipe(**sources))


def talk(*turns: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def reasons(validated: Validated, role: Role) -> dict[str, str]:
    rows = pq.read_table(validated.quarantine.path / f"{role}.parquet").to_pylist()
    return {row["id"]: row["reason"] for row in rows}


def corpus_reasons(
    folder: Path, texts: list[Any], recipe: ValidationRecipe | None = None, **rules: Any
) -> list[str | None]:
    rows = [text if isinstance(text, dict) else {"text": text} for text in texts]
    recipe = recipe or ValidationRecipe(corpus=RoleRules(**rules))
    found = reasons(validate(records(folder, corpus=rows), recipe), "corpus")
    return [found.get(f"corpus-{number}") for number in range(1, len(rows) + 1)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "schema"),
        (5, "schema"),
        (" \n", "empty"),
        ("x" * 101, "too_long"),
        ("안녕하세요".encode().decode("latin-1"), "mojibake"),
        ("<|im_start|>system", "control_token"),
        ("번호는 900101-1234568", "rrn"),
        ("메일은 a@b.kr", "email"),
        ("전화는 010-1234-5678", "phone"),
        ("это по-русски", "language"),
    ],
)
def test_each_reason_and_nothing_else(tmp_path: Path, text: Any, reason: str) -> None:
    rules = {"max_chars": 100, "min_language_share": 0.5}
    found = corpus_reasons(tmp_path, ["안녕하세요", text, "hello 12:30, 3,000원"], **rules)
    assert found == [None, reason, None]


def test_many_rows_may_fail_for_one_reason(tmp_path: Path) -> None:
    """GX gives the values of the first 200 alone."""
    texts = [f"{number} <|im_end|>" for number in range(300)]
    assert corpus_reasons(tmp_path, texts) == ["control_token"] * 300


def test_a_row_bears_the_first_reason_that_applies(tmp_path: Path) -> None:
    both = {"text": "a@b.kr 010-1234-5678 <s>", "odd": 1}
    assert corpus_reasons(tmp_path, ["a", "b", both]) == [None, None, "unknown_column"]
    assert corpus_reasons(tmp_path, ["a", "a@b.kr 010-1234-5678 <s>"]) == [None, "control_token"]


def test_an_unknown_split_is_a_broken_schema(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b", "split": "test"}]
    assert corpus_reasons(tmp_path, rows) == [None, "schema"]


def test_columns_that_most_rows_have_are_ignored_and_told(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "topic": i} for i in range(4)] + [{"text": "x", "odd": 1}]
    validated = validate(records(tmp_path, corpus=rows), ValidationRecipe())
    assert reasons(validated, "corpus") == {"corpus-5": "unknown_column"}
    assert "topic (4)" in validated.report_html


def test_the_first_of_equal_rows_is_kept(tmp_path: Path) -> None:
    found = corpus_reasons(tmp_path, ["같은 글", "다른 글", " 같은\u00a0글\n", "같은 글"])
    assert found == [None, None, "exact_duplicate", "exact_duplicate"]
    assert corpus_reasons(tmp_path, ["a", "a"], exact_duplicates=False) == [None, None]


def test_a_quarantined_row_does_not_claim_its_copies(tmp_path: Path) -> None:
    rows = [{"text": "t", "odd": 1}, {"text": "t"}, {"text": "u"}]
    assert corpus_reasons(tmp_path, rows) == ["unknown_column", None, None]


def test_near_copies_and_what_is_held_out(tmp_path: Path) -> None:
    near = {"near_duplicates": NearDuplicates()}
    assert corpus_reasons(tmp_path, [LONG, LONG + " 끝"], **near) == [None, "near_duplicate"]
    held_out = {"text": LONG + " 끝", "split": "held_out"}
    # the copy of a row that nearly stands in held-out text stands there too
    rows = [LONG, LONG, held_out, "다른 글"]
    overlap = ["held_out_overlap", "held_out_overlap", None, None]
    assert corpus_reasons(tmp_path, rows, **near) == overlap
    off = ValidationRecipe(held_out_overlap=False, corpus=RoleRules(**near))
    assert corpus_reasons(tmp_path, rows, off) == [None, "exact_duplicate", None, None]


def test_training_prompts_that_are_asked_in_evaluation(tmp_path: Path) -> None:
    def ask(text: str, split: str) -> dict[str, Any]:
        return talk(("user", text), ("assistant", "a")) | {"split": split}

    given = records(
        tmp_path,
        instructions=[ask("q1 ", "train"), ask("q2", "train"), ask("q2", "held_out")],
        preferences=[{"prompt": text, **PAIR} for text in ("q1", "q3")],
        prompts=[{"prompt": "q3", "set": "held_out"}, {"prompt": "q4", "set": "rollout"}],
        probes=[{"prompt": "q1"}, {"prompt": "q1"}, {"prompt": "q4", "answer": "a"}],
    )
    validated = validate(given, ValidationRecipe())
    overlap = "held_out_overlap"
    assert reasons(validated, "instructions") == dict.fromkeys(
        ("instructions-1", "instructions-2"), overlap
    )
    assert reasons(validated, "preferences") == dict.fromkeys(
        ("preferences-1", "preferences-2"), overlap
    )
    assert reasons(validated, "prompts") == {"prompts-2": overlap}
    assert reasons(validated, "probes") == {}


@pytest.mark.parametrize(
    ("turns", "is_right"),
    [
        ("user assistant", True),
        ("system user assistant user assistant", True),
        ("assistant user", False),
        ("user", False),
        ("user user assistant", False),
        ("user assistant system", False),
        ("system assistant", False),
        ("user tool assistant", False),
    ],
)
def test_role_order(tmp_path: Path, turns: str, is_right: bool) -> None:
    rows = [talk(*((role, f"{role} says") for role in turns.split()))]
    validated = validate(records(tmp_path, instructions=rows), ValidationRecipe())
    expected = {} if is_right else {"instructions-1": "role_order"}
    assert reasons(validated, "instructions") == expected


def test_prompts_end_with_the_user(tmp_path: Path) -> None:
    turns = talk(("user", "q"), ("assistant", "a"))["messages"]
    given = records(
        tmp_path,
        preferences=[{"prompt": turns, **PAIR}, {"prompt": [*turns, turns[0]], **PAIR}],
        prompts=[{"prompt": turns}],
    )
    validated = validate(given, ValidationRecipe())
    assert reasons(validated, "preferences") == {"preferences-1": "role_order"}
    assert reasons(validated, "prompts") == {"prompts-1": "role_order"}


def test_malformed_conversations_do_not_stop_the_step(tmp_path: Path) -> None:
    rows = [talk(("user", "q"), ("assistant", "a")), {"messages": 5}, {"messages": [5]}]
    rows += [talk(("user", None)), {"messages": []}, {"messages": None}]
    found = reasons(
        validate(records(tmp_path, instructions=rows), ValidationRecipe()), "instructions"
    )
    assert list(found.values()) == ["schema", "schema", "schema", "empty", "schema"]


def test_what_is_kept_and_what_is_counted(tmp_path: Path) -> None:
    given = records(tmp_path, corpus=[{"text": "a"}, {"text": ""}, {"text": "b"}, {"text": "a"}])
    validated = validate(given, ValidationRecipe(corpus=RoleRules(max_failing_share=0.5)))
    kept = pq.read_table(validated.records.file("corpus"))
    assert kept["text"].to_pylist() == ["a", "b"] and kept.schema.equals(SCHEMAS["corpus"])
    assert validated.records.stage == "validate"
    assert validated.records.facts.num_rows == {"corpus": 2}
    assert validated.records.facts.sources == given.facts.sources
    counts = {"corpus": {"empty": 1, "exact_duplicate": 1}}
    assert validated.quarantine.facts.num_rows == counts
    assert validated.quarantine.facts.sources == given.facts.sources
    failed = pq.read_table(validated.quarantine.path / "corpus.parquet").to_pylist()
    assert failed[1]["detail"] == "the same text as corpus-1"
    assert validated.failures == ()
    validated.quarantine.verify()
    validated.records.verify()


def test_too_large_a_failing_share_is_reported(tmp_path: Path) -> None:
    given = records(tmp_path, corpus=[{"text": "a"}, {"text": ""}, {"text": "b"}])
    (failure,) = validate(given, ValidationRecipe()).failures
    for words in ("corpus: 1 of 3", "33.3%", "empty 1", "10.0%", "max_failing_share"):
        assert words in failure
    assert not validate(given, ValidationRecipe(corpus=RoleRules(max_failing_share=0.34))).failures


def test_a_role_without_a_row_left_fails_whatever_the_limit(tmp_path: Path) -> None:
    given = records(tmp_path, corpus=[{"text": ""}])
    assert validate(given, ValidationRecipe(corpus=RoleRules(max_failing_share=1))).failures


def test_batches_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a", "", "b", "a", "c@d.kr", LONG, "", LONG + " 끝", "e"]
    rules = {"near_duplicates": NearDuplicates()}
    whole = corpus_reasons(tmp_path, texts, **rules)
    monkeypatch.setattr(ingest_module, "BATCH_ROWS", 2)
    assert corpus_reasons(tmp_path, texts, **rules) == whole


def test_data_docs_are_kept_and_hold_no_text(tmp_path: Path) -> None:
    given = records(tmp_path, corpus=[{"text": "비밀 a@b.kr"}, {"text": "b"}])
    docs = validate(given, ValidationRecipe()).quarantine.path / "data_docs"
    pages = [page.read_text(encoding="utf-8") for page in docs.rglob("*.html")]
    assert any("at characters 3 to 9" in page for page in pages)
    assert not any("a@b.kr" in page or "비밀" in page for page in pages)
