"""An evaluation in plain sentences: did it meet its limits, and what did each stage do."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posttrain.evaluate.wording import (
    STAGES,
    direction,
    figure_label,
    in_words,
    number,
    stage_label,
)
from posttrain.reports import (
    Evaluation,
    Figure,
    RewardEvaluation,
    RuleOutcome,
    StageEvaluation,
)


@dataclass(frozen=True)
class Aim:
    """What a stage is for."""

    figures: tuple[str, ...]
    """Figures that tell; the first of those measured decides."""

    better: str
    worse: str
    also: tuple[str, ...] = ()
    """Figures to state beside: what it cost."""


AIMS = {
    "base_finetune": Aim(
        ("perplexity_domain", "fact_cloze"), "learned the domain", "did not learn the domain"
    ),
    "sft": Aim(
        ("fact_accuracy", "helpfulness", "rouge_l", "perplexity_answers"),
        "learned to answer",
        "did not learn to answer",
    ),
    "ppo": Aim(
        ("mean_score",),
        "raised the reward score",
        "lowered the reward score",
        ("kl_to_sft", "fact_accuracy"),
    ),
    "dpo": Aim(
        ("mean_score",),
        "raised the reward score",
        "lowered the reward score",
        ("kl_to_sft", "fact_accuracy"),
    ),
    "self_critique": Aim(
        ("violation_rate",),
        "reduced violations",
        "increased violations",
        ("helpfulness", "fact_accuracy"),
    ),
    "rlaif": Aim(
        ("rlaif_score",),
        "raised the second reward model's score",
        "lowered the second reward model's score",
        ("mean_score", "kl_to_sft", "violation_rate"),
    ),
}

COLLAPSE = 0.1
"""Share of the first rollout's entropy below which a policy repeats itself."""

SHORT = {
    "perplexity_domain": "perplexity",
    "perplexity_answers": "perplexity of answers",
    "mean_score": "score",
    "rlaif_score": "second score",
    "kl_to_sft": "KL",
}


@dataclass(frozen=True)
class Sentence:
    """What one stage did, `lead`: `detail`."""

    lead: str
    detail: str
    good: bool | None
    """None where the intervals overlap or nothing tells."""


def headline(outcomes: tuple[RuleOutcome, ...]) -> str:
    """The verdict in one line."""
    missed = [outcome for outcome in outcomes if not outcome.passed]
    if not outcomes:
        return "Measured; no limits were set"
    if not missed:
        return "Meets its limit" if len(outcomes) == 1 else f"Meets all {len(outcomes)} limits"
    figures = list(dict.fromkeys(_short(outcome.figure) for outcome in missed))
    if len(figures) <= 2:
        return f"Falls short in {in_words(figures)}"
    return f"Falls short in {len(missed)} of {len(outcomes)} limits"


def outcome_sentence(outcome: RuleOutcome) -> str:
    """What a rule saw, with figures and stages as people call them."""
    text = outcome.reason.replace(outcome.figure, _short(outcome.figure), 1)
    for name, label in STAGES.items():
        text = text.replace(f" of {name} ", f" of {label} ", 1)
    return text[0].upper() + text[1:]


def warning_sentences(evaluation: Evaluation) -> list[Sentence]:
    """What training itself warned of (`ppo.health`)."""
    return [
        Sentence(f"Warning from {stage_label(one.stage)}", words, good=False)
        for one in evaluation.stages
        for words in one.warnings
    ]


def stage_sentences(evaluation: Evaluation) -> list[Sentence]:
    """One sentence a stage after the first, against the stage before it."""
    return [
        _sentence(before, after)
        for before, after in zip(evaluation.stages, evaluation.stages[1:], strict=False)
    ]


def reward_sentences(evaluation: Evaluation) -> list[Sentence]:
    """How well each reward model judges, and where least."""
    named = {"The reward model": evaluation.reward_model}
    named |= {"The second reward model": evaluation.rlaif_reward_model}
    return [_reward_sentence(who, reward) for who, reward in named.items() if reward is not None]


def judge_sentence(evaluation: Evaluation) -> Sentence | None:
    """How far RLAIF's judge can be trusted, and how often order alone decides."""
    judge = evaluation.ai_judge
    if judge is None:
        return None
    why = ", ".join(f"{reason.replace('_', ' ')} {n:,}" for reason, n in judge.dropped.items())
    return Sentence(
        lead="RLAIF's judge agrees with people",
        detail=(
            f"in {100 * judge.accuracy:.0f}\u00a0% of {judge.num_pairs:,} held-out pairs; order "
            f"alone decides {100 * judge.order_decides:.0f}\u00a0%. {judge.num_kept:,} of "
            f"{judge.num_judged:,} pairs of its own are kept (dropped: {why or 'none'})"
        ),
        good=None,
    )


def _reward_sentence(who: str, reward: RewardEvaluation) -> Sentence:
    share = f"{100 * reward.accuracy:.0f}\u00a0%"
    weakest = min(reward.by_kind, key=lambda kind: reward.by_kind[kind], default=None)
    least = (
        f"; least where they differ by {weakest.replace('_', ' ')}, "
        f"{100 * reward.by_kind[weakest]:.0f}\u00a0%"
        if weakest and len(reward.by_kind) > 1
        else ""
    )
    return Sentence(
        lead=f"{who} prefers the right answer",
        detail=f"in {share} of {reward.num_pairs:,} held-out pairs{least}",
        good=None,
    )


def critique_sentence(evaluation: Evaluation) -> Sentence | None:
    """How far the critic can be trusted."""
    if evaluation.critic_accuracy is None:
        return None
    share = f"{100 * evaluation.critic_accuracy:.0f}\u00a0%"
    return Sentence("The critic judges rightly", f"{share} of held-out answers", good=None)


def length_sentence(evaluation: Evaluation) -> Sentence | None:
    """How much of a method's gain length alone would explain, by SFT's slope of score on length."""
    found = {one.stage: one for one in evaluation.scored}
    sft, ppo = found.get("sft"), found.get("ppo") or found.get("dpo")
    if sft is None or ppo is None or len(set(sft.lengths)) < 2:
        return None
    whose = stage_label(ppo.stage)
    slope = statistics.linear_regression(sft.lengths, sft.scores).slope
    longer = statistics.fmean(ppo.lengths) - statistics.fmean(sft.lengths)
    gain = statistics.fmean(ppo.scores) - statistics.fmean(sft.scores)
    return Sentence(
        lead=f"Length explains part of {whose}'s gain"
        if slope * longer > 0
        else "Length explains none",
        detail=(
            f"{number(slope * longer)} of {number(gain)}; answers are {number(longer)} tokens "
            "longer, and SFT's own longer answers score higher"
            if slope * longer > 0
            else f"of {whose}'s gain of {number(gain)}"
        ),
        good=None if gain <= 0 else slope * longer < gain,
    )


def entropy_sentence(
    history: Sequence[Mapping[str, float | None]], stage: str = "ppo"
) -> Sentence | None:
    """Whether the policy still explores: entropy a token, first and last rollout."""
    points = [value for point in history if (value := point.get("entropy")) is not None]
    if len(points) < 2:
        return None
    collapsed = points[-1] < COLLAPSE * points[0]
    return Sentence(
        lead=f"{stage_label(stage)}'s entropy {'collapsed' if collapsed else 'held'}",
        detail=f"{number(points[0])} → {number(points[-1])} nats a token",
        good=not collapsed,
    )


def _sentence(before: StageEvaluation, after: StageEvaluation) -> Sentence:
    aim = AIMS[after.stage]
    told = [name for name in aim.figures if name in before.figures and name in after.figures]
    good = _improved(told[0], before.figures[told[0]], after.figures[told[0]]) if told else None
    did = {True: aim.better, False: aim.worse, None: "made no clear difference"}[good]
    names = [*told, *(name for name in aim.also if name in after.figures)]
    if not told:
        did = "was measured"
        names = [*names, *(name for name in after.figures if "." not in name and name not in names)]
    details = [_change(name, before, after) for name in names[:4]]
    return Sentence(f"{stage_label(after.stage)} {did}", ", ".join(details), good)


def _improved(name: str, before: Figure, after: Figure) -> bool | None:
    """Whether a figure moved the right way; None where its intervals overlap or no way is right."""
    sign = direction(name)
    if sign == 0 or (after.low <= before.high and before.low <= after.high):
        return None
    return (after.value - before.value) * sign > 0


def _change(name: str, before: StageEvaluation, after: StageEvaluation) -> str:
    value = number(after.figures[name].value)
    if name not in before.figures:
        return f"{_short(name)} {value}"
    return f"{_short(name)} {number(before.figures[name].value)}\u00a0→\u00a0{value}"


def _short(name: str) -> str:
    label = figure_label(name)
    first = label if label[:2].isupper() else label[0].lower() + label[1:]  # ROUGE-L, KL
    return SHORT.get(name, first)
