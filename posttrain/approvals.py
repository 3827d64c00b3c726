"""What a person is asked about a version, and what the person answers. Imports pydantic alone."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from posttrain.decisions import RuleOutcome
from posttrain.recipe.section import Section
from posttrain.registry.one_line import VISIBLE

Decision = Literal["approve", "overrule", "reject"]
Text = Annotated[str, Field(pattern=VISIBLE, max_length=2000)]
"""Something that a reader sees: neither empty, nor blanks and invisible characters alone."""

UNANSWERED: dict[str, JsonValue] = {
    "default": {"decision": "", "who": "", "why": ""},
}
"""What the dashboard's editor starts with. It fits no schema: nobody approves by one click."""


class Proposal(Section):
    """A version that waits for a person, as it stood when the person was asked."""

    name: str
    """Registered model."""

    version: int
    champion: int | None
    """The champion that the gate compared it with; an approval takes this one's place alone."""

    outcomes: tuple[RuleOutcome, ...]
    """The gate's."""

    after: int
    """Number of the history's last line when the person was asked; 0 where it had none."""

    @property
    def passed(self) -> bool:
        return all(outcome.passed for outcome in self.outcomes)

    @property
    def refusal(self) -> str:
        """The reasons of the rules that do not hold; empty where all do."""
        return "; ".join(outcome.reason for outcome in self.outcomes if not outcome.passed)

    @property
    def waits_as(self) -> str:
        """Name of ZenML's wait condition, by which an answer finds the run."""
        return wait_name(self.name, self.version)

    @property
    def question(self) -> str:
        """What a person is asked, the gate's word first."""
        place = (
            f"It would take the place of version {self.champion}"
            if self.champion
            else "There is no champion yet"
        )
        gate = (
            f"every rule of the gate holds ({len(self.outcomes)})"
            if self.passed
            else f"the gate refuses it: {self.refusal}"
        )
        return (
            f"Shall {self.name} version {self.version} become the champion? {place}; {gate}. "
            f'Answer "{self.answer_schema.yes()}" or "reject", with your name and your reason; '
            "the step `gate` has the report."
        )

    @property
    def answer_schema(self) -> "type[Approval | Overruling]":
        """Where the gate refuses, a yes has another name, so that nobody overrules it unawares."""
        return Approval if self.passed else Overruling


class Answer(Section):
    """What a person decided."""

    decision: Decision
    who: Text
    """Your name; the promotion history keeps it."""

    why: Text
    """Your reason; the promotion history keeps it."""


class Approval(Answer):
    """The answer about a version that the gate passes."""

    model_config = ConfigDict(json_schema_extra=UNANSWERED)

    decision: Literal["approve", "reject"]
    """`approve` makes the version the champion."""

    @staticmethod
    def yes() -> Decision:
        return "approve"


class Overruling(Answer):
    """The answer about a version that the gate refuses."""

    model_config = ConfigDict(json_schema_extra=UNANSWERED)

    decision: Literal["overrule", "reject"]
    """`overrule` makes the version the champion against the gate."""

    @staticmethod
    def yes() -> Decision:
        return "overrule"


def wait_name(name: str, version: int) -> str:
    """What the wait for an answer about a version is called."""
    return f"{name} version {version}"
