"""What held-out pairs say about a reward model: beyond accuracy, whether length does the work.

Shapes: P pairs.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from posttrain.align.rows import Pair
from posttrain.align.score import Scorer
from posttrain.recipe.section import Section

NUM_BINS = 5


class PairReport(Section):
    """Held-out pairs judged."""

    accuracy: float
    """Share of pairs whose chosen side scores higher; a tie is wrong."""

    by_kind: dict[str, float]
    figures: dict[str, float]
    """`margin_mean`; `calibration_error` and, for each bin of confidence, its accuracy and number
    of pairs; `accuracy_equal_length` with `num_equal_length`; `length_correlation` of score and
    length."""


def judge_pairs(
    pairs: Sequence[Pair], scorer: Scorer, batch_size: int, length_band: float
) -> PairReport:
    """Score both sides of each pair, in batches of like lengths."""
    chosen = [[*pair.prompt, *pair.chosen] for pair in pairs]
    rejected = [[*pair.prompt, *pair.rejected] for pair in pairs]
    score_P2 = scorer.scores([*chosen, *rejected], batch_size).view(2, -1).T
    length_P2 = torch.tensor([[len(pair.chosen), len(pair.rejected)] for pair in pairs])
    return summarise([pair.kind for pair in pairs], score_P2, length_P2, length_band)


def summarise(
    kinds: Sequence[str | None], score_P2: Tensor, length_P2: Tensor, length_band: float
) -> PairReport:
    """Figures from the scores and response lengths (tokens) of (chosen, rejected)."""
    margin_P = score_P2[:, 0] - score_P2[:, 1]
    right_P = margin_P > 0
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for kind, right in zip(kinds, right_P.tolist(), strict=True):
        if kind is not None:  # a source need not tell kinds apart
            by_kind[kind].append(right)
    figures = {"margin_mean": float(margin_P.mean()), **calibration(margin_P)}
    gap_P = (length_P2[:, 0] - length_P2[:, 1]).abs()
    alike_P = gap_P <= length_band * length_P2.max(-1).values
    if alike_P.any():
        figures["accuracy_equal_length"] = float(right_P[alike_P].float().mean())
    figures["num_equal_length"] = float(alike_P.sum())
    figures["length_correlation"] = correlation(score_P2.flatten(), length_P2.flatten())
    return PairReport(
        accuracy=float(right_P.float().mean()),
        by_kind={kind: sum(found) / len(found) for kind, found in sorted(by_kind.items())},
        figures=figures,
    )


def calibration(margin_P: Tensor) -> dict[str, float]:
    """How often the preferred side is right, by the confidence sigmoid(|margin|) from 0.5 to 1.

    `calibration_error` is the mean gap of confidence and accuracy, weighted by pairs (Guo et al.
    2017). Empty bins are left out.
    """
    confidence_P = torch.sigmoid(margin_P.abs())
    right_P = (margin_P > 0).float()
    bin_P = ((confidence_P - 0.5) * 2 * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    figures: dict[str, float] = {}
    error = 0.0
    for index in range(NUM_BINS):
        within = bin_P == index
        if within.any():
            low = 50 + index * 50 // NUM_BINS
            accuracy = float(right_P[within].mean())
            figures[f"accuracy_at_{low}_to_{low + 50 // NUM_BINS}"] = accuracy
            figures[f"num_at_{low}_to_{low + 50 // NUM_BINS}"] = float(within.sum())
            error += float(within.sum()) * abs(accuracy - float(confidence_P[within].mean()))
    return {"calibration_error": error / len(margin_P), **figures}


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson's r; 0 where either is constant."""
    stacked = torch.stack([first.double(), second.double()])
    if bool((stacked.std(dim=-1) < 1e-12).any()):
        return 0.0
    return float(torch.corrcoef(stacked)[0, 1])


def slope(score_B: Tensor, length_B: Tensor) -> float:
    """Least-squares slope of the score on the length, a token; 0 where the lengths are equal."""
    spread = float(length_B.std(correction=0))
    return correlation(score_B, length_B) * float(score_B.std(correction=0)) / max(spread, 1e-6)
