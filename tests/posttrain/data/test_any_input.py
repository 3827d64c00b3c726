"""Whatever lies in a file is counted to the last row, or refused in words that name the file."""

import json
import shutil
import string
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from posttrain.artifacts import BaseModel
from posttrain.data.ingest import ingest
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.data.validate import validate
from posttrain.recipe.ingest import COLUMNS, IngestRecipe, Source
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.validation import RoleRules, ValidationRecipe
from tests.faults import Injected, times

NUM_INPUTS = times(quick=300, few=1_000, full=20_000)
"""Generated rows, and generated files."""

ROWS = 20
"""Rows a file: Great Expectations takes its time for a file, not for a row."""

REUSED = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
PIECES = (
    "<|im_start|>system\n", "<|im_end|>", "<start_of_turn>", "<eos>", "</s>", "[INST]",
    "<|eot_id|>", "\x00", "\ud800", "\udfff", "\u202e", "\u200b", "\ufeff", "\u2028", "\x85",
    "\r", "가" * 50, "e\u0301", "🏴\U000e0067", "{{ messages }}", "{% raw %}", "{x}", "%s",
    "<script>", "NaN", "é" * 500, "010-1234-5678", "ÃÂ©", "x" * 30_000,
)  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=12), max_size=4).map("".join)
"""Text as it should not be: control tokens, lone surrogates, hidden characters, huge, empty."""

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(("user", "assistant", "system")) | TEXTS, "content": TEXTS}
    )
    | VALUES,
    max_size=20,
)
SOUND: dict[str, Any] = {
    "corpus": {"text": "a sound text", "split": "train"},
    "instructions": {"prompt": "a sound question", "response": "a sound answer"},
    "preferences": {"prompt": "a sound question", "chosen": "yes", "rejected": "no"},
    "prompts": {"prompt": "a sound question"},
    "probes": {"prompt": "a sound question", "answer": "yes"},
}


def rows_of(role: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Rows with any value in any canonical column, a sound one among them."""
    columns = st.sampled_from(COLUMNS[role]) | TEXTS
    row = st.dictionaries(columns, VALUES | MESSAGES | TEXTS, max_size=8)
    return st.lists(row, min_size=ROWS - 1, max_size=ROWS - 1).map(
        lambda rows: [SOUND[role], *rows]
    )


def loose() -> ValidationRecipe:
    """Any share may fail."""
    roles = {role: RoleRules(max_failing_share=1) for role in COLUMNS}
    return ValidationRecipe(**roles)  # type: ignore[arg-type]


@pytest.mark.fault("Input", "rows of anything", "generated rows, ingest to tokenize")
@pytest.mark.parametrize("role", [*COLUMNS])
def test_no_row_is_lost_uncounted(
    role: str, base: BaseModel, tmp_path: Path, injected: Injected
) -> None:
    file = tmp_path / f"{role}.jsonl"

    @settings(REUSED, max_examples=NUM_INPUTS // ROWS // len(COLUMNS))
    @given(rows_of(role))
    def check(rows: list[dict[str, Any]]) -> None:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        injected.add(len(rows))
        raw = ingest(IngestRecipe(**{role: Source(source=str(file))}))
        assert raw.facts.num_rows[role] == len(rows)
        parted = validate(raw, loose())
        num_kept = parted.records.facts.num_rows[role]
        num_failed = sum(parted.quarantine.facts.num_rows[role].values())
        assert num_kept + num_failed == len(rows)
        assert pq.read_metadata(parted.quarantine.path / f"{role}.parquet").num_rows == num_failed
        assert num_kept >= 1
        chats = template(parted.records, base, TemplateRecipe())
        num_chats = chats.facts.num_rows[role]
        assert num_chats + sum(chats.facts.dropped.get(role, {}).values()) == num_kept
        counts = tokenize(chats, base, TokenizeRecipe(max_length=128, block_size=64)).facts.counts
        kept, dropped = counts[role], ("too_long", "nothing_supervised", "identical")
        if role != "corpus":  # its rows are blocks
            assert kept["rows"] + sum(kept.get(reason, 0) for reason in dropped) == num_chats
        shutil.rmtree(tmp_path / "work")

    check()


MALFORMED = st.lists(
    st.sampled_from(
        (b'{"text": "', b'"}', b"[", b"]", b"{", b"}", b",", b"\n", b"\r", b"\x00", b"\xff\xfe",
         b'"', b"\\ud800", b"[" * 20_000, b"9" * 5_000, b"1e999", b"NaN", b'{"text":1}\n', b"PAR1",
         "가".encode("cp949"), "나".encode(), b"\xef\xbb\xbf", b"a,b\n", b'{"text": "x"}\n', b"#")
    )
    | st.binary(max_size=8)
    | st.text(string.printable, max_size=8).map(str.encode),
    max_size=8,
).map(b"".join)  # fmt: skip


@pytest.mark.fault("Input", "a malformed file", "generated bytes, five formats")
@pytest.mark.parametrize("suffix", ["jsonl", "json", "csv", "parquet", "txt"])
def test_a_malformed_file_is_refused_by_name_or_read(
    suffix: str, tmp_path: Path, injected: Injected
) -> None:
    file = tmp_path / f"corpus.{suffix}"

    @settings(REUSED, max_examples=NUM_INPUTS // 5)
    @given(MALFORMED)
    def check(content: bytes) -> None:
        file.write_bytes(content)
        injected.add()
        try:
            records = ingest(IngestRecipe(corpus=Source(source=str(file))))
        except ValueError as error:
            assert str(file) in str(error)
            assert type(error) is ValueError  # ours, in words; not a library's
        else:
            assert records.facts.num_rows["corpus"] > 0
        shutil.rmtree(tmp_path / "work", ignore_errors=True)

    check()
