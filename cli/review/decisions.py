"""A person's decision from a form, carried out by the registry or by the run that waits for it."""

from collections.abc import Mapping, Sequence
from typing import Literal

from mlflow.exceptions import MlflowException

from cli.review.desk import Desk, Versions, signed
from cli.review.runs import AnsweredBefore, NoZenML, asked, hand_over
from cli.review.words import Language, translator
from cli.waiting import answer_to
from posttrain.approvals import Answer
from posttrain.decisions import HistoryEntry, RuleOutcome
from posttrain.evaluate.limits import outcome_sentence
from posttrain.registry import promotions
from posttrain.registry.by_hand import Refused, judge_again, promote_judged
from posttrain.registry.lock import LeaseLost
from posttrain.registry.promote import POLICY
from posttrain.registry.promotions import ChampionChanged

REFUSALS = (ValueError, LeaseLost, MlflowException)
"""What the registry raises where it does not do what it is told; says why."""

OVERRULED = "overruled on the review page"

ANSWERED = "answered"
"""What was done where a run waits: it has the answer, and carries it out."""

Decision = Literal["approve", "promote", "reject"]
DECISIONS: dict[str, Decision] = {
    "approve": "approve",
    "promote": "promote",
    "reject": "reject",
}


class Undecided(Exception):
    """A form that nothing came of, told by a text of the catalogue."""

    def __init__(
        self,
        status: int,
        key: str,
        *,
        told: str = "",
        now: str = "",
        failed: Sequence[RuleOutcome] = (),
        answer: Answer | None = None,
    ) -> None:
        super().__init__(key)
        self.status = status
        self.key = key
        self.told = told
        """The registry's or MLflow's own words."""

        self.now = now
        self.failed = failed
        self.answer = answer
        """Another's, which came first."""

    def in_(self, language: Language) -> str:
        """What to tell the person."""
        t = translator(language)
        reasons = "; ".join(outcome_sentence(one).in_(language) for one in self.failed)
        answer = self.answer
        others = answer_words(answer, language) if answer is not None else {}
        return t(self.key, now=self.now, reasons=reasons, told=self.told, **others)


def answer_words(answer: Answer, language: Language) -> dict[str, str]:
    """An answer that a run has, for a text of the catalogue."""
    did = translator(language)(f"answer_{answer.decision}")
    return {"who": answer.who, "why": answer.why, "did": did}


def decide(desk: Desk, name: str, number: int, form: Mapping[str, str]) -> tuple[str, str]:
    """What was done, by the history's word or `answered`, and by whom.

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
    if number == found.champion:
        raise Undecided(409, "is_champion", now=str(number))
    try:
        if wanted != "promote" and _answer_run(desk, found, number, wanted, who, why, overrules):
            return ANSWERED, who
        if wanted == "reject":
            outcomes = version.outcomes
            entry = promotions.reject(
                desk.client, name, number, who=who, why=why, outcomes=outcomes
            )
        else:
            entry = _promote(desk, found, number, wanted, who, why, overrules)
    except Refused as error:
        raise Undecided(409, "needs_overrule", failed=error.judged.failed) from error
    except REFUSALS as error:
        raise _refused(error, desk.versions(name)) from error
    return entry.action, who


def roll_back(desk: Desk, name: str, form: Mapping[str, str]) -> str:
    """Give the champion's place back; by whom.

    Raises:
        Undecided: the form lacks something, the champion changed, or there is none before it.
    """
    who, why = _signed(form)
    found = desk.versions(name)
    _check_champion(found, form)
    if found.previous is None:
        raise Undecided(409, "no_previous")
    try:
        promotions.roll_back(desk.client, name, who=who, why=why, expected_champion=found.champion)
    except REFUSALS as error:
        raise _refused(error, desk.versions(name)) from error
    return who


def _answer_run(
    desk: Desk,
    found: Versions,
    number: int,
    decision: Literal["approve", "reject"],
    who: str,
    why: str,
    overrules: bool,
) -> bool:
    """Hand the answer to the run that waits for it; False where none does."""
    if not desk.has_zenml:
        return False
    try:
        state = asked(found.name, number)
        if state.answer is not None:
            raise AnsweredBefore(state.answer)
        if state.waiting is None:
            return False
        hand_over(state.waiting, answer_to(state.waiting.proposal, decision, who, why, overrules))
    except AnsweredBefore as error:
        raise Undecided(409, "answered_before", answer=error.answer) from error
    except NoZenML as error:
        raise Undecided(503, "undecided_no_zenml") from error
    return True


def _promote(
    desk: Desk,
    found: Versions,
    number: int,
    action: Literal["approve", "promote"],
    who: str,
    why: str,
    overrules: bool,
) -> HistoryEntry:
    """By the gate's word of this moment; one that no gate ever judged, on the person's own."""
    client, name = desk.client, found.name
    if POLICY in found[number].tags:
        judged = judge_again(client, name, str(number))
        override = OVERRULED if overrules else None
        return promote_judged(client, judged, action=action, who=who, why=why, override=override)
    if not overrules:
        raise Undecided(409, "needs_overrule_unjudged")
    return promotions.move(
        client,
        name,
        number,
        action=action,
        who=who,
        why=f"{why}; never judged by a gate: {OVERRULED}",
        expected_champion=found.champion,
    )


def _refused(error: Exception, found: Versions) -> Undecided:
    """The common refusals in the reader's language; of others what stands around their words."""
    if isinstance(error, ChampionChanged):
        return Undecided(409, "changed_meanwhile", now=str(found.champion or "–"))
    if isinstance(error, LeaseLost):
        return Undecided(409, "lock_lost")
    key = "mlflow_failed" if isinstance(error, MlflowException) else "registry_refused"
    return Undecided(409, key, told=str(error))


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
