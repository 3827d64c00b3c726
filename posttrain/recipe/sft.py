"""SFT: supervised fine-tuning on conversations."""

from posttrain.recipe.train import (
    BottleneckRecipe,
    LoraRecipe,
    Method,
    QuantizationRecipe,
    TrainRecipe,
)


class SftRecipe(TrainRecipe):
    """Assistant-only loss on packed conversations; TRL's SFTTrainer."""

    method: Method = "lora"
    """What is trained. Adapters of later stages are of this kind too.

    `qlora` is `lora` on a base in 4 bits; `dora` (Liu et al. 2024) learns magnitudes apart from
    directions, slower than `lora`.
    """

    lora: LoraRecipe = LoraRecipe()
    """Used with `method: lora`, `qlora` and `dora`."""

    quantization: QuantizationRecipe = QuantizationRecipe()
    """Used with `method: qlora`."""

    bottleneck: BottleneckRecipe = BottleneckRecipe()
    """Used with `method: bottleneck`."""

    evaluate_each_epoch: bool = False
    """Whether to measure the loss on the held-out conversations after each epoch (`eval_loss`)."""
