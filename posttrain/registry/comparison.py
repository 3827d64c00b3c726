"""The gate's rules against the champion: not worse by more than a margin, or better.

Non-inferiority holds where the whole 95 % interval of the gain lies above the margin, superiority
where it lies above zero or above the gain that is asked for: each is wrongly granted in one case of
40. All rules must hold, so that several need no correction (Berger 1982).
"""

import math
from dataclasses import dataclass

from posttrain.decisions import Problem, RuleOutcome
from posttrain.evaluate.difference import FEWEST, Difference, difference, needed_items
from posttrain.figures import Figure
from posttrain.recipe.harness import HARNESS
from posttrain.recipe.promotion import Comparison, PromotionRecipe
from posttrain.reports import Evaluation

IN_TOKENS = ("perplexity_domain", "perplexity_answers", "mean_length")
"""Figures whose unit is a tokenizer's token."""

ROUNDING = 1e-9
"""Slack of a comparison: 0.90 - 0.88 exceeds 0.02 in binary."""


@dataclass(frozen=True)
class Champion:
    """The version that a challenger must not fall behind."""

    version: int
    evaluation: Evaluation | None
    """None where the registry holds none for it."""

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"the champion (version {self.version})"


def judge_comparison(
    evaluation: Evaluation, champion: Champion, comparison: Comparison, recipe: PromotionRecipe
) -> RuleOutcome:
    """Whether one figure of the final stage keeps up with the champion's, or exceeds it."""
    name, rival = comparison.figure, champion.evaluation
    ours, theirs = _measured(evaluation, name), _measured(rival, name) if rival else None
    refusal = _refusal(evaluation, champion, name)
    if refusal is not None:
        return RuleOutcome(
            rule=_rule(champion, comparison),
            figure=name,
            value=ours.value if ours is not None else None,
            champion=theirs.value if theirs is not None else None,
            passed=False,
            reason=refusal.reason,
            kind=comparison.kind,
            confident=comparison.confident,
            problem=refusal.problem,
            hashes=refusal.hashes,
        )
    assert ours is not None and theirs is not None and rival is not None, "else it is refused"
    items = (evaluation.items.get(name), rival.items.get(name))
    found = difference((ours, theirs), items, recipe.num_bootstrap, recipe.seed)
    return _Seen(champion, comparison, ours, theirs, found).outcome


def number(value: float) -> str:
    """A figure as the gate's sentences state it: four digits that count."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def rounded(end: float) -> float:
    """An interval's end, in two digits: it is no better known; 0 for what rounding alone left."""
    return 0.0 if abs(end) <= ROUNDING else float(f"{end:.2g}")


@dataclass(frozen=True)
class _Seen:
    """Two figures of the same held-out data, and how far noise reaches."""

    champion: Champion
    comparison: Comparison
    ours: Figure
    theirs: Figure
    difference: Difference | None

    @property
    def sign(self) -> int:
        return 1 if self.comparison.higher_is_better else -1

    @property
    def gain(self) -> float:
        return self.sign * (self.ours.value - self.theirs.value)

    @property
    def interval(self) -> Difference | None:
        return self.difference.signed(self.sign) if self.difference is not None else None

    @property
    def needed(self) -> float:
        """The least gain that is enough; negative where a loss is accepted."""
        scale = abs(self.theirs.value) / 100 if self.comparison.in_percent else 1.0
        if self.comparison.min_gain is not None:
            return scale * self.comparison.min_gain
        assert self.comparison.max_loss is not None, "a comparison has one of the two"
        return -scale * self.comparison.max_loss

    def reaches(self, gain: float) -> bool:
        """Whether a gain is enough. No gain is no superiority, however little is asked for."""
        above_zero = self.comparison.min_gain is None or gain > 0
        return above_zero and gain >= self.needed - ROUNDING

    @property
    def outcome(self) -> RuleOutcome:
        interval = self.interval
        confident = self.comparison.confident
        passed = self.reaches(self.gain)
        if confident:
            passed = interval is not None and self.reaches(interval.low)
        return RuleOutcome(
            rule=_rule(self.champion, self.comparison),
            figure=self.comparison.figure,
            value=self.ours.value,
            interval=self.ours.bounds,
            passed=passed,
            reason=f"{self._seen()}; {self._asked(passed)}",
            num=interval.num if interval is not None else self.ours.num,
            champion=self.theirs.value,
            gain=self.gain,
            gain_interval=(interval.low, interval.high) if interval is not None else None,
            needed_gain=self.needed,
            kind=self.comparison.kind,
            confident=confident,
            is_paired=interval.is_paired if interval is not None else None,
            is_undecided=self.is_undecided(passed),
            needed_items=self.needed_items if self.is_undecided(passed) else None,
            problem=self.problem if self.is_undecided(passed) else None,
        )

    def is_undecided(self, passed: bool) -> bool:
        """Whether noise alone keeps it from passing."""
        return self.comparison.confident and not passed and self.reaches(self.gain)

    @property
    def needed_items(self) -> int | None:
        """None where no number of items would decide, or nothing tells."""
        interval, room = self.interval, self.gain - self.needed
        if interval is None or room <= ROUNDING:
            return None
        return needed_items(interval.num, self.gain, interval.low, self.needed)

    @property
    def problem(self) -> Problem | None:
        """Why nothing tells how far noise reaches."""
        if self.interval is not None:
            return None
        bounds = (self.ours.bounds, self.theirs.bounds)
        return "no_standard_error" if None in bounds else "too_few_items"

    def _seen(self) -> str:
        is_equal = abs(self.gain) <= ROUNDING
        change = "equal to" if is_equal else f"{_change(self.gain)} than"
        figure, bar = self.comparison.figure, number(self.theirs.value)
        text = f"{figure} is {number(self.ours.value)}, {change} {bar} of {self.champion.name}"
        if (interval := self.interval) is None:
            return text
        how = f"{interval.num:,} items, each compared with itself"
        if not interval.is_paired:
            how = "from the two intervals, as the items of both are not at hand"
            if figure.startswith(HARNESS):
                how = "from both standard errors, as benchmarks keep no items"
        low, high = rounded(interval.low), rounded(interval.high)
        ends = f"95 %: {_end(low)} to {_end(high)}"
        if low == high == 0:
            ends = "no item differs" if interval.is_paired else "95 %: no difference"
        return f"{text} ({ends}; {how})"

    def _asked(self, passed: bool) -> str:
        asked = self._margin()
        if not self.is_undecided(passed):
            return asked
        interval = self.interval
        if interval is None:
            return f"{asked}, and nothing tells how far noise reaches: {self._no_interval()}"
        if self.needed_items is None:
            return f"{asked}, and noise reaches beyond it"
        return (
            f"{asked}, and {interval.num:,} items are too few to tell: about "
            f"{self.needed_items:,} would, should the difference stay"
        )

    def _margin(self) -> str:
        if self.comparison.kind == "max_loss":
            accepted = f"{number(-self.needed)} worse" if self.needed else "no loss"
            return f"{accepted} is accepted"
        if self.needed:
            return f"{number(self.needed)} better is required"
        beyond = " beyond noise" if self.comparison.confident else ""
        return f"a gain{beyond} is required"

    def _no_interval(self) -> str:
        if self.problem == "no_standard_error":
            return "the figure has no standard error; compare another, or set confident: false"
        return f"there are {self.ours.num} items, and {FEWEST} are the fewest; ask more questions"


def _rule(champion: Champion, comparison: Comparison) -> str:
    unit = " %" if comparison.in_percent else ""
    subject = f"{comparison.figure} of the final stage"
    if comparison.max_loss is not None:
        most = f"at most {number(comparison.max_loss)}{unit}" if comparison.max_loss else "not"
        return f"{subject} {most} worse than {champion.name}"
    gain = comparison.min_gain
    least = f"by at least {number(gain)}{unit} " if gain else ""
    return f"{subject} {least}better than {champion.name}"


@dataclass(frozen=True)
class _Refusal:
    problem: Problem
    reason: str
    hashes: tuple[str, str] | None = None
    """In which the champion and we differ."""


def _refusal(evaluation: Evaluation, champion: Champion, figure: str) -> _Refusal | None:
    """Why two figures can't be compared, and what to do about it."""
    theirs, who = champion.evaluation, champion.name
    if theirs is None:
        return _Refusal(
            "no_evaluation",
            f"{figure}: the registry holds no evaluation of {who}; run its recipe again, which "
            "registers one, or remove the alias champion",
        )
    if figure in IN_TOKENS and theirs.tokenizer_hash != evaluation.tokenizer_hash:
        their_tokens, our_tokens = theirs.tokenizer_hash[:12], evaluation.tokenizer_hash[:12]
        return _Refusal(
            "other_tokenizer",
            f"{figure} can't be compared: {who} has another tokenizer ({their_tokens}, here "
            f"{our_tokens}), and so other tokens; compare bits_per_byte_domain in its place",
            (their_tokens, our_tokens),
        )
    if _measured(evaluation, figure) is None:
        return _Refusal("not_measured", f"{figure} was not measured of the final stage")
    if _measured(theirs, figure) is None:
        return _Refusal("champion_not_measured", f"{figure} was not measured of {who}")
    ours_on, theirs_on = evaluation.measured_on(figure), theirs.measured_on(figure)
    if ours_on != theirs_on:
        their_data, our_data = str(theirs_on)[:12], str(ours_on)[:12]
        return _Refusal(
            "other_data",
            f"{figure} can't be compared: {who} was measured on other held-out data "
            f"({their_data}, here {our_data}); measure both on the same: run the champion's recipe "
            "with this run's held-out data, probes and evaluation section (the same weights are "
            "the same version, with new figures), then this run again; or remove the alias "
            "champion, and the limits alone decide",
            (their_data, our_data),
        )
    return None


def _change(gain: float) -> str:
    return f"{number(abs(gain))} {'worse' if gain < 0 else 'better'}"


def _end(gain: float) -> str:
    return _change(gain) if gain else "no difference"


def _measured(evaluation: Evaluation, name: str) -> Figure | None:
    figure = evaluation.figure("final", name)
    return figure if figure is not None and math.isfinite(figure.value) else None
