"""A person's decision from a form, carried out by the registry or by the run that waits for it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from mlflow.exceptions import MlflowException

from cli.review.desk import Desk, Versions, signed
from cli.review.words import Language, translator
from cli.waiting import say, waiting
from posttrain.decisions import RuleOutcome
from posttrain.evaluate.limits import outcome_sentence
from posttrain.registry import promotions
from posttrain.registry.by_hand import Refused, judge_again, promote_judged
from posttrain.registry.lock import LeaseLost
from posttrain.registry.promote import POLICY

REFUSALS = (ValueError, LeaseLost, MlflowException)
"""What the registry raises where it does not do what it is told; says why."""

OVERRULED = "overruled on the review page"

Decision = Literal["approve", "promote", "reject"]
DECISIONS: dict[str, Decision] = {
    "approve": "approve",
    "promote": "promote",
    "reject": "reject",
}


class Undecided(Exception):
    """A form that nothing came of: a text of the catalogue, or the registry's own words."""

    def __init__(
        self,
        status: int,
        key: str = "",
        told: str = "",
        now: str = "",
        failed: Sequence[RuleOutcome] = (),
    ) -> None:
        super().__init__(key or told)
        self.status = status
        self.key = key
        self.told = told
        self.now = now
        self.failed = failed

    def in_(self, language: Language) -> str:
        """What to tell the person."""
        if self.told:
            return self.told
        reasons = "; ".join(outcome_sentence(one).in_(language) for one in self.failed)
        return translator(language)(self.key, now=self.now, reasons=reasons)


def decide(desk: Desk, name: str, number: int, form: Mapping[str, str]) -> tuple[Decision, str]:
    """What was done, and by whom.

    Raises:
        Undecided: the form lacks something, the champion changed, or gate or registry refuse.
    """
    found = desk.versions(name)
    who, why = _signed(form)
    _check_champion(found, form)
    wanted = DECISIONS.get(form.get("decision", ""))
    if wanted is None:
        raise Undecided(400, "refused_form")
    overrules = form.get("overrule") == "yes"
    version = found[number]
    try:
        if wanted != "promote" and desk.has_zenml and waiting(name, number) is not None:
            say(name, number, wanted, who=who, why=why, overrules=overrules)
        elif wanted == "reject":
            outcomes = version.outcomes
            promotions.reject(desk.client, name, number, who=who, why=why, outcomes=outcomes)
        else:
            _promote(desk, found, number, wanted, who, why, overrules)
    except Refused as error:
        raise Undecided(409, "needs_overrule", failed=error.judged.failed) from error
    except REFUSALS as error:
        raise Undecided(409, told=str(error)) from error
    return wanted, who


def roll_back(desk: Desk, name: str, form: Mapping[str, str]) -> str:
    """Give the champion's place back; by whom.

    Raises:
        Undecided: the form lacks something, the champion changed, or there is none before it.
    """
    who, why = _signed(form)
    found = desk.versions(name)
    _check_champion(found, form)
    try:
        promotions.roll_back(desk.client, name, who=who, why=why, expected_champion=found.champion)
    except REFUSALS as error:
        raise Undecided(409, told=str(error)) from error
    return who


def _promote(
    desk: Desk,
    found: Versions,
    number: int,
    action: Literal["approve", "promote"],
    who: str,
    why: str,
    overrules: bool,
) -> None:
    """By the gate's word of this moment; one that no gate ever judged, on the person's own."""
    client, name = desk.client, found.name
    if POLICY in found[number].tags:
        judged = judge_again(client, name, str(number))
        override = OVERRULED if overrules else None
        promote_judged(client, judged, action=action, who=who, why=why, override=override)
        return
    if not overrules:
        raise Undecided(409, "needs_overrule_unjudged")
    promotions.move(
        client,
        name,
        number,
        action=action,
        who=who,
        why=f"{why}; never judged by a gate: {OVERRULED}",
        expected_champion=found.champion,
    )


def _signed(form: Mapping[str, str]) -> tuple[str, str]:
    who, why = signed(form)
    if not who or not why:
        raise Undecided(400, "unsigned")
    return who, why


def _check_champion(found: Versions, form: Mapping[str, str]) -> None:
    """The page was loaded some time ago; what it said must still hold."""
    now = str(found.champion or "")
    if form.get("expected", "") != now:
        raise Undecided(409, "changed_meanwhile", now=now or "–")
