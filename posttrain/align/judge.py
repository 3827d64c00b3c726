"""What the reward model's stage trains: a head, and an adapter or a whole model of its own.

An adapter is a copy of SFT's on the one base, which carries SFT's too. A model of its own is the
domain base with SFT merged in, without its output layer, in float32 while it trains.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from posttrain.align.score import (
    WEIGHTS,
    ScoreHead,
    Scorer,
    load_head,
    new_head,
    raw_scores,
    save_head,
)
from posttrain.artifacts import BaseModel, Policy
from posttrain.models.adapters import count_adapted, fill_adapter, save_adapter
from posttrain.models.device import architecture_of, dtype
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import attach, load_base_of, load_merged, load_policy
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.runtime import Runtime

SFT, REWARD = "sft", "reward"  # adapters on the one base

BYTES_IN_TRAINING = 16
"""A parameter, in float32: weight, gradient, two moments."""


class Judge(nn.Module):
    """Model and head, as one module for the trainer."""

    accepts_loss_kwargs = True  # makes Trainer count the pairs of a step, over all processes

    def __init__(self, model: PreTrainedModel | PeftModel, head: ScoreHead) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scores, not centred."""
        return raw_scores(self.model, self.head, input_ids, attention_mask)

    def trained(self) -> list[nn.Parameter]:
        """Adapter, or all weights, and head."""
        return [weight for weight in self.parameters() if weight.requires_grad]

    def save(self, folder: Path) -> None:
        """Write `adapter/` or `weights/`, and `score.safetensors`."""
        if isinstance(self.model, PeftModel):
            save_adapter(self.model, REWARD, folder / "adapter")
        else:
            self.model.save_pretrained(str(folder / WEIGHTS))
        save_head(self.head, folder)

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        if isinstance(self.model, PeftModel):
            fill_adapter(self.model, REWARD, folder / "adapter")
        else:
            files = sorted((folder / WEIGHTS).glob("*.safetensors"))
            found = {key: tensor for file in files for key, tensor in load_file(file).items()}
            self.model.load_state_dict(found)  # every key, or it raises
        load_head(self.head, folder)

    def num_adapted_modules(self) -> int:
        """Modules with an adapter; none where all weights train."""
        return count_adapted(self.model, REWARD)[0] if isinstance(self.model, PeftModel) else 0

    def activation_checkpointing_enable(self, **more: Any) -> None:
        """Called by Trainer where the recipe asks for it."""
        cast(PreTrainedModel, self.model).activation_checkpointing_enable(**more)

    def scorer(self, pad_id: int) -> Scorer:
        """The judge as whoever loads it will have it: weights at the runtime's precision."""
        if not isinstance(self.model, PeftModel):
            precision = dtype(Runtime.from_environment(), architecture_of(self.model))
            for weight in self.model.parameters():
                # not `model.to`: it would round the positions' frequencies too
                weight.data = weight.data.to(precision)
        adapter = REWARD if isinstance(self.model, PeftModel) else None
        return Scorer(self.model, adapter, self.head, mean=0.0, pad_id=pad_id)


def new_judge(domain: BaseModel, assistant: Policy, recipe: RewardModelRecipe) -> Judge:
    """A judge that knows what SFT knows, its head at zero.

    Raises:
        ValueError: the method does not fit what SFT made.
    """
    if recipe.method == "full":
        whole = load_merged(domain, assistant, trainable=True)
        own = cast(PreTrainedModel, whole.base_model)
        gib = own.num_parameters() * BYTES_IN_TRAINING / 2**30
        logging.getLogger(__name__).info(
            "reward_model.method is 'full': %.1f GiB for weights, gradients and Adam's moments, "
            "beside the activations; wherever it scores it is a second model in memory",
            gib,
        )
        return Judge(own, new_head(own))
    model = attach(load_base_of(domain, assistant), assistant, domain, SFT, trainable=False)
    model = attach(model, assistant, domain, REWARD, trainable=True)
    return Judge(model, new_head(model))


def score_own_samples(
    judge: Judge,
    scorer: Scorer,
    domain: BaseModel,
    assistant: Policy,
    prompts: Sequence[Sequence[int]],
    ends: tuple[int, ...],
    recipe: RewardModelRecipe,
) -> Tensor:
    """Raw scores of the SFT model's own answers: their mean becomes the zero of all scores."""
    sampling = Sampling(
        max_new_tokens=recipe.max_new_tokens,
        temperature=recipe.temperature,
        end_ids=ends,
        pad_id=scorer.pad_id,
        batch_size=2 * recipe.batch_size,
        seed=recipe.seed,
    )
    if isinstance(judge.model, PeftModel):
        judge.model.set_adapter(SFT, inference_mode=True)
        answers = generate(judge.model, prompts, sampling)
    else:
        answers = generate(load_policy(domain, assistant), prompts, sampling)
    rows = [[*prompt, *answer] for prompt, answer in zip(prompts, answers, strict=True)]
    return scorer.scores(rows, sampling.batch_size)
