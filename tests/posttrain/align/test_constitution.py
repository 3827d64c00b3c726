"""The constitution as data: what is read, and what is refused in words."""

from pathlib import Path

import pytest

from posttrain.align.constitution import load_constitution

GOOD = """
principles:
  - id: respect
    principle: {ko: 존중, en: respect}
    critique_request: {ko: 비평해 주세요, en: criticise}
    revision_request: {ko: 고쳐 주세요, en: revise}
"""


def write(folder: Path, text: str) -> Path:
    file = folder / "constitution.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_alignment_27_principles_are_data_in_both_languages(tmp_path: Path) -> None:
    principle = load_constitution(write(tmp_path, GOOD)).principles[0]
    assert principle.id == "respect"
    assert principle.critique_request.in_("ko") == "비평해 주세요"
    assert principle.revision_request.in_("en") == "revise"


def test_the_sample_constitution_is_whole() -> None:
    file = Path(__file__).parents[3] / "data" / "constitution.yaml"
    assert len(load_constitution(file).principles) >= 8


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            GOOD.replace(", en: criticise", ""),
            r"principle 'respect': critique_request\.en: .*requir",
        ),
        (GOOD.replace("id: respect", "name: respect"), r"principle number 1: id: .*required"),
        (GOOD + GOOD.replace("principles:\n", ""), r"ids used twice: \['respect'\]"),
        (GOOD.replace("revise", '""'), r"principle 'respect': revision_request\.en: .*at least 1"),
        ("principles: []", "principles: .*at least 1"),
        ("- respect", "the whole: "),
        ("principles: [respect]", "principle number 1: the whole: "),
        ("principles: [", "is no YAML"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_principle(
    tmp_path: Path, text: str, problem: str
) -> None:
    with pytest.raises(ValueError, match=rf"constitution\.yaml: (?s:.*){problem}"):
        load_constitution(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"self_critique\.constitution: no file .*none\.yaml"):
        load_constitution(tmp_path / "none.yaml")
