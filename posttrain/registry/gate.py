"""The gate's rules as pure functions: an evaluation and limits in, an outcome a rule out.

It decides nothing about aliases (`promote.py` does) and reads no registry. A figure that a rule
names and nobody measured fails the rule.
"""

import math
from collections.abc import Sequence

from posttrain.decisions import RuleOutcome
from posttrain.figures import Figure
from posttrain.recipe.promotion import Limit, PromotionRecipe
from posttrain.registry.comparison import Champion, judge_comparison, number
from posttrain.reports import Evaluation


def judge(
    evaluation: Evaluation, champion: Champion | None, recipe: PromotionRecipe
) -> tuple[RuleOutcome, ...]:
    """Every rule's outcome: the limits, then the comparisons where there is a champion."""
    outcomes = [judge_limit(evaluation, limit) for limit in recipe.limits]
    if champion is not None:
        outcomes += [
            judge_comparison(evaluation, champion, comparison, recipe)
            for comparison in recipe.against_champion
        ]
    return tuple(outcomes)


def judge_limit(evaluation: Evaluation, limit: Limit) -> RuleOutcome:
    """Whether one figure, or the whole of its interval, lies within its bounds."""
    stage = "the final stage" if limit.stage == "final" else limit.stage
    subject, bounds = f"{limit.figure} of {stage}", _bounds(limit)
    figure = evaluation.figure(limit.stage, limit.figure)
    if figure is not None and not math.isfinite(figure.value):
        figure = None
    passed, at_value = False, False
    seen = "was not measured"
    if figure is not None:
        at_value = _within(limit, (figure.value, figure.value))
        ends = figure.bounds if limit.confident else (figure.value, figure.value)
        passed = ends is not None and _within(limit, ends)
        seen = f"is {number(figure.value)}{_interval(figure) if limit.confident else ''}"
    return RuleOutcome(
        rule=f"{subject} {bounds}",
        figure=limit.figure,
        value=figure.value if figure is not None else None,
        passed=passed,
        reason=f"{subject} {seen}; required: {bounds}",
        kind="limit",
        confident=limit.confident,
        stage=limit.stage,
        interval=figure.bounds if figure is not None else None,
        num=figure.num if figure is not None else None,
        at_least=limit.at_least,
        at_most=limit.at_most,
        is_undecided=at_value and not passed,
    )


def as_metrics(outcomes: Sequence[RuleOutcome]) -> dict[str, float]:
    """What the tracker shows of a decision: each rule's figure, gain and bounds, by name.

    `gate/passed` is 1 or 0, of all rules; a rule's are `gate/<stage>.<figure>.<what>`.
    """
    found = {"gate/passed": float(all(outcome.passed for outcome in outcomes))}
    for outcome in outcomes:
        name = f"gate/{outcome.stage}.{outcome.figure}"
        low, high = outcome.gain_interval or (None, None)
        values = {
            "value": outcome.value,
            "at_least": outcome.at_least,
            "at_most": outcome.at_most,
            "champion": outcome.champion,
            "gain": outcome.gain,
            "gain_low": low,
            "gain_high": high,
            "needed_gain": outcome.needed_gain,
        }
        found |= {f"{name}.{what}": value for what, value in values.items() if value is not None}
        kind = {"limit": "limit", None: "rule"}.get(outcome.kind, "against_champion")
        found[f"{name}.{kind}_passed"] = float(outcome.passed)
    return found


def _bounds(limit: Limit) -> str:
    named = (("at least", limit.at_least), ("at most", limit.at_most))
    text = " and ".join(f"{word} {number(bound)}" for word, bound in named if bound is not None)
    return f"{text} with 95 % confidence" if limit.confident else text


def _within(limit: Limit, ends: tuple[float, float]) -> bool:
    low, high = ends
    return (limit.at_least is None or low >= limit.at_least) and (
        limit.at_most is None or high <= limit.at_most
    )


def _interval(figure: Figure) -> str:
    if figure.bounds is None:
        return ", without a standard error"
    return f" (95 %: {' to '.join(number(end) for end in figure.bounds)})"
