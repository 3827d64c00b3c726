"""When a version becomes the champion."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveInt, model_validator

from posttrain.recipe.section import Section

OWN_SCALE = ("mean_score", "score_std", "rlaif_score", "rlaif_score_std", "kl_to_sft")
"""Figures whose scale is a run's own: its reward model, its SFT model."""

LOWER_IS_BETTER = ("perplexity_domain", "perplexity_answers", "bits_per_byte_domain")
"""Figures whose direction their name tells."""


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

    at_least: FiniteFloat | None = None
    """Lower bound, included."""

    at_most: FiniteFloat | None = None
    """Upper bound, included."""

    confident: bool = False
    """Whether the whole 95 % interval must lie within the bounds, and not the figure alone."""

    @model_validator(mode="after")
    def a_bound_is_given(self) -> Self:
        if self.at_least is None and self.at_most is None:
            raise ValueError(f"promotion.limits: {self.stage} {self.figure} has no bound")
        return self

    @model_validator(mode="after")
    def bounds_leave_room(self) -> Self:
        low, high = self.at_least, self.at_most
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"promotion.limits: {self.stage} {self.figure} has at_least {low:g} above at_most "
                f"{high:g}: nothing lies between them; lower the one or raise the other"
            )
        return self


class Comparison(Section):
    """What one figure of the final stage must show against the current champion's.

    Either that it is not worse by more than a margin (non-inferiority), or that it is better
    (superiority). The 95 % interval of the difference decides, so that noise promotes nothing.
    """

    figure: str
    """As in `Limit`, of the final stage; none whose scale is a run's own."""

    higher_is_better: bool
    """Direction of the figure."""

    max_loss: NonNegativeFloat | None = None
    """Non-inferiority: how much worse than the champion is still accepted, in the figure's own
    unit. The interval must leave no greater loss possible, so 0 asks for a proof of equality: give
    what you would trade for a gain elsewhere."""

    min_gain: NonNegativeFloat | None = None
    """Superiority: how much better than the champion it must be; 0 asks for any gain that is
    beyond noise."""

    in_percent: bool = False
    """Whether `max_loss` and `min_gain` are per cent of the champion's figure."""

    confident: bool = True
    """Whether the interval decides. If false, the two figures as they are: for benchmarks without a
    standard error, and for whoever accepts that noise promotes."""

    @property
    def kind(self) -> Literal["max_loss", "min_gain"]:
        """Which of the two is asked."""
        return "max_loss" if self.min_gain is None else "min_gain"

    @model_validator(mode="after")
    def one_margin_is_given(self) -> Self:
        if (self.max_loss is None) == (self.min_gain is None):
            raise ValueError(
                f"promotion.against_champion: {self.figure} names "
                f"{'neither' if self.max_loss is None else 'both'} of max_loss and min_gain; give "
                "one: max_loss (at most so much worse) or min_gain (better by more than that)"
            )
        return self

    @model_validator(mode="after")
    def both_runs_measure_on_one_scale(self) -> Self:
        if self.figure in OWN_SCALE:
            raise ValueError(
                f"promotion.against_champion names {self.figure!r}: the champion's was measured by "
                "its own run's reward model and SFT model, on another scale; bound it by "
                "promotion.limits, or compare a perplexity or a probe"
            )
        return self

    @model_validator(mode="after")
    def lower_perplexity_is_better(self) -> Self:
        if self.figure in LOWER_IS_BETTER and self.higher_is_better:
            raise ValueError(
                f"promotion.against_champion: {self.figure} has higher_is_better: true, and lower "
                "is better; set it to false"
            )
        return self


class PromotionRecipe(Section):
    """The gate: each named figure must exist and hold."""

    limits: tuple[Limit, ...] = Field(min_length=1)
    """Absolute limits."""

    against_champion: tuple[Comparison, ...] = ()
    """Limits relative to the champion, where there is one."""

    signed_by: str | None = Field(default=None, pattern=r"^\s*-----BEGIN PUBLIC KEY-----\s")
    """Public key, as PEM text, by which the version must be signed (`docs/signing.md`); without it
    no signature is asked for."""

    automatic: bool = True
    """Move the `champion` alias when the gate passes; else a person decides."""

    on_refusal: Literal["report", "fail"] = "report"
    """What a run does whose version the gate refuses: end well and tell (log line, alert), or fail,
    so that a scheduler sees it by the exit code."""

    num_bootstrap: PositiveInt = 2_000
    """Resamples behind the interval of each difference."""

    seed: int = 0
    """Seed of the resampling. Not the run's: whoever judges two versions again finds the same."""
