import re

from posttrain.data.data_report import RoleReport, render
from posttrain.data.expectations import Outcome
from posttrain.data.rows import Row
from posttrain.profiles import DataDrift, DimensionDrift, RoleDrift, Shift
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


def test_the_comparison_with_the_champion_is_told() -> None:
    far = DimensionDrift(
        dimension="length",
        psi=0.42,
        num_bins=5,
        expected=0.01,
        chance=0.05,
        level="beyond",
        shifts=(Shift(bin="about 16", then=0.1, now=0.4),),
    )
    role = RoleDrift(role="corpus", num_rows=100, num_rows_then=90, dimensions=(far,))
    page = render([report()], (), DataDrift(champion=3, note="", roles=(role,)))
    assert "Version 3: 1 of 1 comparisons beyond their limit" in page
    assert "10.0% to 40.0%" in page and "corpus 100 (90)" in page


def test_why_nothing_was_compared_is_told() -> None:
    page = render([report()], (), DataDrift(champion=None, note="museum has no champion yet"))
    assert "museum has no champion yet" in page
