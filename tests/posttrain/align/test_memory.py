"""The estimate of PPO and of the reward model against their real tensors, to the byte."""

from torch import Tensor, float32
from transformers import AutoConfig

from posttrain.align.judge import REWARD, SFT, Judge, new_judge
from posttrain.align.ppo_update import adam
from posttrain.align.rollout import Actors, load_actors
from posttrain.align.score import new_head
from posttrain.artifacts import BaseModel, Policy, RewardModel
from posttrain.models.adapters import adapter_weights
from posttrain.models.generate import Sampling
from posttrain.models.load import attach, load_base, load_base_of
from posttrain.models.memory import estimate
from posttrain.models.seal import weights_folder
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.recipe.workload import Workload

RECIPE = PpoRecipe(num_iterations=1, batch_size=4, learning_rate=1e-3, max_new_tokens=8)
SHARED = {
    "lora": LoraRecipe(rank=4, alpha=8),
    "rows": 2,
    "length": 16,
    "generated_rows": 4,
    "generated_length": 24,
    "advice": {},
}


def parts(base: BaseModel, work: Workload) -> tuple[int, int, int, int]:
    found = estimate(AutoConfig.from_pretrained(weights_folder(base)), work, float32)
    return found.weights, found.adapters, found.gradients, found.optimizer


def bytes_of(tensors: list[Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


def test_ppo_is_exact(domain: BaseModel, assistant: Policy, reward: RewardModel) -> None:
    sampling = Sampling(
        max_new_tokens=8, temperature=1.0, end_ids=(1,), pad_id=0, batch_size=4, seed=0
    )
    actors = load_actors(domain, assistant, reward, sampling, RECIPE)
    work = Workload(
        stage="ppo", num_adapters=4, num_learning=2, num_heads=2, reads="answers", **SHARED
    )
    adapters = [
        weight
        for name in actors.model.peft_config
        for weight in adapter_weights(actors.model, name).values()
    ]
    heads = [*actors.value_head.parameters(), *actors.scorer.head.parameters()]
    everything = [*actors.model.parameters(), *actors.model.buffers()]
    assert parts(domain, work) == (
        bytes_of(everything) - bytes_of(adapters),
        bytes_of([*adapters, *heads]),
        bytes_of(actors.value_weights),  # the larger of the two that learn, by its head
        states_of(actors),
    )


def states_of(actors: Actors) -> int:
    """Bytes of both optimizers' states after a step."""
    size = 0
    for weights in (actors.policy_weights, actors.value_weights):
        for weight in weights:
            weight.grad = weight.detach().clone()
        optimizer = adam(weights, RECIPE)
        optimizer.step()
        size += bytes_of([value for one in optimizer.state.values() for value in one.values()])
    return size


def test_the_reward_model_is_exact(domain: BaseModel, assistant: Policy) -> None:
    model = attach(load_base_of(domain, assistant), assistant, domain, SFT, trainable=False)
    model = attach(model, assistant, domain, REWARD, trainable=True)
    judge = Judge(model, new_head(model))
    work = Workload(
        stage="reward_model",
        **{"num_adapters": 2, "num_learning": 1, "num_heads": 1, "reads": "hidden"},
        **SHARED,
    )
    weights, adapters, gradients, optimizer = parts(domain, work)
    assert weights + adapters == bytes_of([*judge.parameters(), *judge.buffers()])
    assert gradients == bytes_of(list(judge.trained()))
    assert optimizer == 2 * gradients + 4 * len(judge.trained())


def test_a_reward_model_of_its_own_is_exact(domain: BaseModel, assistant: Policy) -> None:
    section = RewardModelRecipe(
        method="full", learning_rate=1e-3, num_epochs=1, batch_size=1, max_new_tokens=8
    )
    judge = new_judge(domain, assistant, section)
    work = Workload(
        **{"stage": "reward_model", "trains_weights": True, "is_backbone": True},
        **{"num_heads": 1, "reads": "hidden"},
        **{**SHARED, "lora": None},
    )
    weights, heads, gradients, optimizer = parts(domain, work)
    assert weights + heads == bytes_of([*judge.parameters(), *judge.buffers()])
    assert gradients == bytes_of(list(judge.trained()))
    assert optimizer == 2 * gradients + 4 * len(judge.trained())


def test_a_second_model_is_one_more_base_without_its_output_layer(domain: BaseModel) -> None:
    work = Workload(stage="ppo", num_adapters=3, num_learning=2, reads="answers", **SHARED)
    second = work.model_copy(update={"has_second_model": True})
    own = load_base(domain).base_model
    added = parts(domain, second)[0] - parts(domain, work)[0]
    assert added == bytes_of([*own.parameters(), *own.buffers()])
