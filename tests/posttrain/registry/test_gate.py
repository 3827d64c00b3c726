"""The gate's rules, by hand-made figures."""

import pytest

from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import as_metrics, judge, judge_limit
from tests import samples

SEEN = samples.evaluation(**{"fact_accuracy.A": 0.9, "perplexity_domain": 3.0})


def test_a_bound_is_included() -> None:
    limit = Limit(figure="fact_accuracy.A", at_least=0.9, at_most=0.9)
    assert judge_limit(SEEN, limit).passed


@pytest.mark.parametrize(
    ("limit", "passed"),
    [
        (Limit(figure="fact_accuracy.A", at_least=0.91), False),
        (Limit(figure="fact_accuracy.A", at_most=0.89), False),
        (Limit(figure="perplexity_domain", at_most=3.5), True),
        (Limit(stage="base_finetune", figure="perplexity_domain", at_most=2.9), True),
        (Limit(stage="untrained", figure="perplexity_domain", at_most=2.9), False),
    ],
)
def test_a_limit_looks_at_its_stage_and_both_bounds(limit: Limit, passed: bool) -> None:
    assert judge_limit(SEEN, limit).passed is passed


def test_the_reason_names_figure_and_bound() -> None:
    outcome = judge_limit(SEEN, Limit(figure="fact_accuracy.A", at_least=0.95))
    assert outcome.value == 0.9
    assert outcome.rule == "fact_accuracy.A of the final stage at least 0.95"
    assert outcome.reason == ("fact_accuracy.A of the final stage is 0.9; required: at least 0.95")


def test_a_missing_figure_fails() -> None:
    outcome = judge_limit(SEEN, Limit(figure="kl_to_sft", at_most=5.0))
    assert (outcome.value, outcome.passed) == (None, False)
    assert "was not measured" in outcome.reason


def test_a_missing_stage_fails() -> None:
    assert not judge_limit(SEEN, Limit(stage="ppo", figure="helpfulness", at_least=0.0)).passed


def test_a_nan_fails() -> None:
    broken = samples.evaluation(perplexity_domain=float("nan"))
    assert not judge_limit(broken, Limit(figure="perplexity_domain", at_least=0.0)).passed


@pytest.mark.parametrize(
    ("bound", "passed", "undecided"),
    [
        ({"at_least": 0.84}, True, False),
        ({"at_least": 0.86}, False, True),  # 0.9 is above it, and the interval's end is not
        ({"at_least": 0.91}, False, False),
        ({"at_most": 0.95}, True, False),
        ({"at_most": 0.92}, False, True),
    ],
)
def test_a_confident_limit_asks_the_whole_interval(
    bound: dict[str, float], passed: bool, undecided: bool
) -> None:
    limit = Limit(figure="fact_accuracy.A", confident=True, **bound)  # 0.852 to 0.948
    outcome = judge_limit(SEEN, limit)
    assert (outcome.passed, outcome.is_undecided) == (passed, undecided)
    assert "is 0.9 (95 %: 0.852 to 0.948); required: at" in outcome.reason
    assert outcome.reason.endswith("with 95 % confidence")


def test_a_confident_limit_needs_a_standard_error() -> None:
    seen = samples.with_benchmark(SEEN, 0.6, "q" * 64)
    limit = Limit(figure="harness.arc_easy.f1", at_least=0.5)
    assert judge_limit(seen, limit).passed
    outcome = judge_limit(seen, limit.model_copy(update={"confident": True}))
    assert (outcome.passed, outcome.is_undecided) == (False, True)
    assert "is 0.6, without a standard error; required" in outcome.reason


def test_without_a_champion_only_the_limits_count() -> None:
    recipe = PromotionRecipe(
        limits=(Limit(figure="fact_accuracy.A", at_least=0.8),),
        against_champion=(
            Comparison(figure="fact_accuracy.A", higher_is_better=True, max_loss=0.1),
        ),
    )
    assert len(judge(SEEN, None, recipe)) == 1
    assert len(judge(SEEN, Champion(3, SEEN), recipe)) == 2


def test_an_outcome_holds_what_it_saw() -> None:
    limit = Limit(stage="base_finetune", figure="fact_cloze", at_least=0.5, at_most=0.9)
    outcome = judge_limit(SEEN, limit)
    assert (outcome.stage, outcome.at_least, outcome.at_most) == ("base_finetune", 0.5, 0.9)
    figure = SEEN.figure("base_finetune", "fact_cloze")
    assert figure is not None
    assert (outcome.interval, outcome.num) == (figure.bounds, figure.num)
    assert outcome.gain_interval is None


def test_a_refused_comparison_leaves_the_limits_metric() -> None:
    recipe = PromotionRecipe(
        limits=(Limit(figure="fact_accuracy.A", at_least=0.8),),
        against_champion=(
            Comparison(figure="fact_accuracy.A", higher_is_better=True, max_loss=0.1),
        ),
    )
    outcomes = judge(SEEN, Champion(3, None), recipe)
    assert [one.kind for one in outcomes] == ["limit", "max_loss"]
    found = as_metrics(outcomes)
    assert found["gate/final.fact_accuracy.A.limit_passed"] == 1.0
    assert found["gate/final.fact_accuracy.A.against_champion_passed"] == 0.0


def test_the_tracker_sees_every_rule() -> None:
    recipe = PromotionRecipe(
        limits=(Limit(figure="fact_accuracy.A", at_least=0.95),),
        against_champion=(
            Comparison(figure="fact_accuracy.A", higher_is_better=True, max_loss=0.1),
        ),
    )
    found = as_metrics(judge(SEEN, Champion(3, SEEN), recipe))
    assert found["gate/passed"] == 0.0
    rule = "gate/final.fact_accuracy.A"
    assert found[f"{rule}.limit_passed"] == 0.0
    assert found[f"{rule}.against_champion_passed"] == 1.0
    assert (found[f"{rule}.value"], found[f"{rule}.at_least"]) == (0.9, 0.95)
    assert (found[f"{rule}.gain"], found[f"{rule}.needed_gain"]) == (0.0, -0.1)
    assert found[f"{rule}.gain_low"] == -found[f"{rule}.gain_high"] < 0
    assert f"{rule}.at_most" not in found
