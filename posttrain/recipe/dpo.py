"""DPO: the policy learns from preference pairs, without rollouts."""

from typing import Literal

from pydantic import Field, PositiveFloat

from posttrain.recipe.answering import Answering
from posttrain.recipe.train import TrainRecipe


class DpoRecipe(Answering, TrainRecipe):
    """Direct preference optimisation (Rafailov et al. 2023), by TRL's DPOTrainer.

    The adapter starts as a copy of SFT's, which is the reference.
    """

    beta: PositiveFloat = 0.1
    """How closely the policy is held to SFT: the higher, the closer."""

    loss: Literal["sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down"] = "sigmoid"
    """TRL's name of the loss; `sigmoid` is the paper's, `robust` uses `label_smoothing`."""

    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Share of the pairs that are taken to be labelled the wrong way round (`robust`)."""
