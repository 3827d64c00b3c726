import re

from posttrain.data.data_report import RoleReport, length_bin, render
from posttrain.data.expectations import Outcome
from posttrain.data.rows import Row
from posttrain.recipe.validation import RoleRules


def row(text: str, reason: str = "email") -> Row:
    return {"id": "x", "text": text, "reason": reason, "detail": "d"}


def report(*failed: Row) -> RoleReport:
    outcomes = [Outcome("expect_column_values_to_be_null", "email", "email", 100, len(failed))]
    made = RoleReport("corpus", RoleRules(), outcomes)
    made.add([row(f"글 {number}") for number in range(100)], [True] * 100)
    made.add(list(failed), [False] * len(failed))
    made.add_failures(list(failed))
    return made


def test_the_verdict_comes_first() -> None:
    body = render([report(row("a@b.kr"))], ()).split("<body>")[1]
    assert body.startswith('<h1 class="good">Data passes: 100 of 101 rows kept, 1 in quarantine')
    body = render([report()], ("corpus: <too> many",)).split("<body>")[1]
    assert body.startswith('<h1 class="bad">Data fails')
    assert "corpus: &lt;too&gt; many" in body


def test_the_page_is_self_contained() -> None:
    page = render([report(row("a@b.kr"))], ())
    assert not re.search(r"<script|<a |href|src=|https?:|url\(|@import", page)
    assert 'charset="utf-8"' in page and "prefers-color-scheme:dark" in page


def test_texts_are_masked_and_escaped() -> None:
    page = render([report(row('<img src=x onerror="alert(1)"> me@here.kr'))], ())
    assert "<img" not in page and "me@here.kr" not in page
    assert "&lt;img" in page and "[email]" in page


def test_personal_data_at_the_cut_are_masked_whole() -> None:
    page = render([report(row("x" * 155 + " 900101-1234568"))], ())
    assert "900101" not in page


def test_at_most_five_examples_a_reason() -> None:
    page = render([report(*(row(f"number{i}") for i in range(9)))], ())
    assert [f"number{i}" in page for i in range(9)] == [True] * 5 + [False] * 4


def test_great_expectations_are_told() -> None:
    page = render([report(row("a@b.kr"))], ())
    assert "0 of 1 expectations met by every row" in page and "99.00%" in page


def test_bins_are_two_a_doubling() -> None:
    assert [length_bin(n) for n in (0, 1, 2, 4, 6, 8)] == [0, 0, 2, 4, 5, 6]
