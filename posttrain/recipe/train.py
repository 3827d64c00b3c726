"""What every stage that descends a gradient shares."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from posttrain.recipe.section import Section

Method = Literal["full", "lora", "qlora", "dora", "bottleneck"]
"""What is trained: all weights, or an adapter on a frozen base."""


class LoraRecipe(Section):
    """Low-rank adaptation (Hu et al. 2021)."""

    rank: PositiveInt = 16
    """Inner dimension."""

    alpha: PositiveInt = 32
    """Numerator of the scale alpha/rank (alpha/sqrt(rank) with `rslora`)."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the down-projection."""

    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of the layers to adapt; each must match at least one module."""

    rslora: bool = False
    """Scale by alpha/sqrt(rank) (Kalajdzievski 2023)."""


class BottleneckRecipe(Section):
    """Bottleneck adapters (Houlsby et al. 2019) after attention and MLP of every block."""

    size: PositiveInt = 64
    """Width between down- and up-projection."""

    nonlinearity: Literal["gelu", "relu", "silu", "tanh"] = "gelu"
    """Between the projections."""

    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the up-projection."""


class QuantizationRecipe(Section):
    """A frozen base in 4 bits, NF4 (Dettmers et al. 2023); the adapter stays in float32."""

    double_quantization: bool = True
    """Quantise the scales of the weights' blocks too: 0.4 bits a weight less."""


class TrainRecipe(Section):
    """Optimisation of one stage by AdamW."""

    learning_rate: PositiveFloat
    """Peak learning rate."""

    num_epochs: PositiveFloat
    """Passes over the training data."""

    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `num_epochs` where given."""

    batch_size: PositiveInt
    """Rows (packed ones where the stage packs) a device and forward pass."""

    accumulation_steps: PositiveInt = 1
    """Forward passes an optimizer step."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Learning rate after the warm-up."""

    warmup_share: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""

    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay."""

    beta2: float = Field(0.98, gt=0, lt=1)
    """Adam's second-moment decay."""

    max_grad_norm: PositiveFloat = 1.0
    """Gradient norm above which gradients are scaled down."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a fifth slower."""

    log_every_steps: PositiveInt = 10
    """Steps between two points of a curve."""

    checkpoint_every_steps: PositiveInt = 500
    """Steps between two checkpoints."""

    max_bad_steps: NonNegativeInt = 0
    """Steps with a NaN or infinite loss or gradient to tolerate before stopping."""

    seed: int = 0
    """Seed of data order and new weights; the run's seed where absent."""
