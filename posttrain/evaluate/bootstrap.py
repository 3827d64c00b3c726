"""95 % intervals by the percentile bootstrap (Efron 1979).

Where all answers are right, or all wrong, it has no width: of shares the score interval stands
wherever it is the wider one (Wilson 1927).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from posttrain.figures import Figure, Items

Z = NormalDist().inv_cdf(0.975)

DIGITS = 7
"""Digits of an item that are kept: more than float32 has."""


def items(
    parts: Sequence[float], sizes: Sequence[int] | None = None, is_log: bool = False
) -> Items:
    """What a figure is made of, as it is kept: rounded, without sizes that are all 1."""
    return Items(
        parts=tuple(float(f"{part:.{DIGITS}g}") for part in parts),
        sizes=tuple(sizes) if sizes is not None and set(sizes) != {1} else None,
        is_log=is_log,
    )


def joined(parts: Sequence[Items]) -> Items:
    """The items of several probes as those of one figure."""
    sizes = [size for one in parts for size in one.sizes or (1,) * len(one.parts)]
    return items([part for one in parts for part in one.parts], sizes)


def of_items(made_of: Items, num_resamples: int, seed: int) -> Figure:
    """The figure that items make, resampled by item.

    Raises:
        ValueError: there is no item.
    """
    sizes = made_of.sizes or (1,) * len(made_of.parts)
    figure = ratio(made_of.parts, sizes, num_resamples, seed)
    if made_of.is_log:
        return figure.through(math.exp, num=sum(sizes))
    low, high = figure.bounds or (figure.value, figure.value)
    if made_of.is_hit_or_miss:
        from_score = wilson_interval(figure.value, figure.num)
        low, high = min(low, from_score[0]), max(high, from_score[1])
    return Figure(value=figure.value, low=low, high=high, num=sum(sizes))


def wilson_interval(share: float, num: int) -> tuple[float, float]:
    """Wilson's interval of a share of `num` answers (1927)."""
    spread = Z**2 / num
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def mean(values: Sequence[float], num_resamples: int, seed: int) -> Figure:
    """The mean of `values`, resampled by item.

    Raises:
        ValueError: there is no value.
    """
    return ratio(values, [1.0] * len(values), num_resamples, seed)


def deviation(values: Sequence[float], num_resamples: int, seed: int) -> Figure:
    """The standard deviation of `values`, resampled by item."""
    generator = np.random.default_rng(seed)
    array = np.asarray(values, float)
    drawn = [
        array[generator.integers(0, len(array), len(array))].std() for _ in range(num_resamples)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(value=float(array.std()), low=float(low), high=float(high), num=len(array))


def ratio(
    numerators: Sequence[float], denominators: Sequence[float], num_resamples: int, seed: int
) -> Figure:
    """Sum over sum, resampled by item: a token-weighted mean keeps its weights."""
    if not numerators:
        raise ValueError("no item to measure; look at the probe's sets and the held-out split")
    top, bottom = np.asarray(numerators, float), np.asarray(denominators, float)
    generator = np.random.default_rng(seed)
    drawn = np.empty(num_resamples)
    for i in range(num_resamples):  # one at a time: memory stays that of one resample
        chosen = generator.integers(0, len(top), len(top))
        drawn[i] = top[chosen].sum() / bottom[chosen].sum()
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Figure(
        value=float(top.sum() / bottom.sum()), low=float(low), high=float(high), num=len(top)
    )
