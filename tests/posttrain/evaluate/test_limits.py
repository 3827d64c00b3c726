"""The gate's outcomes as sentences, in both languages."""

import re

import pytest

from posttrain.decisions import RuleOutcome
from posttrain.evaluate import bootstrap
from posttrain.evaluate.limits import outcome_sentence
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import judge
from posttrain.reports import Evaluation
from tests import samples

SAME, WORSE = samples.evaluation(), samples.evaluation(fact_accuracy=0.8)
ROOM = (Limit(figure="helpfulness", at_least=0.1),)


def told(limit: Limit, evaluation: Evaluation = SAME) -> tuple[str, str]:
    (outcome,) = judge(evaluation, None, PromotionRecipe(limits=(limit,)))
    said = outcome_sentence(outcome)
    return said.en, said.ko


def compared(
    comparison: Comparison,
    champion: Evaluation | None = SAME,
    ours: Evaluation = WORSE,
) -> tuple[str, str]:
    recipe = PromotionRecipe(limits=ROOM, against_champion=(comparison,))
    *_, outcome = judge(ours, Champion(3, champion), recipe)
    said = outcome_sentence(outcome)
    return said.en, said.ko


def asked(**margin: float | bool) -> Comparison:
    return Comparison.model_validate(
        {"figure": "fact_accuracy", "higher_is_better": True, **margin}
    )


def with_items(evaluation: Evaluation, parts: list[float]) -> Evaluation:
    return evaluation.model_copy(update={"items": {"fact_accuracy": bootstrap.items(parts)}})


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
    english, korean = compared(asked(max_loss=0.05))
    assert english.startswith("Fact accuracy is 0.8, 0.14 worse than 0.94 of the champion")
    assert korean.startswith("사실 정확도: 0.8, 챔피언 0.94 대비 0.14 악화, 95 % 신뢰구간 0.2")
    assert re.search(r"신뢰구간 0\.\d+ 악화~0\.\d+ 악화 \(기준: 0.05 악화까지 허용\)$", korean)


@pytest.mark.parametrize(
    ("margin", "wanted"),
    [
        ({"max_loss": 0.0}, "악화 허용 안 함; 오차 범위가 기준을 벗어남"),
        ({"min_gain": 0.0}, "오차 범위를 넘는 개선 필요"),
        ({"min_gain": 0.0, "confident": False}, "0보다 큰 개선 필요"),
        ({"min_gain": 0.02}, "0.02 이상 개선 필요"),
    ],
)
def test_each_margin_has_its_own_words(margin: dict[str, float | bool], wanted: str) -> None:
    _, korean = compared(asked(**margin), ours=SAME)
    assert "0.94, 챔피언 0.94 대비 차이 없음, 95 %" in korean
    assert korean.endswith(f"(기준: {wanted})")


def test_where_no_item_differs_it_is_said() -> None:
    same = with_items(SAME, [0.25, 0.5] * 20)
    _, korean = compared(asked(max_loss=0.0), same, ours=same)
    assert "차이 없음, 결과가 다른 문항 없음 (기준: 악화 허용 안 함)" in korean


def test_a_gain_of_a_figure_where_lower_is_better_reads_as_one() -> None:
    rule = Comparison(figure="perplexity_domain", higher_is_better=False, max_loss=0.01)
    ours = samples.evaluation(perplexity_domain=2.0)
    _, korean = compared(rule, ours=ours)
    assert re.search(r"개선, 95 % 신뢰구간 0\.\d+ \S+~0\.\d+ 개선", korean), korean
    assert "-" not in korean


def test_the_items_that_would_decide_are_told_in_both_languages() -> None:
    ours, theirs = with_items(SAME, [0.0] + [1.0] * 39), with_items(SAME, [1.0] * 39 + [0.0])
    english, korean = compared(asked(max_loss=0.05), theirs, ours)
    (wanted,) = re.findall(r"about ([\d,]+) would", english)
    assert f"문항 40개로는 판단할 수 없음, 차이가 그대로라면 약 {wanted}개 필요)" in korean


def test_what_has_no_interval_says_why() -> None:
    ours = samples.with_benchmark(SAME, 0.6, "q" * 64)
    rule = Comparison(figure="harness.arc_easy.f1", higher_is_better=True, max_loss=0.1)
    assert compared(rule, ours, ours)[1].endswith(
        "; 표준오차가 없어 판단할 수 없음, 다른 지표를 비교하거나 confident: false로 설정)"
    )
    few = with_items(SAME, [1.0] * 9)
    assert "; 문항이 " in compared(asked(max_loss=0.1), few, few)[1]
    assert compared(asked(max_loss=0.1), few, few)[1].endswith("판단할 수 없음, 최소 10개 필요)")
    unknown = told(Limit(figure="harness.arc_easy.f1", at_least=0.5, confident=True), ours)
    assert "0.6, without a standard error; required" in unknown[0]
    assert "0.6, 표준오차 없음 (기준" in unknown[1]


@pytest.mark.parametrize(
    ("champion", "ours", "figure", "korean"),
    [
        (None, SAME, "fact_accuracy", "레지스트리에 챔피언의 평가 결과가 없습니다"),
        (
            samples.evaluation(tokenizer_hash="0" * 64),
            SAME,
            "perplexity_answers",
            "토크나이저가 달라(챔피언 000000000000, 현재 ",
        ),
        (SAME, SAME, "rouge_l", "ROUGE-L: 최종 단계에서 측정되지 않았습니다"),
        (
            SAME,
            samples.with_benchmark(SAME, 0.6, "q" * 64),
            "harness.arc_easy.acc",
            "arc_easy, acc: 챔피언에서 측정되지 않았습니다",
        ),
        (
            samples.evaluation(held_out_hash="e" * 64),
            SAME,
            "fact_accuracy",
            "평가 데이터가 다릅니다(챔피언 eeeeeeeeeeee, 현재 ffffffffffff)",
        ),
    ],
)
def test_each_refusal_is_told_in_korean(
    champion: Evaluation | None, ours: Evaluation, figure: str, korean: str
) -> None:
    rule = Comparison(figure=figure, higher_is_better=figure[:10] != "perplexity", max_loss=0.05)
    english, said = compared(rule, champion, ours)
    assert korean in said
    assert "the champion" in english or "the final stage" in english
    assert "the champion" not in said


def test_an_outcome_from_before_keeps_its_words() -> None:
    reason = "fact_accuracy.A of base_finetune is 0.5; required: at least 0.7"
    outcome = RuleOutcome(
        rule="fact_accuracy.A", figure="fact_accuracy.A", value=0.5, passed=False, reason=reason
    )
    said = outcome_sentence(outcome)
    assert said.en == said.ko == "Fact accuracy A of Base FT is 0.5; required: at least 0.7"
