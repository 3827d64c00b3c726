"""What a recipe says of its stages' memory."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from posttrain.recipe import PostTrainingRecipe, Recipe
from posttrain.recipe.workload import Workload


@pytest.fixture
def values() -> dict[str, Any]:
    file = Path(__file__).parents[3] / "zenml_config.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text())["parameters"]["recipe"]
    return found


def stages(recipe: Recipe) -> dict[str, Workload]:
    return {work.stage: work for work in recipe.preflight.workloads}


def test_every_stage_with_a_model_is_there_and_no_other(values: dict[str, Any]) -> None:
    training = ["base_finetune", "sft", "reward_model", "ppo", "self_critique", "evaluate"]
    assert list(stages(PostTrainingRecipe(**values))) == training
    assert list(stages(Recipe(**values))) == ["base_finetune", "sft", "evaluate"]
    values["base_finetune"]["method"] = "none"
    values["promotion"]["limits"] = [{"figure": "fact_accuracy", "at_least": 0.5}]
    assert list(stages(Recipe(**values))) == ["sft", "evaluate"]


def test_the_adapters_of_alignment_are_of_sfts_kind(values: dict[str, Any]) -> None:
    values["sft"] |= {"method": "qlora", "lora": {"rank": 3}}
    found = stages(PostTrainingRecipe(**values))
    for name in ("sft", "reward_model", "ppo", "self_critique"):
        lora, quantization = found[name].lora, found[name].quantization
        assert (lora and lora.rank, quantization is not None) == (3, True), name
    # the untrained base is measured at 16 bits
    assert found["evaluate"].quantization is None


def test_a_pair_is_two_rows_and_a_rollout_holds_four_adapters(values: dict[str, Any]) -> None:
    values["reward_model"]["batch_size"] = 5
    found = stages(PostTrainingRecipe(**values))
    assert found["reward_model"].rows == 10
    assert (found["ppo"].num_adapters, found["ppo"].num_learning) == (4, 2)


def test_a_reward_model_of_its_own_is_a_second_model(values: dict[str, Any]) -> None:
    values["reward_model"]["method"] = "full"
    values["ppo"]["value_init"] = "sft"
    found = stages(PostTrainingRecipe(**values))
    assert (found["reward_model"].trains_weights, found["reward_model"].is_backbone) == (True, True)
    assert (found["ppo"].has_second_model, found["ppo"].num_adapters) == (True, 3)
    assert found["reward_model"].advice["weights"].startswith("set reward_model.method to adapter")


def test_advice_names_fields_that_change_something(values: dict[str, Any]) -> None:
    advice = stages(Recipe(**values))["sft"].advice
    assert advice["weights"] == "set sft.method to qlora, or choose a smaller base_model.source"
    assert advice["activations"].startswith("set sft.gradient_checkpointing to true, or lower sft.")
    values["sft"] |= {"method": "qlora", "gradient_checkpointing": True}
    advice = stages(Recipe(**values))["sft"].advice
    assert advice["weights"] == "choose a smaller base_model.source"
    assert advice["activations"].startswith("lower sft.batch_size (and raise sft.accumulation")
