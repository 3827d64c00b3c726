"""Figures of held-out pairs against numbers worked by hand."""

import math

import pytest
import torch

from posttrain.align.reward_report import calibration, correlation, summarise

# chosen, rejected: right by 2, wrong by 1, a tie, right by 4
SCORE_P2 = torch.tensor([[1.0, -1.0], [0.0, 1.0], [0.5, 0.5], [3.0, -1.0]])
LENGTH_P2 = torch.tensor([[10, 10], [10, 5], [20, 19], [8, 4]])


def test_alignment_13_accuracy_margin_and_pairs_of_equal_length() -> None:
    report = summarise(["a", "a", "b", "b"], SCORE_P2, LENGTH_P2, length_band=0.1)
    assert report.accuracy == 0.5  # the tie is wrong
    assert report.by_kind == {"a": 0.5, "b": 0.5}
    assert report.figures["margin_mean"] == pytest.approx(1.25)
    assert report.figures["num_equal_length"] == 2  # the first and the third
    assert report.figures["accuracy_equal_length"] == 0.5


def test_pairs_without_a_kind_count_in_the_accuracy_alone() -> None:
    report = summarise([None, "a", None, None], SCORE_P2, LENGTH_P2, length_band=0.1)
    assert (report.accuracy, report.by_kind) == (0.5, {"a": 0.0})


def test_alignment_13_calibration_compares_confidence_with_accuracy() -> None:
    """Two pairs at sigmoid(1) = 0.731, one of them wrong; one pair at sigmoid(4) = 0.982."""
    figures = calibration(torch.tensor([1.0, -1.0, 4.0]))
    assert figures["accuracy_at_70_to_80"] == 0.5
    assert figures["num_at_70_to_80"] == 2
    assert figures["accuracy_at_90_to_100"] == 1
    sure, unsure = 1 / (1 + math.exp(-4)), 1 / (1 + math.exp(-1))
    assert figures["calibration_error"] == pytest.approx(
        (2 * (unsure - 0.5) + (1 - sure)) / 3, abs=1e-6
    )


def test_alignment_13_a_score_that_is_length_correlates_with_it() -> None:
    lengths = torch.tensor([1, 2, 3, 9])
    assert correlation(2.0 * lengths - 1, lengths) == pytest.approx(1)
    assert correlation(-lengths.float(), lengths) == pytest.approx(-1)
    assert correlation(torch.ones(4), lengths) == 0


def test_no_pair_of_equal_length_gives_no_figure() -> None:
    report = summarise(["a"], torch.tensor([[1.0, 0.0]]), torch.tensor([[9, 1]]), length_band=0.1)
    assert "accuracy_equal_length" not in report.figures
    assert report.figures["num_equal_length"] == 0
