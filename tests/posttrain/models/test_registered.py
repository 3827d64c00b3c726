from pathlib import Path

import mlflow
import pytest
import torch

from posttrain.artifacts import BaseModel, Policy, Records
from posttrain.checks import look_at_base
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import adapter_weights, new_adapter, save_adapter
from posttrain.models.base import resolve
from posttrain.models.load import load_base, load_policy
from posttrain.models.source import digest
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.registry.register import register
from posttrain.reports import Evaluation, StageEvaluation

CHECKS = Preflight(
    target_modules={},
    longest_sequence=64,
    longest_fields="tokenize.max_length",
    chat_template=None,
    system=None,
    learn_prompts=False,
)


@pytest.fixture
def policy(base: BaseModel, tmp_path: Path) -> Policy:
    model = new_adapter(load_base(base), LoraRecipe(rank=4))
    torch.manual_seed(0)
    for weight in adapter_weights(model, "default").values():
        torch.nn.init.normal_(weight, std=0.05)
    save_adapter(model, "default", tmp_path / "policy" / "adapter")
    facts = PolicyFacts(
        trained_on=trained_on(base),
        method="lora",
        num_trainable=1,
        num_adapted_modules=14,
        recipe={},
        figures={},
    )
    return Policy.write(tmp_path / "policy", "sft", facts)


def test_a_run_starts_from_the_champion_of_another(
    base: BaseModel, policy: Policy, records: Records, tmp_path: Path
) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.create_experiment("posttrain", artifact_location=(tmp_path / "artifacts").as_uri())
    stage = StageEvaluation(stage="sft", figures={}, samples=())
    evaluation = Evaluation(
        stages=(stage,),
        reward_model=None,
        scored=(),
        revisions=(),
        critic_accuracy=None,
        tokenizer_hash="",
        held_out_hash="",
        data_hashes={},
        policy_hash=policy.content_hash(),
    )
    register(base, policy, evaluation, RegistrationRecipe(model_name="guide"), {})

    recipe = BaseModelRecipe(source="registry:guide@challenger")
    started = resolve(records, recipe, CHECKS)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.allclose(
            load_base(started)(ids).logits, load_policy(base, policy)(ids).logits, atol=1e-5
        )
    config, _, found = look_at_base(recipe)  # what `posttrain check` sees of it
    assert (config.model_type, found) == ("llama", "registry:guide@challenger, on weights")
    assert digest(recipe) == digest(recipe)
    with pytest.raises(ValueError, match="nobody"):
        digest(BaseModelRecipe(source="registry:guide@nobody"))


def test_a_registry_source_names_its_alias(records: Records) -> None:
    with pytest.raises(ValueError, match="write registry:NAME@ALIAS"):
        resolve(records, BaseModelRecipe(source="registry:guide"), CHECKS)
