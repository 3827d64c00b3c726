"""Both languages say the same things about the same figures."""

import ast
import re
from pathlib import Path
from string import Formatter

import pytest

from posttrain.align.revise import NO_FAULT, REVISED
from posttrain.evaluate.language import (
    Catalogue,
    Text,
    catalogue,
    in_language,
    in_words,
    joined,
    plain,
    say,
)
from posttrain.evaluate.report import render
from posttrain.evaluate.wording import count_label, figure_label, lineage_label, stage_label
from posttrain.profiles import DIMENSIONS
from posttrain.recipe.validation import REASONS
from tests import samples

GATES_OWN = {"gain.compared", "refused", "warnings"}
"""English shows the words that were recorded; Korean tells the figures."""


def placeholders(words: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(words) if name}


def flat(words: Catalogue) -> dict[str, str]:
    return {
        f"{section}.{key}": said for section, keys in words.items() for key, said in keys.items()
    }


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    assert list(flat(catalogue("en"))) == list(flat(catalogue("ko")))


@pytest.mark.parametrize("key", sorted(flat(catalogue("en"))))
def test_both_languages_state_the_same_figures(key: str) -> None:
    english, korean = (flat(catalogue(language))[key] for language in ("en", "ko"))
    assert isinstance(english, str)
    assert isinstance(korean, str)
    if key not in GATES_OWN and key.split(".")[0] not in GATES_OWN:
        assert placeholders(english) == placeholders(korean)


ROOT = Path(__file__).parents[3]
SOURCES = [
    file
    for folder in ("posttrain", "steps", "pipelines", "cli", "data", "recipes")
    for file in (ROOT / folder).rglob("*")
    if file.suffix in (".py", ".html", ".yaml") and not file.name.startswith("wording.")
]
LABELS = (
    *("stages", "figures", "probes", "reward_figures", "curves", "short", "roles", "counts"),
    *("reasons", "outcomes", "lineage", "uses", "axes", "dimensions", "levels", "judge", "drift"),
)
"""Sections that are looked up by the name of what they call."""


def spoken() -> tuple[set[str], set[str], list[re.Pattern[str]]]:
    """Strings and names of the sources, and the strings with gaps, each gap a group."""
    constants: set[str] = set()
    names: set[str] = set()
    gapped: list[re.Pattern[str]] = []
    for file in SOURCES:
        if file.suffix != ".py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                constants.add(node.value)
            for field in ("id", "attr", "arg", "name"):
                names |= {str(getattr(node, field, ""))}
            if isinstance(node, ast.JoinedStr):
                parts = [
                    re.escape(str(one.value)) if isinstance(one, ast.Constant) else "(.+)"
                    for one in node.values
                ]
                if len("".join(part for part in parts if part != "(.+)")) > 3:
                    gapped.append(re.compile("".join(parts)))
    return constants, names, gapped


def test_every_key_is_used() -> None:
    constants, names, gapped = spoken()
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES)
    in_page = set(re.findall(r"\bt\.(\w+)", text))

    def is_said(key: str) -> bool:
        section, _, name = key.rpartition(".")
        if key in constants:
            return True
        if section in LABELS:
            return name in constants | names
        if section == "page":
            return name in in_page or name in constants
        found = (one.fullmatch(key) for one in gapped)
        return any(match and set(match.groups()) <= constants for match in found)

    assert [key for key in flat(catalogue("en")) if not is_said(key)] == []
    assert not is_said("verdict.meets_few")
    assert not is_said("gain.refused")


def test_every_reason_outcome_and_dimension_has_words() -> None:
    korean = catalogue("ko")
    assert set(REASONS) <= korean["reasons"].keys()
    assert {REVISED, NO_FAULT} <= korean["outcomes"].keys()
    assert set(DIMENSIONS) <= korean["dimensions"].keys()


def test_a_text_within_a_sentence_speaks_its_language() -> None:
    said = say("verdict.short_in", figures=in_words([plain("ROUGE-L"), Text("loss", "손실")]))
    assert said.en == "Not fit to promote: falls short in ROUGE-L and loss"
    assert said.ko == "승격 불가: 기준 미달 (ROUGE-L, 손실)"


def test_a_page_gets_both_and_escapes_both() -> None:
    assert Text("a<b", "가<나").__html__() == (
        '<span class="en" lang="en">a&lt;b</span><span class="ko" lang="ko">가&lt;나</span>'
    )
    assert plain("a<b").__html__() == "a&lt;b"
    assert not joined(", ", [])


def test_names_that_the_catalogue_lacks_read_as_they_are() -> None:
    assert (stage_label("distill_twice"), stage_label("distill_twice", "ko")) == (
        "Distill twice",
        "Distill twice",
    )
    assert figure_label("harness.arc_easy.acc", "ko") == "arc_easy, acc"
    assert count_label("quarantined: near_duplicate", "ko") == "격리: 유사 중복"
    assert lineage_label("data: corpus", "ko") == "데이터, 말뭉치"


@pytest.mark.parametrize(("made", "opened"), [("en", "ko"), ("ko", "en"), ("ko", "ko")])
def test_a_page_opens_in_the_language_asked_for(made: str, opened: str) -> None:
    evaluation = samples.evaluation()
    page = render(evaluation, {}, (), None, {}, language=made)  # type: ignore[arg-type]
    wanted = render(evaluation, {}, (), None, {}, language=opened)  # type: ignore[arg-type]
    turned = in_language(page, opened)  # type: ignore[arg-type]
    assert turned.count(" checked>") == 1
    title = slice(wanted.index("<title>"), wanted.index("</title>"))
    assert turned.replace(turned[turned.index("<title>") : turned.index("</title>")], "") == (
        wanted.replace(wanted[title], "")
    )
