"""What the artifacts of a run record of themselves, as report and model card tell it."""

from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from posttrain.artifacts import (
    DRIFT,
    AiPreferences,
    BaseModel,
    Policy,
    Quarantine,
    RewardModel,
    Tokens,
)
from posttrain.installed import python_packages
from posttrain.profiles import DataDrift
from posttrain.reports import JudgeEvaluation, Package, RewardEvaluation, RoleData, Training

LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "trl",
    "peft",
    "accelerate",
    "bitsandbytes",
    "datasets",
    "flash-attn",
    "liger-kernel",
    "vllm",
)
"""What the weights depend on."""

JUDGED = ("margin_mean", "calibration_error", "accuracy_", "num_at_", "num_equal_", "length_corr")
"""How the reward model's figures on held-out pairs begin; its others are of training."""


def data_of(tokens: Tokens, quarantine: Quarantine) -> dict[str, RoleData]:
    """Role -> where its rows came from, and what became of them."""
    facts = quarantine.facts
    found = {}
    for role, counts in tokens.facts.counts.items():
        source = facts.sources.get(role)
        found[role] = RoleData(
            source=source.source if source is not None else None,
            revision=source.revision if source is not None else None,
            counts=counts,
            quarantined=facts.num_rows.get(role, {}),
            files=source.files if source is not None else {},
            profile=facts.profiles.get(role),
        )
    return found


def drift_of(quarantine: Quarantine) -> DataDrift | None:
    """The comparison with the champion's data; None where the recipe asked for none."""
    file = quarantine.path / DRIFT
    return DataDrift.model_validate_json(file.read_bytes()) if file.exists() else None


def libraries() -> dict[str, str]:
    """Version of each library of training that is installed here."""
    found = {}
    for name in LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def packages() -> dict[str, Package]:
    """Every Python package that is installed here."""
    return {name: Package(**told) for name, told in python_packages().items()}


def trainings(
    domain: BaseModel, trained: Mapping[str, Policy | RewardModel]
) -> tuple[Training, ...]:
    """How each stage was trained; `trained` by stage, in the order of training."""
    found = []
    if (base := domain.facts.training) is not None:
        found.append(
            Training(
                stage="base_finetune",
                method=base.recipe["method"],
                num_trainable=None,
                recipe=base.recipe,
                figures=base.figures,
            )
        )
    for stage, one in trained.items():
        facts = one.facts
        found.append(
            Training(
                stage=stage,
                method=facts.method,
                num_trainable=facts.num_trainable,
                recipe=facts.recipe,
                figures=facts.figures,
            )
        )
    return tuple(found)


def ai_judge_of(preferences: AiPreferences) -> JudgeEvaluation:
    """How RLAIF's judge did."""
    facts = preferences.verify().facts
    return JudgeEvaluation(
        accuracy=facts.judge_accuracy,
        by_kind=facts.judge_by_kind,
        num_pairs=facts.num_human_pairs,
        first_preferred=facts.first_preferred,
        order_decides=facts.order_decides,
        order_by_kind=facts.order_by_kind,
        num_judged=facts.num_judged,
        num_kept=facts.num_pairs,
        dropped=facts.dropped,
    )


def reward_of(reward: RewardModel) -> RewardEvaluation:
    """How a reward model judges held-out pairs."""
    facts = reward.facts
    return RewardEvaluation(
        accuracy=facts.accuracy,
        by_kind=facts.by_kind,
        num_pairs=facts.num_pairs,
        figures={name: v for name, v in facts.figures.items() if name.startswith(JUDGED)},
    )
