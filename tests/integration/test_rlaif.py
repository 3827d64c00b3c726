"""The recipe of a second round by an AI judge, for real; minutes long."""

from pathlib import Path

import pytest

from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow


def test_a_second_round_by_an_ai_judge(checkout: Checkout) -> None:
    checkout.run("post_training", Path("recipes/tiny_rlaif.yaml"))
    document = checkout.report()
    stages = {stage["stage"]: stage for stage in document["stages"]}
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
