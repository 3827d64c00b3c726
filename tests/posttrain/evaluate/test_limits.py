"""The gate's outcomes as sentences, in both languages."""

import pytest

from posttrain.decisions import RuleOutcome
from posttrain.evaluate.limits import outcome_sentence
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import judge
from tests import samples

ROOM = (Limit(figure="helpfulness", at_least=0.1),)


def told(limit: Limit, **changed: float) -> tuple[str, str]:
    (outcome,) = judge(samples.evaluation(**changed), None, PromotionRecipe(limits=(limit,)))
    said = outcome_sentence(outcome)
    return said.en, said.ko


def compared(comparison: Comparison, held_out_hash: str = "f" * 64) -> tuple[str, str]:
    recipe = PromotionRecipe(limits=ROOM, against_champion=(comparison,))
    champion = Champion(3, samples.evaluation(held_out_hash=held_out_hash))
    *_, outcome = judge(samples.evaluation(fact_accuracy=0.8), champion, recipe)
    said = outcome_sentence(outcome)
    return said.en, said.ko


@pytest.mark.parametrize(
    ("limit", "english", "korean"),
    [
        (
            Limit(figure="fact_accuracy.A", at_least=0.7),
            "Fact accuracy A of the final stage is 0.95 (95 %: 0.9151 to 0.9849); "
            "required: at least 0.7",
            "최종 단계 사실 정확도 A: 0.95, 95 % 신뢰구간 0.9151~0.9849 (기준: 0.7 이상)",
        ),
        (
            Limit(stage="base_finetune", figure="fact_cloze", at_least=0.7, at_most=0.9),
            "Fact cloze of Base FT is 0.83 (95 %: 0.7699 to 0.8901); "
            "required: at least 0.7 and at most 0.9",
            "Base FT 사실 빈칸 채우기: 0.83, 95 % 신뢰구간 0.7699~0.8901 (기준: 0.7 이상 0.9 이하)",
        ),
        (
            Limit(figure="fact_accuracy", at_least=0.9, confident=True),
            "Fact accuracy of the final stage is 0.94 (95 %: 0.902 to 0.978); "
            "required: at least 0.9 with 95 % confidence",
            "최종 단계 사실 정확도: 0.94, 95 % 신뢰구간 0.902~0.978 "
            "(기준: 95 % 신뢰구간 전체가 0.9 이상)",
        ),
        (
            Limit(figure="politeness", at_most=0.1),
            "Politeness of the final stage was not measured; required: at most 0.1",
            "최종 단계 politeness: 측정되지 않았습니다 (기준: 0.1 이하)",
        ),
    ],
)
def test_a_limit_is_told_with_its_figure_and_bound(limit: Limit, english: str, korean: str) -> None:
    assert told(limit) == (english, korean)


def test_a_loss_against_the_champion_is_told() -> None:
    english, korean = compared(
        Comparison(figure="fact_accuracy", higher_is_better=True, max_loss=0.05)
    )
    assert english.startswith("Fact accuracy is 0.8, 0.14 worse than 0.94 of the champion")
    assert korean.startswith("사실 정확도: 0.8, 챔피언 0.94 대비 0.14 악화, 95 % 신뢰구간 -")
    assert korean.endswith("(기준: 0.05 악화까지 허용)")


def test_what_can_not_be_compared_is_told_with_the_recorded_reason() -> None:
    english, korean = compared(
        Comparison(figure="fact_accuracy", higher_is_better=True, max_loss=0.05), "e" * 64
    )
    assert korean == f"사실 정확도: 챔피언과 비교할 수 없습니다. 기록된 사유: {english}"


def test_an_outcome_from_before_keeps_its_words() -> None:
    reason = "fact_accuracy.A of base_finetune is 0.5; required: at least 0.7"
    outcome = RuleOutcome(
        rule="fact_accuracy.A", figure="fact_accuracy.A", value=0.5, passed=False, reason=reason
    )
    said = outcome_sentence(outcome).en
    assert said == "Fact accuracy A of Base FT is 0.5; required: at least 0.7"
