import math

import pytest

from posttrain.evaluate import bootstrap
from posttrain.figures import Items


def test_share_of_hits_with_its_interval() -> None:
    figure = bootstrap.of_items(bootstrap.items([1.0] * 60 + [0.0] * 40), 2_000, seed=0)
    assert figure.value == 0.6
    assert figure.low == pytest.approx(0.504, abs=0.02)  # 0.6 -+ 1.96 sqrt(0.24 / 100)
    assert figure.high == pytest.approx(0.696, abs=0.02)
    assert figure.num == 100


def test_answers_that_are_all_right_leave_doubt() -> None:
    figure = bootstrap.of_items(bootstrap.items([1.0] * 20), 200, seed=0)
    assert figure.value == figure.high == 1.0
    assert figure.low == pytest.approx(20 / (20 + 1.96**2), abs=1e-3)  # Wilson: n / (n + z^2)


def test_items_of_several_probes_are_joined() -> None:
    whole = bootstrap.joined([bootstrap.items([1.0, 0.0]), bootstrap.items([3.0], [4])])
    assert whole == Items(parts=(1.0, 0.0, 3.0), sizes=(1, 1, 4))
    assert bootstrap.of_items(whole, 10, seed=0).num == 6  # answers
    assert bootstrap.of_items(whole, 10, seed=0).value == pytest.approx(4 / 6)


def test_a_perplexity_is_the_exponential_of_its_items() -> None:
    made_of = bootstrap.items([math.log(8.0), 2 * math.log(2.0)], [1, 2], is_log=True)
    assert made_of.parts[0] == 2.079442  # seven digits are kept
    assert bootstrap.of_items(made_of, 10, seed=0).value == pytest.approx(32 ** (1 / 3))


def test_ratio_is_weighted() -> None:
    assert bootstrap.ratio([1.0, 9.0], [1.0, 3.0], 10, seed=0).value == 2.5


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item to measure"):
        bootstrap.mean([], 10, seed=0)
