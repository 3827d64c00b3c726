"""What a person decides: the gate judges anew, by the rules that the version's run recorded.

The rules are the section `promotion` of that run's recipe; its `promote` step leaves them on the
version, in the tag `gate_policy`, so that nobody needs the run's file.
"""

from dataclasses import dataclass
from typing import Literal

import pydantic
from mlflow import MlflowClient

from posttrain.decisions import HistoryEntry, RuleOutcome
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.one_line import one_line
from posttrain.registry.promote import POLICY, examine
from posttrain.registry.promotions import champion_of, move
from posttrain.registry.versions import read_evaluation, resolve


class Refused(ValueError):
    """The gate's rules do not all hold."""

    def __init__(self, judged: "Judged") -> None:
        """Say which, with their figures."""
        self.judged = judged
        failed = "; ".join(outcome.reason for outcome in judged.failed)
        super().__init__(f"{judged.name}: the gate refuses version {judged.version}: {failed}")


@dataclass(frozen=True)
class Judged:
    """The gate's outcomes against the champion of the moment."""

    name: str
    version: int
    champion: int | None
    outcomes: tuple[RuleOutcome, ...]

    @property
    def failed(self) -> tuple[RuleOutcome, ...]:
        return tuple(outcome for outcome in self.outcomes if not outcome.passed)


def judge_again(
    client: MlflowClient, name: str, alias_or_version: str, recipe: PromotionRecipe | None = None
) -> Judged:
    """Judge a registered version by its own evaluation, against the champion of now.

    `recipe` takes the place of the recorded rules.

    Raises:
        ValueError: the version does not exist, or has no evaluation or no rules that can be read.
    """
    entry = resolve(client, name, alias_or_version)
    where = f"{name} version {entry.version}"
    evaluation = read_evaluation(client, entry)
    if evaluation is None:
        raise ValueError(f"{where}: the registry holds no evaluation of it that can be read")
    rules = recipe or _recorded(where, entry.tags.get(POLICY))
    champion = champion_of(client, name)
    outcomes = examine(client, entry, evaluation, rules, champion)
    return Judged(name, int(entry.version), champion, outcomes)


def promote_judged(
    client: MlflowClient,
    judged: Judged,
    *,
    action: Literal["promote", "approve"],
    who: str,
    why: str,
    override: str | None = None,
) -> HistoryEntry:
    """Make a version the champion, if the one that it was compared with still is.

    `override`, a reason, promotes what the gate refuses; the history keeps it beside the outcomes.

    Raises:
        Refused: a rule fails, and there is no `override`.
        ValueError: the champion changed meanwhile, or as `move` says.
    """
    if judged.failed and override is None:
        raise Refused(judged)
    num_failed = len(judged.failed)
    rules = "1 rule fails" if num_failed == 1 else f"{num_failed} rules fail"
    said = f"{one_line(why)}; against the gate, of which {rules}: {override}" if num_failed else why
    return move(
        client,
        judged.name,
        judged.version,
        action=action,
        who=who,
        why=said,
        outcomes=judged.outcomes,
        expected_champion=judged.champion,
    )


def _recorded(where: str, text: str | None) -> PromotionRecipe:
    if text is None:
        raise ValueError(
            f"{where}: no run's gate has judged it, so its rules are not known; run its pipeline "
            "to the step promote"
        )
    try:
        return PromotionRecipe.model_validate_json(text)
    except pydantic.ValidationError as error:
        problems = "; ".join(f"{one['loc']}: {one['msg']}" for one in error.errors())
        raise ValueError(
            f"{where}: its recorded rules (tag {POLICY}) are not of this release: {problems}; run "
            "its pipeline again"
        ) from error
