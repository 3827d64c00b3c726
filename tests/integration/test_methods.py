"""The two recipes that go another way than the demo, for real; minutes long each."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow


def stages_of(checkout: Checkout, recipe: str) -> tuple[dict[str, Any], dict[str, Any]]:
    checkout.run("post_training", Path(recipe))
    document = checkout.report()
    return document, {stage["stage"]: stage for stage in document["stages"]}


def test_a_second_round_by_an_ai_judge(checkout: Checkout) -> None:
    document, stages = stages_of(checkout, "recipes/tiny_rlaif.yaml")
    assert list(stages)[-3:] == ["ppo", "self_critique", "rlaif"]
    judge = document["ai_judge"]
    assert judge["accuracy"] >= 0.9
    assert judge["order_decides"] < 0.1
    assert judge["num_kept"] + sum(judge["dropped"].values()) >= judge["num_judged"]
    assert document["rlaif_reward_model"]["num_pairs"] == document["reward_model"]["num_pairs"]
    assert document["rlaif_reward_model"]["accuracy"] > 0.7
    assert stages["rlaif"]["rlaif_score"] > stages["sft"]["rlaif_score"]
    assert stages["rlaif"]["fact_accuracy"]["A"] > 0.8  # it did not turn evasive
    assert stages["rlaif"]["violation_rate"] < stages["ppo"]["violation_rate"] / 2


def test_dpo_in_place_of_ppo(checkout: Checkout) -> None:
    _, stages = stages_of(checkout, "recipes/tiny_dpo.yaml")
    assert list(stages)[-3:] == ["sft", "dpo", "self_critique"]
    assert stages["dpo"]["mean_score"] > stages["sft"]["mean_score"] + 0.5
    assert stages["dpo"]["kl_to_sft"] > 0
    assert stages["dpo"]["fact_accuracy"]["A"] > 0.8
