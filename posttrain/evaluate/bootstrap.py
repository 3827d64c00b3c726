"""95 % intervals by the percentile bootstrap (Efron 1979)."""

import math
from collections.abc import Sequence

import numpy as np

from posttrain.reports import Figure, Items

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
    return figure.model_copy(update={"num": sum(sizes)})


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
