"""Filters and verdicts of self-critique, by hand."""

import pytest

from posttrain.align.constitution import Constitution, Localised, Principle
from posttrain.align.critic import compare, gold_case
from posttrain.align.revise import Draft, Utterance, draw_principles, is_kept, outcome
from posttrain.align.rows import Prompt
from posttrain.recipe.self_critique import SelfCritiqueRecipe

RECIPE = SelfCritiqueRecipe(
    constitution="constitution.yaml",
    learning_rate=1e-3,
    num_epochs=1,
    batch_size=8,
    max_new_tokens=8,
    no_fault_markers=("no fault",),
    preamble_markers=("Here is",),
    language="en",
)
PRINCIPLE = Principle(
    id="respect",
    principle=Localised(ko="존중", en="respect"),
    critique_request=Localised(ko="비평", en="What is wrong?"),
    revision_request=Localised(ko="수정", en="Mend it."),
)
PROMPT = Prompt("q1", "ask", "g", [{"role": "user", "content": "Hello?"}], [5, 6])


def said(text: str, ended: bool = True) -> Utterance:
    return Utterance([7, 1] if ended else [7], text, ended)


def draft(
    response: str = "go away",
    critique: str = "That is rude.",
    revision: str | None = "How may I help?",
    second: str = "no fault",
) -> Draft:
    made = Draft(PROMPT, said(response), [PRINCIPLE], [said(critique)])
    if revision is not None:
        made.revisions.append(said(revision))
        made.second_critique = said(second)
    return made


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (draft(), "revised"),
        (draft(revision="That is  RUDE. Sorry."), "echo"),
        (draft(revision="is rude"), "echo"),
        (draft(revision="What is wrong? Nothing."), "echo"),
        (draft(revision="mend it. Hello."), "echo"),
        (draft(revision="I see no fault."), "echo"),
        (draft(revision="here is the revised answer: hello"), "preamble"),
        (draft(revision=""), "empty"),
        (draft(revision="Go  away"), "unchanged"),
        (draft(second="Still rude."), "still_faulty"),
        (draft(critique="I see no fault.", revision=None), "no_fault"),
        (draft(response="", critique="no fault", revision=None), "empty"),
    ],
)
def test_alignment_30_each_sample_has_its_outcome(one: Draft, expected: str) -> None:
    assert outcome(one, RECIPE) == expected
    assert is_kept(expected, RECIPE) == (expected in ("revised", "no_fault"))


@pytest.mark.parametrize("place", ["response", "critique", "revision"])
def test_alignment_30_what_was_cut_off_is_dropped(place: str) -> None:
    one = draft()
    if place == "response":
        one.response = said("go a", ended=False)
    elif place == "critique":
        one.critiques[0] = said("That is", ended=False)
    else:
        one.revisions[0] = said("How may", ended=False)
    assert outcome(one, RECIPE) == "cut_off"


def test_answers_without_fault_are_left_out_where_the_recipe_says_so() -> None:
    recipe = RECIPE.model_copy(update={"keep_faultless": False})
    assert not is_kept("no_fault", recipe)
    assert is_kept("revised", recipe)


def test_alignment_27_principles_are_drawn_with_the_seed_one_a_round() -> None:
    others = [PRINCIPLE.model_copy(update={"id": f"p{index}"}) for index in range(8)]
    constitution = Constitution(principles=tuple(others))

    def drawn(seed: int) -> list[list[str]]:
        recipe = RECIPE.model_copy(update={"seed": seed, "max_rounds": 3})
        return [[one.id for one in row] for row in draw_principles(30, constitution, recipe)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert {len(row) for row in drawn(1)} == {3}
    assert len({one for row in drawn(1) for one in row}) == 8


def test_the_critics_figures_by_hand() -> None:
    gold = [True, True, False, False, False]
    report = compare(gold, said=[True, False, False, False, True])
    assert report.accuracy == 0.6
    assert report.no_fault_recall == 0.5
    assert report.fault_recall == pytest.approx(2 / 3)
    assert report.num_answers == 5


def test_a_critic_that_always_says_the_same_is_seen_through() -> None:
    report = compare([True] * 9 + [False], said=[True] * 10)
    assert (report.accuracy, report.fault_recall) == (0.9, 0.0)


def test_a_gold_case_ends_with_the_request() -> None:
    roles = ("system", "user", "assistant", "user", "assistant", "user", "assistant")
    turns = [{"role": role, "content": str(place)} for place, role in enumerate(roles)]
    conversation, critique = gold_case("i1", turns)
    assert [turn["content"] for turn in conversation] == ["0", "1", "2", "3"]
    assert critique == "4"
    with pytest.raises(ValueError, match=r"instruction i1: .* has 1 assistant turns"):
        gold_case("i1", turns[:4])
