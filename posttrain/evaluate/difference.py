"""How much better one version is than another, with a 95 % interval.

1. Item by item, where both answered the same items: the percentile bootstrap of the difference
   (Efron 1979), each resample drawing the same items of both. Its ends are moved outwards as few
   items ask for (Hesterberg 2015: the expanded percentile interval).
2. Of questions that are right or wrong the bootstrap is too sure where few answers differ, and its
   interval is empty where none does: the score interval of paired shares (Tango 1998) stands
   wherever it is the wider one.
3. From the two figures' own intervals, where items are missing: squared distances added (Zou and
   Donner 2008), which for standard errors is the normal approximation.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from posttrain.evaluate.bootstrap import Z
from posttrain.figures import Figure, Items

FEWEST = 10
"""Items below which no resampling tells: six that agree by chance would look like a proof."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Ours less theirs, in the figure's unit."""

    low: float
    high: float
    num: int
    """Items behind it; of two intervals, the fewer of theirs."""

    is_paired: bool

    def signed(self, sign: int) -> "Difference":
        """Of a figure where lower is better (-1), the gain."""
        low, high = sorted((sign * self.low, sign * self.high))
        return Difference(low, high, self.num, self.is_paired)


def difference(
    figures: tuple[Figure, Figure],
    items: tuple[Items | None, Items | None],
    num_resamples: int,
    seed: int,
) -> Difference | None:
    """The interval of ours less theirs, in pairs where both items are there.

    Returns:
        None where nothing tells how far noise reaches: too few items, or a figure that has neither
        items nor an interval.
    """
    ours, theirs = items
    if ours is None or theirs is None or len(ours.parts) != len(theirs.parts):
        return _of_intervals(*figures)
    num = len(ours.parts)
    if num < FEWEST:
        return None
    low, high = _of_resamples((ours, theirs), num_resamples, seed)
    if ours.is_hit_or_miss and theirs.is_hit_or_miss:
        from_score = score_interval(
            sum(a > b for a, b in zip(ours.parts, theirs.parts, strict=True)),
            sum(a < b for a, b in zip(ours.parts, theirs.parts, strict=True)),
            num,
        )
        low, high = min(low, from_score[0]), max(high, from_score[1])
    return Difference(low, high, num, is_paired=True)


def _of_resamples(items: tuple[Items, Items], num_resamples: int, seed: int) -> tuple[float, float]:
    readers = [_reader(one) for one in items]
    num = len(items[0].parts)
    generator = np.random.default_rng(seed)
    drawn = np.empty(num_resamples)
    for i in range(num_resamples):  # one at a time: memory stays that of one resample
        chosen = generator.integers(0, num, num)
        drawn[i] = readers[0](chosen) - readers[1](chosen)
    tail = 100 * expanded_tail(num)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def _reader(items: Items) -> Callable[[NDArray[np.int64]], float]:
    """The figure of chosen items."""
    parts = np.asarray(items.parts, float)
    sizes = np.ones_like(parts) if items.sizes is None else np.asarray(items.sizes, float)

    def read(chosen: NDArray[np.int64]) -> float:
        ratio = float(parts[chosen].sum() / sizes[chosen].sum())
        return math.exp(ratio) if items.is_log else ratio

    return read


def expanded_tail(num: int) -> float:
    """Share of resamples to leave out at each end, so that few items do not look like many."""
    return NormalDist().cdf(-math.sqrt(num / (num - 1)) * _student(num - 1))


def _student(degrees: int) -> float:
    """The 97.5 % quantile of Student's t, by Cornish and Fisher's expansion."""
    z = Z
    return (
        z
        + (z**3 + z) / (4 * degrees)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    )


def score_interval(only_ours: int, only_theirs: int, num: int) -> tuple[float, float]:
    """Tango's interval for the difference of two shares of the same `num` questions.

    Args:
        only_ours: questions that we alone get right.
        only_theirs: questions that they alone get right.
        num: all questions.
    """
    high = _largest(only_ours, only_theirs, num)
    return -_largest(only_theirs, only_ours, num), high


def _largest(only_ours: int, only_theirs: int, num: int) -> float:
    """The largest difference that the score test does not refuse, by bisection."""
    low, high = (only_ours - only_theirs) / num, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _score(only_ours, only_theirs, num, middle) > -Z:
            low = middle
        else:
            high = middle
    return low


def _score(only_ours: int, only_theirs: int, num: int, difference: float) -> float:
    a = 2 * num
    b = -only_ours - only_theirs + (2 * num - only_ours + only_theirs) * difference
    c = -only_theirs * difference * (1 - difference)
    theirs = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = num * (2 * theirs + difference * (1 - difference))
    distance = only_ours - only_theirs - num * difference
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


def _of_intervals(ours: Figure, theirs: Figure) -> Difference | None:
    if ours.bounds is None or theirs.bounds is None:
        return None
    gap = ours.value - theirs.value
    low = gap - math.hypot(ours.value - ours.bounds[0], theirs.bounds[1] - theirs.value)
    high = gap + math.hypot(ours.bounds[1] - ours.value, theirs.value - theirs.bounds[0])
    return Difference(low, high, min(ours.num, theirs.num), is_paired=False)


def needed_items(num: int, gain: float, low: float, needed: float) -> int:
    """About how many items would decide, should the difference stay as it is; two digits."""
    exact = num * ((gain - low) / (gain - needed)) ** 2
    step = int(10 ** max(0, math.floor(math.log10(exact)) - 1))
    return step * math.ceil(exact / step)
