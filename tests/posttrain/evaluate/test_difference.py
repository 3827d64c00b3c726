"""Intervals of differences: hand-worked cases, and how often they err."""

import math

import numpy as np
import pytest

from posttrain.evaluate import bootstrap
from posttrain.evaluate.difference import difference, expanded_tail, needed_items, score_interval
from posttrain.figures import Figure, Items

NUM_TRIALS = 400
ERRORS = 0.025 + 3 * math.sqrt(0.025 * 0.975 / NUM_TRIALS)
"""What a rate of 2.5 % stays below in so many trials, but for one time in 700."""


def interval(ours: Items, theirs: Items, num_resamples: int = 400) -> tuple[float, float]:
    figures = tuple(bootstrap.of_items(one, 20, seed=0) for one in (ours, theirs))
    found = difference((figures[0], figures[1]), (ours, theirs), num_resamples, seed=0)
    assert found is not None and found.is_paired
    return found.low, found.high


def hits(
    generator: np.random.Generator, difficulty: "np.ndarray[int, np.dtype[np.float64]]"
) -> Items:
    """One model's answers to questions of which some are hard for every model."""
    right = generator.random(len(difficulty)) < difficulty
    return bootstrap.items([float(one) for one in right])


@pytest.mark.parametrize("num", [30, 150])
def test_an_equal_challenger_is_better_in_one_case_of_forty(num: int) -> None:
    """Superiority's error: both answer the same questions with the same chances."""
    generator = np.random.default_rng(7)
    better = worse = 0
    for _ in range(NUM_TRIALS):
        chances = generator.beta(3, 1, num)
        low, high = interval(hits(generator, chances), hits(generator, chances))
        better += low > 0
        worse += high < 0
    assert better / NUM_TRIALS <= ERRORS
    assert worse / NUM_TRIALS <= ERRORS
    assert better + worse > 0 or num < 100  # an interval that never errs is too wide


def test_an_equal_challenger_of_other_perplexity_is_better_in_one_case_of_forty() -> None:
    generator = np.random.default_rng(8)
    better = 0
    for _ in range(NUM_TRIALS):
        sizes = generator.integers(5, 60, 40)
        shared = generator.normal(2.0, 0.5, 40)  # some texts are hard for every model
        ours, theirs = (
            bootstrap.items(
                list(sizes * (shared + generator.normal(0, 0.1, 40))),
                [int(size) for size in sizes],
                is_log=True,
            )
            for _ in range(2)
        )
        better += interval(ours, theirs)[1] < 0
    assert 0 < better / NUM_TRIALS <= ERRORS


def test_an_equal_challenger_is_found_not_worse_as_often_as_computed() -> None:
    """Non-inferiority's power: of the normal approximation, within the trials' own noise."""
    generator = np.random.default_rng(9)
    num, margin, differ = 200, 0.06, 0.12
    passed = 0
    for _ in range(NUM_TRIALS):
        ours, theirs = np.ones(num), np.ones(num)
        side = generator.choice([0, 1, 2], num, p=[1 - differ, differ / 2, differ / 2])
        ours[side == 1], theirs[side == 2] = 0.0, 0.0
        low, _ = interval(bootstrap.items(list(ours)), bootstrap.items(list(theirs)))
        passed += low >= -margin
    error = math.sqrt(differ / num)
    power = 0.5 * math.erfc((1.96 - margin / error) / math.sqrt(2))  # P(Z > 1.96 - margin/error)
    assert passed / NUM_TRIALS == pytest.approx(power, abs=0.08)


def test_a_challenger_at_the_margin_passes_in_one_case_of_forty() -> None:
    """Non-inferiority's error: worse by exactly what is accepted."""
    generator = np.random.default_rng(10)
    num, passed = 200, 0
    for _ in range(NUM_TRIALS):
        theirs = generator.random(num) < 0.9
        ours = theirs & (generator.random(num) < 0.85 / 0.9)  # 5 points worse
        low, _ = interval(
            bootstrap.items([*map(float, ours)]), bootstrap.items([*map(float, theirs)])
        )
        passed += low >= -0.05
    assert passed / NUM_TRIALS <= ERRORS


def test_items_that_go_together_make_a_narrower_interval() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(2.0, 0.6, 60)
    ours, theirs = (
        bootstrap.items(list(hard + generator.normal(shift, 0.05, 60)), is_log=True)
        for shift in (0.0, 0.1)
    )
    figures = (bootstrap.of_items(ours, 400, 0), bootstrap.of_items(theirs, 400, 0))
    paired = difference(figures, (ours, theirs), 400, seed=0)
    unpaired = difference(figures, (ours, None), 400, seed=0)
    assert paired is not None and unpaired is not None
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)
    assert paired.high < 0 < unpaired.high


def test_intervals_of_standard_errors_are_added_as_squares() -> None:
    ours = Figure(value=0.7, low=0.67, high=0.73, num=100)
    theirs = Figure(value=0.6, low=0.56, high=0.64, num=90)
    found = difference((ours, theirs), (None, None), 10, seed=0)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((0.05, 0.15))
    assert (found.num, found.is_paired) == (90, False)
    assert (
        difference((ours, Figure(value=1, low=None, high=None, num=1)), (None, None), 1, 0) is None
    )


def test_the_score_interval_is_tangos() -> None:
    low, high = score_interval(0, 0, 100)  # z^2 / (n + z^2)
    assert (-low, high) == pytest.approx((0.03699, 0.03699), abs=1e-5)
    # one of 44 differs
    assert score_interval(1, 0, 44) == pytest.approx((-0.0613, 0.1181), abs=2e-3)
    low, high = score_interval(12, 3, 50)
    assert score_interval(3, 12, 50) == pytest.approx((-high, -low))
    assert low < 9 / 50 < high


def test_no_difference_in_a_few_answers_is_no_proof_of_none() -> None:
    same = bootstrap.items([1.0, 0.0] * 20)
    low, high = interval(same, same)
    assert -low == pytest.approx(high) == pytest.approx(3.8415 / 43.8415, abs=1e-4)


def test_few_items_leave_less_out() -> None:
    assert expanded_tail(10_000) == pytest.approx(0.025, abs=1e-4)
    assert expanded_tail(10) == pytest.approx(0.0086, abs=1e-4)  # t = 2.262, and sqrt(10 / 9)


def test_the_same_seed_draws_the_same() -> None:
    generator = np.random.default_rng(3)
    ours, theirs = (bootstrap.items(list(generator.normal(size=50))) for _ in range(2))
    assert interval(ours, theirs) == interval(ours, theirs)


@pytest.mark.parametrize(
    ("num", "gain", "low", "needed", "wanted"),
    [
        (100, 0.0, -0.1, -0.05, 400),
        (150, 0.02, -0.01, 0.0, 340),  # 337.5
        (12, 0.3, -0.3, 0.0, 48),
    ],
)
def test_how_many_items_would_decide(
    num: int, gain: float, low: float, needed: float, wanted: int
) -> None:
    assert needed_items(num, gain, low, needed) == wanted
