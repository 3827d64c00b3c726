"""The rules against the champion, by hand-made figures and items."""

import pytest

from posttrain.decisions import RuleOutcome
from posttrain.evaluate import bootstrap
from posttrain.figures import Items
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.registry.comparison import Champion, judge_comparison
from posttrain.reports import Evaluation
from tests import samples

GATE = PromotionRecipe(limits=(Limit(figure="x", at_least=0),), num_bootstrap=500)
SEEN = samples.evaluation(**{"fact_accuracy.A": 0.9, "perplexity_domain": 3.0})


def of_items(name: str, items: Items) -> Evaluation:
    """An evaluation with one figure that has items."""
    seen = samples.evaluation()
    last = seen.stages[-1]
    figures = last.figures | {name: bootstrap.of_items(items, 500, seed=0)}
    stages = (*seen.stages[:-1], last.model_copy(update={"figures": figures}))
    return seen.model_copy(update={"stages": stages, "items": {name: items}})


def answers(num_right: int, num: int, first_right: int = 0) -> Evaluation:
    """`num_right` of `num` questions in a row are answered rightly."""
    hits = [float(first_right <= i < first_right + num_right) for i in range(num)]
    return of_items("fact_accuracy", bootstrap.items(hits))


def judged(ours: Evaluation, theirs: Evaluation | None, **rule: float | bool | str) -> RuleOutcome:
    figure = {"figure": "fact_accuracy", "higher_is_better": True, **rule}
    return judge_comparison(ours, Champion(3, theirs), Comparison.model_validate(figure), GATE)


@pytest.mark.parametrize(
    ("ours", "theirs", "max_loss", "passed", "undecided"),
    [
        (360, 364, 0.05, True, False),  # 4 of 400 fewer, interval to about 2.5 points
        (360, 364, 0.015, False, True),  # the figure keeps to it, its interval does not
        (340, 364, 0.05, False, False),  # 6 points fewer
        (364, 364, 0.0, False, True),  # no number of items proves equality
    ],
)
def test_not_worse_is_what_the_whole_interval_says(
    ours: int, theirs: int, max_loss: float, passed: bool, undecided: bool
) -> None:
    outcome = judged(answers(ours, 400), answers(theirs, 400), max_loss=max_loss)
    assert (outcome.passed, outcome.is_undecided) == (passed, undecided)
    assert outcome.needed_gain == -max_loss
    assert outcome.is_paired
    assert outcome.num == 400


@pytest.mark.parametrize(
    ("ours", "min_gain", "passed", "undecided"),
    [
        (316, 0.0, True, False),  # 16 of 400 more, and none that was right before is wrong
        (301, 0.0, False, True),  # one more is noise
        (300, 0.0, False, False),
        (316, 0.02, True, False),
        (316, 0.03, False, True),
        (316, 0.05, False, False),
    ],
)
def test_better_is_what_the_whole_interval_says(
    ours: int, min_gain: float, passed: bool, undecided: bool
) -> None:
    outcome = judged(answers(ours, 400), answers(300, 400), min_gain=min_gain)
    assert (outcome.passed, outcome.is_undecided) == (passed, undecided)


def test_lower_may_be_better() -> None:
    items = [Items(parts=(nats,) * 40, sizes=(10,) * 40, is_log=True) for nats in (9.0, 10.0)]
    low, high = (of_items("perplexity_domain", one) for one in items)
    rule = {"figure": "perplexity_domain", "higher_is_better": False, "min_gain": 0.2}
    better, worse = judged(low, high, **rule), judged(high, low, **rule)
    assert (better.passed, worse.passed) == (True, False)
    assert better.gain == pytest.approx(2.718 - 2.4596, abs=1e-3)
    assert better.gain == pytest.approx(-(worse.gain or 0))


def test_margins_may_be_in_per_cent_of_the_champions_figure() -> None:
    ours, theirs = answers(360, 400), answers(364, 400)
    assert judged(ours, theirs, max_loss=5, in_percent=True).needed_gain == pytest.approx(-0.0455)
    assert judged(ours, theirs, max_loss=5, in_percent=True).passed
    assert not judged(ours, theirs, max_loss=1, in_percent=True).passed


def test_the_reason_tells_figures_interval_and_margin() -> None:
    outcome = judged(answers(360, 400), answers(364, 400), max_loss=0.05)
    assert outcome.rule == (
        "fact_accuracy of the final stage at most 0.05 worse than the champion (version 3)"
    )
    assert outcome.reason.startswith(
        "fact_accuracy is 0.9, 0.01 worse than 0.91 of the champion (version 3) (95 %: 0.02"
    )
    assert outcome.reason.endswith("400 items, each compared with itself); 0.05 worse is accepted")
    assert outcome.gain == pytest.approx(-0.01)
    assert outcome.champion == 0.91


def test_no_difference_is_said_so() -> None:
    same = of_items("fact_accuracy", bootstrap.items([0.25, 0.5] * 20))
    outcome = judged(same, same, max_loss=0)
    assert outcome.passed
    assert (
        outcome.rule == "fact_accuracy of the final stage not worse than the champion (version 3)"
    )
    assert outcome.reason == (
        "fact_accuracy is 0.375, equal to 0.375 of the champion (version 3) (no item differs; "
        "40 items, each compared with itself); no loss is accepted"
    )
    better = of_items("fact_accuracy", bootstrap.items([0.25, 0.5] * 19 + [0.25, 0.75]))
    reason = judged(better, same, max_loss=0).reason
    assert "(95 %: no difference to 0.0" in reason and " better; 40 items" in reason


def test_too_few_items_are_told_with_how_many_would_do() -> None:
    few = judged(answers(36, 40), answers(36, 40, first_right=2), max_loss=0.05)
    assert few.is_undecided
    words = few.reason.rsplit("; ", 1)[1]
    assert words.startswith("0.05 worse is accepted, and 40 items are too few to tell: about ")
    wanted = int(words.split("about ")[1].split()[0])
    enough = wanted // 40 + 1
    tiled = [
        of_items("fact_accuracy", Items(parts=one.items["fact_accuracy"].parts * enough))
        for one in (answers(36, 40), answers(36, 40, first_right=2))
    ]
    assert judged(tiled[0], tiled[1], max_loss=0.05).passed


def test_a_handful_of_items_tells_nothing() -> None:
    outcome = judged(answers(9, 9), answers(0, 9), min_gain=0.0)
    assert (outcome.passed, outcome.is_undecided) == (False, True)
    assert "there are 9 items, and 10 are the fewest; ask more questions" in outcome.reason


def test_a_champion_from_before_items_compares_by_intervals() -> None:
    ours, theirs = answers(360, 400), answers(364, 400)
    before = theirs.model_copy(update={"items": {}})
    paired, unpaired = (judged(ours, one, max_loss=0.07) for one in (theirs, before))
    assert paired.passed and unpaired.passed
    assert (paired.is_paired, unpaired.is_paired) == (True, False)
    assert "from the two intervals, as the items of both are not at hand" in unpaired.reason
    assert not judged(ours, before, max_loss=0.05).passed  # the unpaired interval is wider
    assert paired.gain_interval is not None and unpaired.gain_interval is not None
    assert unpaired.gain_interval[0] < paired.gain_interval[0]


@pytest.mark.parametrize(("confident", "passed"), [(True, False), (False, True)])
def test_noise_promotes_where_a_recipe_accepts_that(confident: bool, passed: bool) -> None:
    ours, theirs = answers(37, 40), answers(38, 40, first_right=2)
    assert judged(ours, theirs, max_loss=0.03, confident=confident).passed is passed


def test_figures_as_they_are_are_compared_without_rounding() -> None:
    champion = samples.evaluation(**{"fact_accuracy.A": 0.92})  # 0.92 - 0.9 is above 0.02 in binary
    rule = {"figure": "fact_accuracy.A", "max_loss": 0.02, "confident": False}
    assert judged(SEEN, champion, **rule).passed
    assert not judged(SEEN, champion, **rule | {"max_loss": 0.019}).passed


def test_other_held_out_data_do_not_compare() -> None:
    champion = samples.evaluation(held_out_hash="0" * 64, **{"fact_accuracy.A": 0.1})
    outcome = judged(SEEN, champion, figure="fact_accuracy.A", max_loss=0.1)
    assert not outcome.passed
    assert "other held-out data (000000000000, here ffffffffffff)" in outcome.reason
    assert "run the champion's recipe with this run's held-out data" in outcome.reason
    assert (outcome.value, outcome.champion, outcome.gain) == (0.9, 0.1, None)


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
    outcome = judged(ours, champion, figure="harness.arc_easy.acc", max_loss=0.05)
    assert not outcome.passed
    assert reason in outcome.reason


def test_benchmarks_compare_by_their_standard_errors() -> None:
    ours, theirs = (samples.with_benchmark(SEEN, value, "q" * 64) for value in (0.69, 0.7))
    outcome = judged(ours, theirs, figure="harness.arc_easy.acc", max_loss=0.05)
    assert outcome.passed
    assert "from both standard errors, as benchmarks keep no items" in outcome.reason
    assert outcome.gain_interval == pytest.approx((-0.01 - 0.02687, -0.01 + 0.02687), abs=1e-5)
    without = judged(ours, theirs, figure="harness.arc_easy.f1", max_loss=0.05)
    assert (without.passed, without.is_undecided) == (False, True)
    assert "no standard error; compare another, or set confident: false" in without.reason
    assert judged(ours, theirs, figure="harness.arc_easy.f1", max_loss=0.05, confident=False).passed


def test_a_missing_figure_fails() -> None:
    outcome = judged(SEEN, SEEN, figure="rouge_l", max_loss=0.05)
    assert (outcome.value, outcome.passed) == (None, False)
    assert outcome.reason == "rouge_l was not measured of the final stage"
    broken = samples.evaluation(perplexity_domain=float("nan"))
    rule = {"figure": "perplexity_domain", "higher_is_better": False, "max_loss": 1.0}
    assert "was not measured of the champion" in judged(SEEN, broken, **rule).reason


def test_a_champion_without_evaluation_fails_the_comparison() -> None:
    outcome = judged(SEEN, None, max_loss=0.05)
    assert not outcome.passed
    assert "holds no evaluation of the champion (version 3); run its recipe again" in outcome.reason


@pytest.mark.parametrize("figure", ["perplexity_domain", "perplexity_answers"])
def test_alignment_09_perplexity_is_not_compared_across_tokenizers(figure: str) -> None:
    champion = samples.evaluation(tokenizer_hash="0" * 64, **{figure: 100.0})
    outcome = judged(SEEN, champion, figure=figure, higher_is_better=False, max_loss=1.0)
    assert not outcome.passed
    assert "(version 3) has another tokenizer (000000000000, here" in outcome.reason
    assert outcome.reason.endswith("compare bits_per_byte_domain in its place")


def test_alignment_09_bits_per_byte_is_compared_across_tokenizers() -> None:
    champion = samples.evaluation(tokenizer_hash="0" * 64, bits_per_byte_domain=1.2)
    rule = {"figure": "bits_per_byte_domain", "higher_is_better": False, "max_loss": 0.0}
    for ours, passed in ((0.5, True), (1.9, False)):
        outcome = judged(samples.evaluation(bits_per_byte_domain=ours), champion, **rule)
        assert outcome.passed is passed
