"""Reward model: a scalar score from preference pairs."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from posttrain.recipe.train import TrainRecipe


class RewardModelRecipe(TrainRecipe):
    """Bradley-Terry on pairs (Ouyang et al. 2022, section 3.5), from what SFT made."""

    method: Literal["adapter", "full"] = "adapter"
    """What is trained, beside the head. `adapter`: a copy of SFT's, on the one base in memory.

    `full`: all weights of a model of its own, the domain base with SFT merged in: 16 bytes a
    parameter while it trains, and a second model in memory wherever it scores. PPO's value
    function then starts from SFT (`ppo.value_init: sft`).
    """

    center_coef: NonNegativeFloat = 0.01
    """Weight of a pair's squared sum, which keeps scores centred (Eisenstein et al. 2023)."""

    length_band: float = Field(0.1, ge=0)
    """Pairs whose lengths differ by at most this share count as of equal length in the report."""

    prompt_set: str = "rollout"
    """`set` of the prompts that the SFT model answers; its mean score is the zero of all scores."""

    num_samples: PositiveInt = 256
    """Answers of the SFT model, one a prompt; fewer where the set is smaller."""

    temperature: PositiveFloat = 1.0
    """Of these answers."""

    max_new_tokens: PositiveInt
    """Longest of these answers, in tokens."""
