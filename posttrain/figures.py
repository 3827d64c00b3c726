"""A measured value, its interval and the items behind it. Imports pydantic alone."""

from collections.abc import Callable

from posttrain.recipe.section import Section


class Figure(Section):
    """A measured value with its 95 % interval: bootstrapped, or by a benchmark's standard error."""

    value: float
    low: float | None
    """None, as `high`, where a benchmark gives no standard error."""

    high: float | None
    num: int
    """Items behind it: questions, tokens or answers."""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The interval's ends."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def through(self, rising: Callable[[float], float], num: int) -> "Figure":
        """Value and interval under a function that keeps their order, over `num` items."""
        bounds = self.bounds and [rising(bound) for bound in self.bounds]
        low, high = bounds or (None, None)
        return Figure(value=rising(self.value), low=low, high=high, num=num)


class Items(Section):
    """What a figure is made of, item by item: the sum of `parts` over the sum of `sizes`.

    Two versions that were measured on the same held-out data have the same items in the same
    order, so that their difference is taken item by item.
    """

    parts: tuple[float, ...]
    """Loss of each text, hits of each question: seven digits that count."""

    sizes: tuple[int, ...] | None = None
    """Tokens, bytes or answers of each; 1 of each where absent."""

    is_log: bool = False
    """Whether the figure is the exponential of the ratio: a perplexity."""

    @property
    def is_hit_or_miss(self) -> bool:
        """Whether each item is right or wrong, and counts as one."""
        whole = self.sizes is None or set(self.sizes) <= {1}
        return whole and not self.is_log and set(self.parts) <= {0.0, 1.0}
