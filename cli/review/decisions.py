"""A person's decision from a form, carried out by the registry or by the run that waits for it."""

from collections.abc import Mapping

from mlflow.exceptions import MlflowException

from cli.review.desk import Desk, Versions, signed
from posttrain.registry import promotions
from posttrain.registry.lock import LeaseLost

REFUSALS = (ValueError, LeaseLost, MlflowException)
"""What the registry raises where it does not do what it is told; says why."""


class Undecided(Exception):
    """A form that nothing came of: a text of the catalogue, or the registry's own words."""

    def __init__(self, status: int, key: str = "", told: str = "", **values: object) -> None:
        super().__init__(key or told)
        self.status = status
        self.key = key
        self.told = told
        self.values = values


def decide(desk: Desk, name: str, number: int, form: Mapping[str, str]) -> tuple[str, str]:
    """What was done, and by whom.

    Raises:
        Undecided: the form lacks something, the champion changed, or the registry refuses.
    """
    found, wanted = desk.versions(name), form.get("decision")
    who, why = _signed(form)
    version = found[number]
    _check_champion(found, form)
    if wanted not in ("approve", "promote", "reject"):
        raise Undecided(400, "refused_form")
    overrules = form.get("overrule") == "yes"
    if wanted != "reject" and version.gate != "passed" and not overrules:
        raise Undecided(409, "needs_overrule")
    try:
        if wanted == "reject":
            promotions.reject(
                desk.client, name, number, who=who, why=why, outcomes=version.outcomes
            )
        else:
            promotions.move(
                desk.client,
                name,
                number,
                action=wanted,
                who=who,
                why=why,
                outcomes=version.outcomes,
                expected_champion=found.champion,
            )
    except REFUSALS as error:
        raise Undecided(409, told=str(error)) from error
    return wanted, who


def roll_back(desk: Desk, name: str, form: Mapping[str, str]) -> str:
    """Give the champion's place back; by whom.

    Raises:
        Undecided: the form lacks something, the champion changed, or there is none before it.
    """
    who, why = _signed(form)
    _check_champion(desk.versions(name), form)
    try:
        promotions.roll_back(desk.client, name, who=who, why=why)
    except REFUSALS as error:
        raise Undecided(409, told=str(error)) from error
    return who


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
