"""A version put before a person, and the person's answer carried out.

The same functions serve the pipeline `promotion` and the commands that act where no run waits.
"""

import logging

from mlflow import MlflowClient

from posttrain.approvals import Answer, Proposal
from posttrain.decisions import HistoryEntry, RegisteredVersion
from posttrain.evaluate.report import judged_again
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry import promotions
from posttrain.registry.by_hand import Judged, judge_again, promote_judged
from posttrain.registry.one_line import one_line
from posttrain.registry.promotions import ChampionChanged, champion_of
from posttrain.registry.version_report import logged_report, report_without_curves
from posttrain.registry.versions import CHALLENGER, by_alias, read_evaluation, resolve
from posttrain.reports import Evaluation

log = logging.getLogger(__name__)


def challenger(name: str, alias_or_version: str) -> tuple[RegisteredVersion, Evaluation]:
    """The version that is put before a person, with its evaluation.

    Raises:
        ValueError: it does not exist, is the champion already, or has no evaluation to show.
    """
    client = MlflowClient()
    entry = resolve(client, name, alias_or_version)
    number = int(entry.version)
    if champion_of(client, name) == number:
        raise ValueError(f"{name}: version {number} is the champion already")
    evaluation = read_evaluation(client, entry)
    if evaluation is None:
        raise ValueError(
            f"{name}: version {number} has no evaluation that this release can read; run its "
            "pipeline again, which measures and registers it anew"
        )
    content = entry.tags.get("content_hash", "")
    found = RegisteredVersion(name=name, version=number, content_hash=content, is_new=False)
    return found, evaluation


def propose(version: RegisteredVersion, rules: PromotionRecipe | None) -> Proposal:
    """Judge a version anew, beside the champion of this moment.

    `rules`: None takes those that the version's own run was judged by.

    Raises:
        ValueError: no rules are given and the registry holds none.
    """
    client = MlflowClient()
    entries = promotions.history(client, version.name)
    judged = judge_again(client, version.name, str(version.version), rules)
    return Proposal(
        name=judged.name,
        version=judged.version,
        champion=judged.champion,
        outcomes=judged.outcomes,
        after=entries[-1].number if entries else 0,
    )


def page(proposal: Proposal, evaluation: Evaluation) -> str:
    """The report of the version's run, curves and all, with the gate's new word on top.

    Where that is gone or of another release, one that says that the curves are elsewhere.
    """
    entry = resolve(MlflowClient(), proposal.name, str(proposal.version))
    logged = logged_report(entry.run_id, evaluation)
    told = judged_again(logged, proposal.outcomes) if logged is not None else None
    named = f"{proposal.name} {proposal.version}"
    language = evaluation.report_language
    return told or report_without_curves(
        evaluation, proposal.outcomes, entry.tags, language, version=named
    )


def decide(proposal: Proposal, answer: Answer, who: str) -> HistoryEntry:
    """Carry an answer out: move the alias, or record the rejection. Twice is as once.

    Raises:
        ValueError: another version has become champion since the person was asked, or the gate
            refuses the version and the answer does not overrule it.
    """
    client, name, version = MlflowClient(), proposal.name, proposal.version
    if (done := _done_already(client, proposal, answer, who)) is not None:
        return done
    _tell_of_newer(client, proposal)
    outcomes, why = proposal.outcomes, answer.why
    if answer.decision == "reject":
        return promotions.reject(client, name, version, who=who, why=why, outcomes=outcomes)
    override = "overruled by a person" if answer.decision == "overrule" else None
    judged = Judged(name, version, proposal.champion, outcomes)
    try:
        return promote_judged(client, judged, action="approve", who=who, why=why, override=override)
    except ChampionChanged as error:
        raise ValueError(
            f"{error}. Version {version} was judged beside another champion, so nothing was moved. "
            "Ask anew: run the pipeline promotion, or "
            f"`posttrain registry approve {version}`, which judges it beside the new one"
        ) from error


def _done_already(
    client: MlflowClient, proposal: Proposal, answer: Answer, who: str
) -> HistoryEntry | None:
    """This very answer's line: a step that was killed after it runs again.

    Others may have decided since, a run's gate among them; lines from before the question are of
    another answer.
    """
    with promotions.decide(client, proposal.name, who, proposal.version) as state:
        since = [entry for entry in state.entries if entry.number > proposal.after]
    done = (
        entry
        for entry in since
        if (entry.version, entry.state) == (proposal.version, "done")
        and entry.who == one_line(who)
        and is_of(entry, answer)
    )
    return next(done, None)


def is_of(line: HistoryEntry, answer: Answer) -> bool:
    """Whether a line of the history is an answer's: who, what and why.

    The line's name may have an account beside it (`steps/_waiting.py`), and overruling adds words
    to the reason.
    """
    action = "reject" if answer.decision == "reject" else "approve"
    who, why = one_line(answer.who), one_line(answer.why)
    is_same_person = line.who == who or line.who.startswith(f"{who} (account ")
    gives_reason = line.why == why or line.why.startswith(f"{why}; against the gate")
    return line.action == action and is_same_person and gives_reason


def _tell_of_newer(client: MlflowClient, proposal: Proposal) -> None:
    current = by_alias(client, proposal.name, CHALLENGER)
    if current is not None and int(current.version) != proposal.version:
        log.warning(
            "%s: version %s is the challenger by now; the answer is about version %d alone",
            proposal.name,
            current.version,
            proposal.version,
        )
