"""95 % intervals by the percentile bootstrap (Efron 1979)."""

from collections.abc import Sequence

import numpy as np

from posttrain.reports import Figure


def share(hits: Sequence[bool], num_resamples: int, seed: int) -> Figure:
    """The share of hits, resampled by item."""
    return mean([float(hit) for hit in hits], num_resamples, seed)


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
