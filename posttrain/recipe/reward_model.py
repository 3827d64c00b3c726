"""Reward model: a scalar score from preference pairs."""

from pydantic import Field, NonNegativeFloat

from posttrain.recipe.train import TrainRecipe


class RewardModelRecipe(TrainRecipe):
    """Bradley-Terry on pairs (Ouyang et al. 2022, section 3.5). Starts as a copy of the SFT adapter."""

    center_coef: NonNegativeFloat = 0.005
    """Weight of the mean squared score, which keeps scores near zero (Eisenstein et al. 2023)."""

    length_band: float = Field(0.1, ge=0)
    """Pairs whose lengths differ by at most this share count as of equal length in the report."""
