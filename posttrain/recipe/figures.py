"""Which figures a run will measure of which stage, so that its gate names no other.

Checked when a recipe is read: a gate that can't pass is found before anything is trained.
"""

from dataclasses import dataclass

from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HARNESS
from posttrain.recipe.promotion import Comparison, Limit, PromotionRecipe

DOMAIN = ("perplexity_domain", "bits_per_byte_domain")
ANSWERS = ("perplexity_answers",)
OF_ANSWERS = ("ended_share", "mean_length")
"""Of the answers to all probes but cloze."""

SCORES = ("mean_score", "score_std")
SECOND_SCORES = ("rlaif_score", "rlaif_score_std")
KL = ("kl_to_sft",)
BUILT_IN = (*DOMAIN, *ANSWERS, *OF_ANSWERS, *SCORES, *SECOND_SCORES, *KL)
"""Figures that evaluation measures without a probe."""


@dataclass(frozen=True)
class Measuring:
    """What a run measures: its stages in the order of training, and what they are asked."""

    stages: tuple[str, ...]
    roles: frozenset[str]
    """Roles that have a source."""

    aligns: bool
    """Whether a reward model is trained."""

    has_second_round: bool
    evaluation: EvaluationRecipe

    def stages_of(self, figure: str) -> tuple[str, ...]:
        """The stages that a figure is measured of; none where nobody measures it."""
        after_sft = self.stages[self.stages.index("sft") :]
        if figure.startswith(HARNESS):
            harness = self.evaluation.harness
            asked = harness is not None and harness.task_of(figure) is not None
            return (self.stages[0], self.stages[-1]) if asked else ()
        if figure in SCORES:
            return after_sft if self.aligns else ()
        if figure in SECOND_SCORES:
            return after_sft if self.has_second_round else ()
        if figure in KL:
            return after_sft[1:] if self.aligns else ()
        return self.stages if figure in self._of_every_stage else ()

    @property
    def _of_every_stage(self) -> set[str]:
        probes = self.evaluation.probes
        found = {name for probe in probes for name in probe.figures}
        found |= {
            f"{name}.{one}"
            for probe in probes
            if probe.by_set
            for name in probe.figures
            for one in probe.sets
        }
        found |= set(DOMAIN) if "corpus" in self.roles else set()
        found |= set(ANSWERS) if "instructions" in self.roles else set()
        return found | (set(OF_ANSWERS) if any(p.kind != "cloze" for p in probes) else set())

    @property
    def known(self) -> list[str]:
        """Every figure of any stage but benchmarks'."""
        return sorted(name for name in {*BUILT_IN, *self._of_every_stage} if self.stages_of(name))

    def is_share(self, figure: str) -> bool:
        """Whether a figure lies between 0 and 1."""
        probes = {name for probe in self.evaluation.probes for name in probe.figures}
        return figure.partition(".")[0] in probes or figure == "ended_share"


def check_figures(promotion: PromotionRecipe, measuring: Measuring) -> None:
    """Refuse a gate on a figure that nobody measures, or with a bound that can't hold.

    Raises:
        ValueError: names the figure, and those that there are.
    """
    for limit in promotion.limits:
        stage = measuring.stages[-1] if limit.stage == "final" else limit.stage
        if stage not in measuring.stages:
            raise ValueError(
                f"promotion.limits names {limit.figure!r} of the stage {stage!r}, which this run "
                f"does not have (it has: {list(measuring.stages)}); name another, or leave the "
                "limit out"
            )
        _check_is_measured(limit.figure, stage, measuring)
        _check_can_hold(limit, measuring)
    for comparison in promotion.against_champion:
        _check_is_measured(comparison.figure, measuring.stages[-1], measuring)
        _check_tells(comparison, measuring)


def _check_is_measured(figure: str, stage: str, measuring: Measuring) -> None:
    stages = measuring.stages_of(figure)
    if stage in stages:
        return
    if stages:
        raise ValueError(
            f"promotion names the figure {figure!r} of {stage}, and it is measured of "
            f"{' and '.join(stages)} alone; name one of these as the limit's stage"
        )
    if figure.startswith(HARNESS):
        harness = measuring.evaluation.harness
        tasks = list(harness.tasks) if harness is not None else "absent"
        raise ValueError(
            f"promotion names the figure {figure!r}, which is no {HARNESS}<task>.<metric> of "
            f"the tasks in evaluation.harness ({tasks}); add its task there"
        )
    name = figure.partition(".")[0]
    if name != figure and measuring.stages_of(name):
        parts = [one for one in measuring.known if one.partition(".")[0] == name]
        raise ValueError(
            f"promotion names the figure {figure!r}, and evaluation reports no such set; "
            f"name one of {parts} (a probe reports its `sets` with `by_set: true`)"
        )
    raise ValueError(
        f"promotion names the figure {figure!r}, which this run does not measure: it is neither "
        f"built in, for its stages and data, nor a probe (known: {measuring.known})"
    )


def _check_can_hold(limit: Limit, measuring: Measuring) -> None:
    least, most = limit.at_least, limit.at_most
    if measuring.is_share(limit.figure):
        if least is not None and least > 1:
            raise ValueError(_not_a_share("limits", limit.figure, "at_least", least))
        if most is not None and most < 0:
            raise ValueError(_not_a_share("limits", limit.figure, "at_most", most))
    if limit.figure.startswith("perplexity_") and most is not None and most < 1:
        raise ValueError(
            f"promotion.limits: {limit.figure} at_most {most:g} can't hold: no perplexity is below "
            "1; raise the bound"
        )


def _check_tells(comparison: Comparison, measuring: Measuring) -> None:
    if comparison.in_percent or not measuring.is_share(comparison.figure):
        return
    for field, margin in (("max_loss", comparison.max_loss), ("min_gain", comparison.min_gain)):
        if margin is not None and margin >= 1:
            text = _not_a_share("against_champion", comparison.figure, field, margin)
            raise ValueError(f"{text}; or add in_percent: true")


def _not_a_share(rules: str, figure: str, field: str, value: float) -> str:
    return (
        f"promotion.{rules}: {figure} has {field} {value:g}, and it is a share, from 0 to 1; "
        f"write {field}: {value / 100:g} for {value:g} per cent"
    )
