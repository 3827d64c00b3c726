"""How a policy's answers to held-out prompts are drawn, when it is measured."""

from pydantic import PositiveFloat, PositiveInt

from posttrain.recipe.section import Section


class Answering(Section):
    """What PPO and DPO share: evaluation asks their policies in the same way."""

    max_new_tokens: PositiveInt
    """Longest response, in tokens."""

    temperature: PositiveFloat = 1.0
    """Divides the logits in sampling and in every log-probability."""

    generation_batch_size: PositiveInt = 64
    """Prompts answered side by side; bounded by memory."""

    forward_batch_size: PositiveInt = 16
    """Sequences a forward pass, of like lengths."""

    held_out_set: str = "held_out"
    """`set` of the prompts on which the gain is measured; never trained on."""

    num_held_out: PositiveInt = 150
    """Prompts of this set."""

    seed: int = 0
    """Seed of sampling and order; the run's seed where absent."""
