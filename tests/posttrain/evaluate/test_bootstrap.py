import pytest

from posttrain.evaluate import bootstrap


def test_share_of_hits_with_its_interval() -> None:
    figure = bootstrap.share([True] * 60 + [False] * 40, 2_000, seed=0)
    assert figure.value == 0.6
    assert figure.low == pytest.approx(0.504, abs=0.02)  # 0.6 -+ 1.96 sqrt(0.24 / 100)
    assert figure.high == pytest.approx(0.696, abs=0.02)
    assert figure.num == 100


def test_ratio_is_weighted() -> None:
    assert bootstrap.ratio([1.0, 9.0], [1.0, 3.0], 10, seed=0).value == 2.5


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no item to measure"):
        bootstrap.mean([], 10, seed=0)
