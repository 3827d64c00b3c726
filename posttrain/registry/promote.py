"""Let the gate judge a version, and move the `champion` alias where it passes.

A run moves the alias forward alone. What a person took back or rejected, and what was champion and
replaced, a run does not bring back, however often its steps are repeated on the same content: a
person does, by `posttrain registry promote`.
"""

from functools import partial

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from pydantic import TypeAdapter

from posttrain.decisions import HistoryEntry, Promotion, RegisteredVersion, RuleOutcome
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import as_metrics, judge
from posttrain.registry.history import decision, is_refused_already
from posttrain.registry.promotions import ChampionChanged, champion_of, decide, promoted, refused
from posttrain.registry.signing import check_signature
from posttrain.registry.versions import PREVIOUS, by_alias, read_evaluation, resolve, tag_name
from posttrain.registry.writes import patiently
from posttrain.reports import Evaluation

THE_PIPELINE = "the pipeline"
OUTCOMES = TypeAdapter(tuple[RuleOutcome, ...])
GATE, REASONS, OUTCOMES_TAG, POLICY = "gate", "gate_reasons", "gate_outcomes", "gate_policy"
"""Tags of a version: the gate's last word, its sentences, its outcomes and its rules as JSON."""

EVERY_RULE = "every rule of the gate holds"
RULES_FAIL = "the gate's rules fail"
ATTEMPTS = 100
"""How often to judge because others promoted meanwhile: each of so many rivals may win once."""


def promote(
    version: RegisteredVersion,
    evaluation: Evaluation,
    recipe: PromotionRecipe,
    who: str = THE_PIPELINE,
) -> Promotion:
    """Judge a version by the recipe's rules and make it the champion where all hold.

    Raises:
        ValueError: the version does not exist, the evaluation is of another policy, or others hold
            the lock for long.
        LeaseLost: this process slept through its lock; run it again.
    """
    client = MlflowClient()
    entry = resolve(client, version.name, str(version.version))
    _check_is_of(entry, evaluation)
    for _ in range(ATTEMPTS - 1):
        try:
            return _promote(client, entry, evaluation, recipe, who)
        except ChampionChanged:
            continue  # the comparison was with another: judge anew
    return _promote(client, entry, evaluation, recipe, who)


def _promote(
    client: MlflowClient,
    entry: ModelVersion,
    evaluation: Evaluation,
    recipe: PromotionRecipe,
    who: str,
) -> Promotion:
    name, number = entry.name, int(entry.version)
    champion = champion_of(client, name)
    outcomes = examine(client, entry, evaluation, recipe, champion)
    passed = all(outcome.passed for outcome in outcomes)
    told = _reasons(outcomes, passed)
    if champion != number and passed and not recipe.automatic:
        waits = "every rule holds; promotion.automatic is off, so a person decides"
        return _result(number, False, (waits, *told), outcomes, champion)
    with decide(client, name, who, number) as state:
        if state.champion == number:
            before = by_alias(client, name, PREVIOUS)
            already = f"version {number} is already champion"
            return _result(
                number, True, (already, *told), outcomes, int(before.version) if before else None
            )
        if not passed:
            if state.champion != champion:
                raise ChampionChanged(f"{name}: judged beside another champion than there is now")
            if not is_refused_already(state.entries, number, outcomes):
                refused(state, number, who, f"{RULES_FAIL}: {'; '.join(told)}", outcomes)
            return _result(number, False, told, outcomes, champion)
        if (bar := barred(state.entries, number)) is not None:
            return _result(number, False, (bar, *told), outcomes, champion)
        promoted(state, number, "promote", who, EVERY_RULE, outcomes, champion)
        return _result(number, True, told, outcomes, champion)


def examine(
    client: MlflowClient,
    entry: ModelVersion,
    evaluation: Evaluation,
    recipe: PromotionRecipe,
    champion: int | None,
) -> tuple[RuleOutcome, ...]:
    """The gate's outcomes against the champion, left on the version for people to read."""
    rival = None
    if champion is not None and champion != int(entry.version):
        theirs = resolve(client, entry.name, str(champion))
        rival = Champion(champion, read_evaluation(client, theirs))
    outcomes = judge(evaluation, rival, recipe)
    if recipe.signed_by is not None:
        outcomes = (*outcomes, check_signature(client, entry, recipe.signed_by))
    passed = all(outcome.passed for outcome in outcomes)
    if mlflow.active_run() is not None:  # the step's, where there is one
        mlflow.log_metrics({tag_name(name): value for name, value in as_metrics(outcomes).items()})
    for tag, text in {
        GATE: "passed" if passed else "failed",
        REASONS: "\n".join(outcome.reason for outcome in outcomes),
        OUTCOMES_TAG: OUTCOMES.dump_json(outcomes).decode(),
        POLICY: recipe.model_dump_json(),
    }.items():
        patiently(partial(client.set_model_version_tag, entry.name, str(entry.version), tag, text))
    return outcomes


def barred(entries: tuple[HistoryEntry, ...], version: int) -> str | None:
    """Why a run may not promote a version that is not the champion, or None."""
    last = decision(entries, version)
    if last is None:
        return None
    when, by_hand = last.when[:10], f"posttrain registry promote {version}"
    if last.action in ("rollback", "reject"):
        what = "taken back" if last.action == "rollback" else "rejected"
        return (
            f"version {version} was {what} by {last.who} on {when} ({last.why}); "
            f"a person may promote it: {by_hand}"
        )
    return (
        f"version {version} was champion from {when} on and was replaced; a run does not bring it "
        f"back, a person may: {by_hand}"
    )


def _check_is_of(entry: ModelVersion, evaluation: Evaluation) -> None:
    registered = entry.tags.get("policy_hash", "")
    if registered != evaluation.policy_hash:
        raise ValueError(
            f"{entry.name} version {entry.version} holds policy {registered[:12]}, and the "
            f"evaluation is of {evaluation.policy_hash[:12]}; evaluate the version that is promoted"
        )


def _reasons(outcomes: tuple[RuleOutcome, ...], passed: bool) -> tuple[str, ...]:
    """All rules where they hold; else those that do not."""
    return tuple(outcome.reason for outcome in outcomes if passed or not outcome.passed)


def _result(
    version: int,
    is_champion: bool,
    reasons: tuple[str, ...],
    outcomes: tuple[RuleOutcome, ...],
    before: int | None,
) -> Promotion:
    return Promotion(
        version=version,
        promoted=is_champion,
        reasons=reasons,
        outcomes=outcomes,
        previous_champion=before,
    )
