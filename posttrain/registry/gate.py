"""The gate's rules as pure functions: an evaluation and limits in, an outcome a rule out.

It decides nothing about aliases (`promote.py` does) and reads no registry. A figure that a rule
names and nobody measured fails the rule.
"""

import math
from dataclasses import dataclass

from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe
from posttrain.reports import Evaluation, RuleOutcome

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


def judge(
    evaluation: Evaluation, champion: Champion | None, recipe: PromotionRecipe
) -> tuple[RuleOutcome, ...]:
    """Every rule's outcome: the limits, then the comparisons where there is a champion."""
    outcomes = [judge_limit(evaluation, limit) for limit in recipe.limits]
    if champion is not None:
        outcomes += [
            judge_comparison(evaluation, champion, comparison)
            for comparison in recipe.against_champion
        ]
    return tuple(outcomes)


def judge_limit(evaluation: Evaluation, limit: Limit) -> RuleOutcome:
    """Whether one figure lies within its bounds."""
    subject = f"{limit.figure} of {_stage(limit.stage)}"
    bounds = " and ".join(
        f"{word} {number(bound)}"
        for word, bound in (("at least", limit.at_least), ("at most", limit.at_most))
        if bound is not None
    )
    rule = f"{subject} {bounds}"
    value = _finite(evaluation, limit.stage, limit.figure)
    if value is None:
        reason = f"{subject} was not measured; required: {bounds}"
        return _failed(rule, limit.figure, None, reason)
    passed = (limit.at_least is None or value >= limit.at_least) and (
        limit.at_most is None or value <= limit.at_most
    )
    return RuleOutcome(
        rule=rule,
        figure=limit.figure,
        value=value,
        passed=passed,
        reason=f"{subject} is {number(value)}; required: {bounds}",
    )


def judge_comparison(
    evaluation: Evaluation, champion: Champion, comparison: Comparison
) -> RuleOutcome:
    """Whether one figure of the final stage falls behind the champion's by too much."""
    figure = comparison.figure
    who = f"the champion (version {champion.version})"
    rule = f"{figure} of the final stage at most {number(comparison.max_loss)} worse than {who}"
    value = _finite(evaluation, "final", figure)
    if champion.evaluation is None:
        reason = f"{figure}: the registry holds no evaluation of {who}"
        return _failed(rule, figure, value, reason)
    theirs, ours = champion.evaluation.tokenizer_hash, evaluation.tokenizer_hash
    if figure in IN_TOKENS and theirs != ours:
        return _failed(
            rule,
            figure,
            value,
            f"{figure} can't be compared: {who} has another tokenizer ({theirs[:12]}, here "
            f"{ours[:12]}), and so other tokens; compare bits_per_byte_domain in its place",
        )
    bar = _finite(champion.evaluation, "final", figure)
    if value is None or bar is None:
        missing = "the final stage" if value is None else who
        return _failed(rule, figure, value, f"{figure} was not measured of {missing}")
    ours_on, theirs_on = (e.measured_on(figure) for e in (evaluation, champion.evaluation))
    if ours_on != theirs_on:
        return _failed(
            rule,
            figure,
            value,
            f"{figure} can't be compared: {who} was measured on other held-out data "
            f"({str(theirs_on)[:12]}, here {str(ours_on)[:12]}); "
            "leave promotion.against_champion out for this run, or remove the alias champion",
        )
    loss = bar - value if comparison.higher_is_better else value - bar
    passed = loss <= comparison.max_loss + ROUNDING
    change = "no worse" if loss <= 0 else f"{number(loss)} worse"
    accepted = f"{number(comparison.max_loss)} is accepted"
    return RuleOutcome(
        rule=rule,
        figure=figure,
        value=value,
        passed=passed,
        reason=f"{figure} is {number(value)}, {change} than {number(bar)} of {who}; {accepted}",
    )


def number(value: float) -> str:
    """A figure as the gate's sentences state it: four digits that count."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"


def _stage(stage: str) -> str:
    return "the final stage" if stage == "final" else stage


def _finite(evaluation: Evaluation, stage: str, name: str) -> float | None:
    figure = evaluation.figure(stage, name)
    return figure.value if figure is not None and math.isfinite(figure.value) else None


def _failed(rule: str, figure: str, value: float | None, reason: str) -> RuleOutcome:
    return RuleOutcome(rule=rule, figure=figure, value=value, passed=False, reason=reason)
