"""When a version becomes the champion."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, model_validator

from posttrain.recipe.section import Section

OWN_SCALE = ("mean_score", "score_std", "rlaif_score", "rlaif_score_std", "kl_to_sft")
"""Figures whose scale is a run's own: its reward model, its SFT model."""


class Limit(Section):
    """A bound on one figure of one stage."""

    stage: Literal[
        "final", "untrained", "base_finetune", "sft", "ppo", "dpo", "self_critique", "rlaif"
    ] = "final"
    """Stage the figure is of; `final` is the last one trained."""

    figure: str
    """`perplexity_domain`, `perplexity_answers`, `bits_per_byte_domain`, a probe's name,
    `probe.set` (`fact_accuracy.A`), or a benchmark's `harness.<task>.<metric>`, which is measured
    of `untrained` and `final` alone."""

    at_least: float | None = None
    """Lower bound, included."""

    at_most: float | None = None
    """Upper bound, included."""

    @model_validator(mode="after")
    def a_bound_is_given(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"promotion.limits: {self.stage} {self.figure} has no bound")
        return self


class Comparison(Section):
    """A bound on the loss of one figure against the current champion's."""

    figure: str
    """As in `Limit`, of the final stage; none whose scale is a run's own."""

    higher_is_better: bool
    """Direction of the figure."""

    max_loss: NonNegativeFloat = 0.0
    """How much worse than the champion is still accepted, in the figure's own unit."""

    @model_validator(mode="after")
    def both_runs_measure_on_one_scale(self) -> Self:
        if self.figure in OWN_SCALE:
            raise ValueError(
                f"promotion.against_champion names {self.figure!r}: the champion's was measured by "
                "its own run's reward model and SFT model, on another scale; bound it by "
                "promotion.limits, or compare a perplexity or a probe"
            )
        return self


class PromotionRecipe(Section):
    """The gate: each named figure must exist and hold."""

    limits: tuple[Limit, ...] = Field(min_length=1)
    """Absolute limits."""

    against_champion: tuple[Comparison, ...] = ()
    """Limits relative to the champion, where there is one."""

    automatic: bool = True
    """Move the `champion` alias when the gate passes; else a person decides."""

    on_refusal: Literal["report", "fail"] = "report"
    """What a run does whose version the gate refuses: end well and tell (log line, alert), or fail,
    so that a scheduler sees it by the exit code."""
