"""An evaluation in plain sentences: did it meet its limits, and what did each stage do."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from posttrain.align.ppo_health import signs
from posttrain.decisions import RuleOutcome
from posttrain.evaluate.language import Text, both, in_words, joined, plain, say
from posttrain.evaluate.wording import direction, label, number, short_label, stage_label
from posttrain.figures import Figure
from posttrain.recipe.ppo import PpoHealth
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.reports import Evaluation, RewardEvaluation, StageEvaluation

Point = Mapping[str, float | None]


@dataclass(frozen=True)
class Aim:
    """What a stage is for; what it did is said in the catalogue's `aims`."""

    figures: tuple[str, ...]
    """Figures that tell; the first of those measured decides."""

    also: tuple[str, ...] = ()
    """Figures to state beside: what it cost."""


AIMS = {
    "base_finetune": Aim(("perplexity_domain", "fact_cloze")),
    "sft": Aim(("fact_accuracy", "helpfulness", "rouge_l", "perplexity_answers")),
    "ppo": Aim(("mean_score",), ("kl_to_sft", "fact_accuracy")),
    "dpo": Aim(("mean_score",), ("kl_to_sft", "fact_accuracy")),
    "self_critique": Aim(("violation_rate",), ("helpfulness", "fact_accuracy")),
    "rlaif": Aim(("rlaif_score",), ("mean_score", "kl_to_sft", "violation_rate")),
}

COLLAPSE = 0.1
"""Share of the first rollout's entropy below which a policy repeats itself."""


@dataclass(frozen=True)
class Sentence:
    """What one stage did, `lead`: `detail`."""

    lead: Text
    detail: Text
    good: bool | None
    """None where the intervals overlap or nothing tells."""


def is_pending(promotion: PromotionRecipe | None) -> bool:
    """Whether anything is decided after the limits: by comparison, or by a person."""
    return promotion is not None and bool(promotion.against_champion or not promotion.automatic)


def is_good(
    outcomes: tuple[RuleOutcome, ...], promotion: PromotionRecipe | None = None
) -> bool | None:
    """Whether the rules hold; None where nothing was asked yet, or not all."""
    if any(not outcome.passed for outcome in outcomes):
        return False
    return None if is_pending(promotion) or not outcomes else True


def headline(outcomes: tuple[RuleOutcome, ...], promotion: PromotionRecipe | None = None) -> Text:
    """Promote or not, and why, in one line; `promotion` what is decided after these outcomes."""
    missed = [outcome for outcome in outcomes if not outcome.passed]
    if not outcomes:
        return say("verdict.unlimited")
    if not missed:
        return _meets(len(outcomes), promotion)
    names = list(dict.fromkeys(outcome.figure for outcome in missed))
    if len(names) <= 2:
        return say("verdict.short_in", figures=in_words([both(short_label, one) for one in names]))
    return say("verdict.short_in_many", missed=len(missed), num=len(outcomes))


def _meets(num: int, promotion: PromotionRecipe | None) -> Text:
    how_many = "one" if num == 1 else "all"
    if promotion is None or not is_pending(promotion):
        return say(f"verdict.meets_{how_many}", num=num)
    pending = "champion" if promotion.automatic else "both"
    if not promotion.against_champion:
        pending = "person"
    said = say(f"verdict.pending_{pending}")
    return say(f"verdict.so_far_{how_many}", num=num, pending=said)


def pending_sentence(promotion: PromotionRecipe) -> Sentence | None:
    """What is decided after the page is made: against the champion, or by a person."""
    told = []
    if names := dict.fromkeys(rule.figure for rule in promotion.against_champion):
        figures = in_words([both(short_label, name) for name in names])
        told.append(say("verdict.champion_compared", figures=figures))
    if not promotion.automatic:
        told.append(say("verdict.person_decides"))
    return Sentence(say("verdict.champion_next"), joined("; ", told), good=None) if told else None


def warning_sentences(
    evaluation: Evaluation, histories: Mapping[str, Sequence[Point]] | None = None
) -> list[Sentence]:
    """What training itself warned of (`ppo.health`)."""
    return [
        Sentence(say("warnings.lead", stage=both(stage_label, one.stage)), words, good=False)
        for one in evaluation.stages
        for words in _warnings(one, evaluation, (histories or {}).get(one.stage, ()))
    ]


def _warnings(
    stage: StageEvaluation, evaluation: Evaluation, history: Sequence[Point]
) -> list[Text]:
    """The recorded words; in other languages told anew from the curve, where it tells the same."""
    recipe = next((one.recipe for one in evaluation.trainings if one.stage == stage.stage), {})
    points = [{name: value or 0.0 for name, value in point.items()} for point in history]
    health = PpoHealth.model_validate(recipe["health"]) if "health" in recipe else None
    names = list(signs(points, health)) if health is not None and points else []
    if len(names) != len(stage.warnings) or not names or health is None:
        return [say("warnings.recorded", words=words) for words in stage.warnings]
    figures = {name: _warned(name, value) for name, value in points[-1].items()}
    figures |= {f"first_{name}": _warned(name, value) for name, value in points[0].items()}
    return [
        say(f"warnings.{name}", words=words, **figures, **health.model_dump())
        for name, words in zip(names, stage.warnings, strict=True)
    ]


def _warned(name: str, value: float) -> str:
    return f"{value:.0%}" if name.endswith("_share") else number(value)


def stage_sentences(evaluation: Evaluation) -> list[Sentence]:
    """One sentence a stage after the first, against the stage before it."""
    return [
        _sentence(before, after)
        for before, after in zip(evaluation.stages, evaluation.stages[1:], strict=False)
    ]


def reward_sentences(evaluation: Evaluation) -> list[Sentence]:
    """How well each reward model judges, and where least."""
    named = {
        "reward_model": evaluation.reward_model,
        "rlaif_reward_model": evaluation.rlaif_reward_model,
    }
    return [_reward_sentence(who, reward) for who, reward in named.items() if reward is not None]


def judge_sentence(evaluation: Evaluation) -> Sentence | None:
    """How far RLAIF's judge can be trusted, and how often order alone decides."""
    judge = evaluation.ai_judge
    if judge is None:
        return None
    why = [
        joined(" ", [both(partial(label, "counts"), reason), plain(f"{num:,}")])
        for reason, num in judge.dropped.items()
    ]
    detail = say(
        "sentences.judge_detail",
        accuracy=_percent(judge.accuracy),
        pairs=f"{judge.num_pairs:,}",
        order=_percent(judge.order_decides),
        kept=f"{judge.num_kept:,}",
        judged=f"{judge.num_judged:,}",
        dropped=joined(", ", why) or say("sentences.none"),
    )
    return Sentence(say("sentences.judge"), detail, good=None)


def _reward_sentence(who: str, reward: RewardEvaluation) -> Sentence:
    figures = {"share": _percent(reward.accuracy), "pairs": f"{reward.num_pairs:,}"}
    detail = say("sentences.reward_detail", **figures)
    if len(reward.by_kind) > 1:
        kind, least = min(reward.by_kind.items(), key=lambda found: found[1])
        named = {"kind": kind.replace("_", " "), "least": _percent(least)}
        detail = say("sentences.reward_weakest", **figures, **named)
    return Sentence(say(f"sentences.{who}"), detail, good=None)


def critique_sentence(evaluation: Evaluation) -> Sentence | None:
    """How far the critic can be trusted."""
    if evaluation.critic_accuracy is None:
        return None
    detail = say("sentences.critic_detail", share=_percent(evaluation.critic_accuracy))
    return Sentence(say("sentences.critic"), detail, good=None)


def length_sentence(evaluation: Evaluation) -> Sentence | None:
    """How much of a method's gain length alone would explain, by SFT's slope of score on length."""
    found = {one.stage: one for one in evaluation.scored}
    sft, ppo = found.get("sft"), found.get("ppo") or found.get("dpo")
    if sft is None or ppo is None or len(set(sft.lengths)) < 2:
        return None
    slope = statistics.linear_regression(sft.lengths, sft.scores).slope
    longer = statistics.fmean(ppo.lengths) - statistics.fmean(sft.lengths)
    gain = statistics.fmean(ppo.scores) - statistics.fmean(sft.scores)
    key = "sentences.length_part" if slope * longer > 0 else "sentences.length_none"
    figures = {"explained": slope * longer, "gain": gain, "longer": longer}
    said = {"stage": both(stage_label, ppo.stage)}
    said |= {name: plain(number(value)) for name, value in figures.items()}
    good = None if gain <= 0 else slope * longer < gain
    return Sentence(say(key, **said), say(f"{key}_detail", **said), good)


def entropy_sentence(history: Sequence[Point], stage: str = "ppo") -> Sentence | None:
    """Whether the policy still explores: entropy a token, first and last rollout."""
    points = [value for point in history if (value := point.get("entropy")) is not None]
    if len(points) < 2:
        return None
    good = points[-1] >= COLLAPSE * points[0]
    return Sentence(
        say(f"sentences.entropy_{'held' if good else 'collapsed'}", stage=both(stage_label, stage)),
        say("sentences.entropy_detail", first=number(points[0]), last=number(points[-1])),
        good=good,
    )


def _sentence(before: StageEvaluation, after: StageEvaluation) -> Sentence:
    aim = AIMS[after.stage]
    told = [name for name in aim.figures if name in before.figures and name in after.figures]
    good = _improved(told[0], before.figures[told[0]], after.figures[told[0]]) if told else None
    did = {True: "better", False: "worse", None: "same"}[good]
    names = [*told, *(name for name in aim.also if name in after.figures)]
    if not told:
        did = "measured"
        names = [*names, *(name for name in after.figures if "." not in name and name not in names)]
    details = [_change(name, before, after) for name in names[:4]]
    return Sentence(say(f"aims.{after.stage}.{did}"), joined(", ", details), good)


def _improved(name: str, before: Figure, after: Figure) -> bool | None:
    """Whether a figure moved the right way; None where its intervals overlap or no way is right."""
    sign, was, now = direction(name), before.bounds, after.bounds
    if sign == 0 or was is None or now is None or (now[0] <= was[1] and was[0] <= now[1]):
        return None
    return (after.value - before.value) * sign > 0


def _change(name: str, before: StageEvaluation, after: StageEvaluation) -> Text:
    value = number(after.figures[name].value)
    if name in before.figures:
        value = f"{number(before.figures[name].value)}\u00a0→\u00a0{value}"
    return joined(" ", [both(short_label, name), plain(value)])


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
