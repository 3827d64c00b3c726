"""RLAIF: preferences of an AI judge, for a second reward model and a second round of PPO."""

from string import Formatter
from typing import Self

from pydantic import Field, PositiveInt, model_validator

from posttrain.recipe.section import Section

PLACES = {"prompt", "first", "second"}


class RlaifRecipe(Section):
    """AI preferences with soft labels (Bai et al. 2022, section 4.1; Lee et al. 2023, section 3).

    Of the answers that self-critique drew. Reward model and PPO run by their own sections.
    """

    enabled: bool = False
    """Whether the second round runs."""

    question: str = "{prompt}\nA: {first}\nB: {second}\nA or B?"
    """What the judge, the frozen SFT model, is asked; {prompt}, {first} and {second} stand in it.
    SFT must have learned to answer it, unless the base can."""

    options: tuple[str, str] = ("A", "B")
    """Answers for the first and for the second; each is one token."""

    tie_band: float = Field(0.1, ge=0, lt=0.5)
    """A pair whose soft label is nearer to 0.5 than this is a tie, and dropped."""

    min_option_mass: float = Field(0.5, ge=0, lt=1)
    """Probability that the two options must hold together, in either order; below it the judgement
    is unparsable, and dropped."""

    min_judge_accuracy: float = Field(0.7, ge=0, le=1)
    """Share of held-out human pairs that the judge must prefer rightly; below it the stage stops.
    Ties and unparsable ones count as wrong."""

    judge_kinds: tuple[str, ...] = ()
    """Kinds of human pairs that this bound is about; all where empty. The others are reported."""

    max_pairs: PositiveInt = 2_000
    """Pairs of answers to judge at most; drawn with the seed."""

    share: float = Field(0.3, gt=0, le=1)
    """Share of AI pairs among those that the second reward model learns; the surplus of either kind
    is left out, and counted."""

    batch_size: PositiveInt = 64
    """Questions to the judge a forward pass."""

    seed: int = 0
    """Seed of the drawing; the run's seed where absent."""

    @model_validator(mode="after")
    def the_question_holds_both_answers(self) -> Self:
        named = {name for _, name, _, _ in Formatter().parse(self.question) if name is not None}
        if named != PLACES:
            raise ValueError(
                f"rlaif.question names {sorted(named)}; it must hold {sorted(PLACES)} in braces, "
                "and nothing else in braces"
            )
        return self

    @model_validator(mode="after")
    def the_options_differ(self) -> Self:
        if self.options[0] == self.options[1]:
            raise ValueError(f"rlaif.options are both {self.options[0]!r}")
        return self
