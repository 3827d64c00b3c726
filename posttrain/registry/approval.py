"""A version put before a person, and the person's answer carried out.

The same functions serve the pipeline `promotion` and the commands that act where no run waits.
"""

import logging

import pydantic
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.approvals import Answer, Proposal
from posttrain.evaluate.report import render
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry import promotions
from posttrain.registry.promote import POLICY, examine
from posttrain.registry.promotions import ChampionChanged, champion_of
from posttrain.registry.versions import CHALLENGER, LINEAGE, by_alias, read_evaluation, resolve
from posttrain.reports import Evaluation, HistoryEntry, RegisteredVersion

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


def propose(
    version: RegisteredVersion, evaluation: Evaluation, rules: PromotionRecipe | None
) -> Proposal:
    """Judge a version anew, beside the champion of this moment.

    `rules`: None takes those that the version's own run was judged by.

    Raises:
        ValueError: no rules are given and the registry holds none.
    """
    client = MlflowClient()
    entry = resolve(client, version.name, str(version.version))
    champion = champion_of(client, version.name)
    rules = rules or _kept_rules(entry)
    return Proposal(
        name=version.name,
        version=version.version,
        champion=champion,
        outcomes=examine(client, entry, evaluation, rules, champion),
    )


def page(proposal: Proposal, evaluation: Evaluation) -> str:
    """The report with the gate's new word on top."""
    tags = resolve(MlflowClient(), proposal.name, str(proposal.version)).tags
    lineage = {
        tag.removeprefix(LINEAGE): text for tag, text in tags.items() if tag.startswith(LINEAGE)
    }
    return render(
        evaluation,
        {},  # curves lie with the run that trained it
        proposal.outcomes,
        {role: data.counts for role, data in evaluation.data.items()},
        {"version": f"{proposal.name} {proposal.version}", **lineage},
    )


def decide(proposal: Proposal, answer: Answer, who: str) -> HistoryEntry:
    """Carry an answer out: move the alias, or record the rejection. Twice is as once.

    Raises:
        ValueError: another version has become champion since the person was asked, or the gate
            refuses the version and the answer does not overrule it.
    """
    client, name, version = MlflowClient(), proposal.name, proposal.version
    if answer.decision == "approve" and not proposal.passed:
        raise ValueError(
            f"{name}: the gate refuses version {version} ({proposal.refusal}); reject it, or "
            "overrule the gate"
        )
    if (done := _done_already(client, proposal, answer, who)) is not None:
        return done
    _tell_of_newer(client, proposal)
    said = {"who": who, "why": answer.why}
    if answer.decision == "reject":
        return promotions.reject(client, name, version, outcomes=proposal.outcomes, **said)
    try:
        return promotions.move(
            client,
            name,
            version,
            action="approve",
            outcomes=proposal.outcomes,
            expected_champion=proposal.champion,
            **said,
        )
    except ChampionChanged as error:
        raise ValueError(
            f"{error}. Version {version} was judged beside another champion, so nothing was moved. "
            "Ask anew: run the pipeline promotion, or "
            f"`posttrain registry approve {version}`, which judges it beside the new one"
        ) from error


def _kept_rules(entry: ModelVersion) -> PromotionRecipe:
    where, text = f"{entry.name}: version {entry.version}", entry.tags.get(POLICY)
    wanted = "name rules by `gate` in the recipe of the pipeline promotion"
    if text is None:
        raise ValueError(f"{where} was never judged by a gate; {wanted}")
    try:
        return PromotionRecipe.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise ValueError(
            f"{where} holds rules of another release ({error.error_count()} fields differ); "
            f"{wanted}"
        ) from error


def _done_already(
    client: MlflowClient, proposal: Proposal, answer: Answer, who: str
) -> HistoryEntry | None:
    """The last line, where it is this very answer: a step that was killed after it runs again."""
    with promotions.decide(client, proposal.name, who, proposal.version) as state:
        last = state.entries[-1] if state.entries else None
    action = "reject" if answer.decision == "reject" else "approve"
    wanted = (action, proposal.version, who, answer.why, "done")
    if last is None or (last.action, last.version, last.who, last.why, last.state) != wanted:
        return None
    return last


def _tell_of_newer(client: MlflowClient, proposal: Proposal) -> None:
    current = by_alias(client, proposal.name, CHALLENGER)
    if current is not None and int(current.version) != proposal.version:
        log.warning(
            "%s: version %s is the challenger by now; the answer is about version %d alone",
            proposal.name,
            current.version,
            proposal.version,
        )
