"""Let the gate judge a version, and move the `champion` alias where it passes.

Aliases are moved in the order previous, champion, so that a kill between the two leaves the old
champion in place and the next run does both again. Two promotions at the same moment are not kept
apart: MLflow's aliases know no compare-and-set.
"""

from mlflow import MlflowClient

from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.comparison import Champion
from posttrain.registry.gate import judge
from posttrain.registry.versions import (
    CHAMPION,
    PREVIOUS,
    by_alias,
    read_evaluation,
    resolve,
)
from posttrain.reports import Evaluation, Promotion, RegisteredVersion, RuleOutcome


def promote(
    version: RegisteredVersion, evaluation: Evaluation, recipe: PromotionRecipe
) -> Promotion:
    """Judge a version by the recipe's rules and make it the champion where all hold.

    Raises:
        ValueError: the version does not exist, or the evaluation is of another policy.
    """
    client = MlflowClient()
    _check_is_of(client, version, evaluation)
    current = by_alias(client, version.name, CHAMPION)
    is_champion = current is not None and int(current.version) == version.version
    rival = None
    if current is not None and not is_champion:
        rival = Champion(int(current.version), read_evaluation(client, current))
    outcomes = judge(evaluation, rival, recipe)
    passed = all(outcome.passed for outcome in outcomes)
    _record(client, version, outcomes, passed)

    if is_champion:
        before = by_alias(client, version.name, PREVIOUS)
        return Promotion(
            version=version.version,
            promoted=True,
            reasons=(f"version {version.version} is already champion", *_reasons(outcomes, passed)),
            outcomes=outcomes,
            previous_champion=int(before.version) if before else None,
        )
    promoted = passed and recipe.automatic
    if promoted:
        if rival is not None:
            client.set_registered_model_alias(version.name, PREVIOUS, str(rival.version))
        client.set_registered_model_alias(version.name, CHAMPION, str(version.version))
    waits = ("every rule holds; promotion.automatic is off, so a person decides",)
    return Promotion(
        version=version.version,
        promoted=promoted,
        reasons=(waits if passed and not promoted else ()) + _reasons(outcomes, passed),
        outcomes=outcomes,
        previous_champion=rival.version if rival else None,
    )


def _check_is_of(client: MlflowClient, version: RegisteredVersion, evaluation: Evaluation) -> None:
    registered = resolve(client, version.name, str(version.version)).tags.get("policy_hash", "")
    if registered != evaluation.policy_hash:
        raise ValueError(
            f"{version.name} version {version.version} holds policy {registered[:12]}, and the "
            f"evaluation is of {evaluation.policy_hash[:12]}; evaluate the version that is promoted"
        )


def _reasons(outcomes: tuple[RuleOutcome, ...], passed: bool) -> tuple[str, ...]:
    """All rules where they hold; else those that do not."""
    return tuple(outcome.reason for outcome in outcomes if passed or not outcome.passed)


def _record(
    client: MlflowClient,
    version: RegisteredVersion,
    outcomes: tuple[RuleOutcome, ...],
    passed: bool,
) -> None:
    """Leave the gate's last word on the version, where MLflow's page shows it."""
    number = str(version.version)
    client.set_model_version_tag(version.name, number, "gate", "passed" if passed else "failed")
    reasons = "\n".join(outcome.reason for outcome in outcomes)
    client.set_model_version_tag(version.name, number, "gate_reasons", reasons)
