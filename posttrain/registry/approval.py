"""A version put before a person, and the person's answer carried out.

The same functions serve the pipeline `promotion` and the commands that act where no run waits.
"""

import logging

from mlflow import MlflowClient

from posttrain.approvals import Answer, Proposal
from posttrain.evaluate.report import render
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry import promotions
from posttrain.registry.gate import Champion, judge
from posttrain.registry.rules import kept_rules
from posttrain.registry.versions import (
    CHALLENGER,
    CHAMPION,
    LINEAGE,
    by_alias,
    read_evaluation,
    resolve,
)
from posttrain.reports import Evaluation, HistoryEntry, RegisteredVersion

logger = logging.getLogger(__name__)


def challenger(name: str, alias_or_version: str) -> tuple[RegisteredVersion, Evaluation]:
    """The version that is put before a person, with its evaluation.

    Raises:
        ValueError: it does not exist, is the champion already, or has no evaluation to show.
    """
    client = MlflowClient()
    version = resolve(client, name, alias_or_version)
    champion = by_alias(client, name, CHAMPION)
    if champion is not None and champion.version == version.version:
        raise ValueError(f"{name} version {version.version} is the champion already")
    evaluation = read_evaluation(client, version)
    if evaluation is None:
        raise ValueError(
            f"{name} version {version.version} has no evaluation that this release can read; run "
            "its pipeline again, which measures and registers it anew"
        )
    return (
        RegisteredVersion(
            name=name,
            version=int(version.version),
            content_hash=version.tags.get("content_hash", ""),
            is_new=False,
        ),
        evaluation,
    )


def propose(
    version: RegisteredVersion, evaluation: Evaluation, rules: PromotionRecipe | None
) -> Proposal:
    """Judge a version anew, beside the champion of this moment.

    `rules`: None takes those that the version's own run was judged by.

    Raises:
        ValueError: no rules are given and the registry holds none.
    """
    client = MlflowClient()
    current = by_alias(client, version.name, CHAMPION)
    rival = current and Champion(int(current.version), read_evaluation(client, current))
    rules = rules or kept_rules(client, version.name, version.version)
    return Proposal(
        name=version.name,
        version=version.version,
        champion=rival.version if rival else None,
        outcomes=judge(evaluation, rival, rules),
    )


def decide(proposal: Proposal, answer: Answer, who: str) -> HistoryEntry:
    """Carry an answer out: move the alias, or record the rejection. Twice is as once.

    Raises:
        ValueError: another version has become champion since the person was asked, or the gate
            refuses the version and the answer does not overrule it.
    """
    client = MlflowClient()
    name, version = proposal.name, proposal.version
    if answer.decision == "approve" and not proposal.passed:
        raise ValueError(
            f"{name} version {version}: the gate refuses it ({proposal.refusal}); reject it, or "
            "overrule the gate"
        )
    _tell_of_newer(client, proposal)
    if (done := _done_already(client, proposal, answer, who)) is not None:
        return done
    if answer.decision == "reject":
        return promotions.reject(
            client, name, version, who=who, why=answer.why, outcomes=proposal.outcomes
        )
    _check_champion(client, proposal)
    return promotions.move(
        client,
        name,
        version,
        action="approve",
        who=who,
        why=answer.why,
        outcomes=proposal.outcomes,
        expected_champion=proposal.champion,
    )


def page(proposal: Proposal, evaluation: Evaluation) -> str:
    """The report with the gate's new word on top."""
    return render(
        evaluation,
        {},  # curves lie with the run that trained it
        proposal.outcomes,
        {role: data.counts for role, data in evaluation.data.items()},
        _lineage(MlflowClient(), proposal),
    )


def _done_already(
    client: MlflowClient, proposal: Proposal, answer: Answer, who: str
) -> HistoryEntry | None:
    """The last entry, where it is this very answer: a step that was killed after it runs again."""
    entries = promotions.history(client, proposal.name)
    if not entries:
        return None
    last, action = entries[-1], "reject" if answer.decision == "reject" else "approve"
    told = (last.action, last.version, last.who, last.why)
    return last if told == (action, proposal.version, who, answer.why) else None


def _check_champion(client: MlflowClient, proposal: Proposal) -> None:
    """`move` looks again under its lock; here it is said in words."""
    current = by_alias(client, proposal.name, CHAMPION)
    now = int(current.version) if current else None
    if now != proposal.champion:
        raise ValueError(
            f"{proposal.name}: the champion is {_said(now)}, and was {_said(proposal.champion)} "
            f"when version {proposal.version} was put before a person; nothing was moved. Ask "
            "anew, by the pipeline `promotion` or by `posttrain registry approve "
            f"{proposal.version}`: the gate then compares with the new champion"
        )


def _lineage(client: MlflowClient, proposal: Proposal) -> dict[str, str]:
    """Where the version came from, as its tags tell it."""
    tags = resolve(client, proposal.name, str(proposal.version)).tags
    return {
        "version": f"{proposal.name} {proposal.version}",
        **{
            tag.removeprefix(LINEAGE): value
            for tag, value in tags.items()
            if tag.startswith(LINEAGE)
        },
    }


def _tell_of_newer(client: MlflowClient, proposal: Proposal) -> None:
    current = by_alias(client, proposal.name, CHALLENGER)
    if current is not None and int(current.version) != proposal.version:
        logger.warning(
            "%s: version %s is the challenger by now; the answer is about version %s alone",
            proposal.name,
            current.version,
            proposal.version,
        )


def _said(champion: int | None) -> str:
    return f"version {champion}" if champion else "none"
