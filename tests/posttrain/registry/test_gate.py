"""The gate's rules, by hand-made figures."""

import pytest

from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion, judge_comparison
from posttrain.registry.gate import judge, judge_limit
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
    ("name", "higher", "bar", "max_loss", "passed"),
    [
        ("fact_accuracy.A", True, 0.92, 0.02, True),  # 0.92 - 0.9 is 0.020000000000000018
        ("fact_accuracy.A", True, 0.93, 0.02, False),
        ("fact_accuracy.A", True, 0.5, 0.0, True),
        ("perplexity_domain", False, 2.5, 0.5, True),
        ("perplexity_domain", False, 2.4, 0.5, False),
    ],
)
def test_the_champion_may_be_better_by_the_accepted_loss(
    name: str, higher: bool, bar: float, max_loss: float, passed: bool
) -> None:
    champion = Champion(3, samples.evaluation(**{name: bar}))
    comparison = Comparison(figure=name, higher_is_better=higher, max_loss=max_loss)
    assert judge_comparison(SEEN, champion, comparison).passed is passed


def test_other_held_out_data_do_not_compare() -> None:
    champion = Champion(3, samples.evaluation(held_out_hash="0" * 64, **{"fact_accuracy.A": 0.1}))
    outcome = judge_comparison(
        SEEN, champion, Comparison(figure="fact_accuracy.A", higher_is_better=True)
    )
    assert not outcome.passed
    assert "other held-out data (000000000000, here ffffffffffff)" in outcome.reason


@pytest.mark.parametrize(
    ("theirs", "reason"),
    [
        ("q" * 64, "arc_easy.acc is 0.6, 0.1 worse than 0.7"),
        ("0" * 64, "other held-out data (000000000000, here qqqqqqqqqqqq)"),
        (None, "was not measured of the champion (version 3)"),
    ],
)
def test_benchmarks_compare_by_what_they_ask(theirs: str | None, reason: str) -> None:
    """Whatever else was measured, and on what."""
    ours = samples.with_benchmark(SEEN, 0.6, "q" * 64)
    others = samples.evaluation(held_out_hash="0" * 64)
    champion = others if theirs is None else samples.with_benchmark(others, 0.7, theirs)
    comparison = Comparison(figure="harness.arc_easy.acc", higher_is_better=True)
    outcome = judge_comparison(ours, Champion(3, champion), comparison)
    assert not outcome.passed
    assert reason in outcome.reason


def test_a_champion_without_evaluation_fails_the_comparison() -> None:
    comparison = Comparison(figure="fact_accuracy.A", higher_is_better=True)
    assert not judge_comparison(SEEN, Champion(3, None), comparison).passed


def test_without_a_champion_only_the_limits_count() -> None:
    recipe = PromotionRecipe(
        limits=(Limit(figure="fact_accuracy.A", at_least=0.8),),
        against_champion=(Comparison(figure="fact_accuracy.A", higher_is_better=True),),
    )
    assert len(judge(SEEN, None, recipe)) == 1
    assert len(judge(SEEN, Champion(3, SEEN), recipe)) == 2


@pytest.mark.parametrize("figure", ["perplexity_domain", "perplexity_answers"])
def test_alignment_09_perplexity_is_not_compared_across_tokenizers(figure: str) -> None:
    champion = Champion(3, samples.evaluation(tokenizer_hash="0" * 64, **{figure: 100.0}))
    outcome = judge_comparison(SEEN, champion, Comparison(figure=figure, higher_is_better=False))
    assert not outcome.passed
    assert "(version 3) has another tokenizer (000000000000, here" in outcome.reason
    assert outcome.reason.endswith("compare bits_per_byte_domain in its place")


def test_alignment_09_bits_per_byte_is_compared_across_tokenizers() -> None:
    champion = Champion(3, samples.evaluation(tokenizer_hash="0" * 64, bits_per_byte_domain=1.2))
    better = samples.evaluation(bits_per_byte_domain=1.1)
    worse = samples.evaluation(bits_per_byte_domain=1.3)
    comparison = Comparison(figure="bits_per_byte_domain", higher_is_better=False)
    assert judge_comparison(better, champion, comparison).passed
    assert not judge_comparison(worse, champion, comparison).passed
