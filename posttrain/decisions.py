"""What the registry decided, and by what. Imports pydantic alone."""

from typing import Literal

from posttrain.recipe.section import Section


class RegisteredVersion(Section):
    """A version in the model registry."""

    name: str
    version: int
    content_hash: str
    """Of the registered policy, its base, template and tokenizer."""

    is_new: bool
    """False where the same content was registered before."""


Problem = Literal[
    "no_evaluation",
    "other_tokenizer",
    "not_measured",
    "champion_not_measured",
    "other_data",
    "no_standard_error",
    "too_few_items",
]
"""Why two versions' figures can't be compared; the last two: not with confidence."""


class RuleOutcome(Section):
    """One rule of the gate, with what it saw."""

    rule: str
    """In words, with its bound."""

    figure: str
    """Name of the figure that it looks at."""

    value: float | None
    """The figure; None where it is missing, which fails."""

    passed: bool

    reason: str
    """What was seen, in words, with figure and bound."""

    kind: Literal["limit", "max_loss", "min_gain"] | None = None
    """What was asked; None in outcomes of releases that did not record it."""

    confident: bool = False
    """Whether the whole 95 % interval had to hold, and not the figure alone."""

    stage: str = "final"
    """Stage that the figure is of."""

    interval: tuple[float, float] | None = None
    """95 % interval of the figure; None where it has none."""

    num: int | None = None
    """Items behind the figure; of a comparison, behind the difference."""

    at_least: float | None = None
    """The limit's own bounds."""

    at_most: float | None = None

    champion: float | None = None
    """The champion's figure; None for a limit."""

    gain: float | None = None
    """How much better than the champion, in the figure's unit; negative is worse."""

    gain_interval: tuple[float, float] | None = None
    """95 % interval of `gain`."""

    needed_gain: float | None = None
    """What `gain` must reach: `min_gain`, or less `max_loss`."""

    is_paired: bool | None = None
    """Whether the difference was taken item by item; None where no interval was."""

    is_undecided: bool = False
    """Whether it failed for too wide an interval alone: more items might decide."""

    needed_items: int | None = None
    """About how many items would decide, should the difference stay; None where none would."""

    problem: Problem | None = None
    """What stood in the comparison's way."""

    hashes: tuple[str, str] | None = None
    """Of the tokenizer or data in which the champion and this version differ, as `reason` does."""


class Promotion(Section):
    """The gate's decision."""

    version: int
    promoted: bool
    reasons: tuple[str, ...]
    """In words, each with its figure; why not, where it was not promoted."""

    outcomes: tuple[RuleOutcome, ...]
    previous_champion: int | None

    @property
    def refused(self) -> bool:
        """Whether a rule stands against it; without one a person may still decide."""
        return not self.promoted and not all(outcome.passed for outcome in self.outcomes)


class HistoryEntry(Section):
    """A line of the promotion history; without holes in numbers, or between `to` and `from`."""

    number: int
    action: Literal["promote", "rollback", "approve", "reject", "refuse", "outside"]
    """`refuse`: by the gate, not by a person. `outside`: past us."""

    version: int | None  # what it is about; of a rollback, what was taken back
    who: str
    when: str  # UTC, ISO 8601
    from_version: int | None  # champion before and after
    to_version: int | None
    why: str
    outcomes: tuple[RuleOutcome, ...] = ()
    state: Literal["begun", "done", "undone"] = "done"  # undone: killed before the champion moved
