"""How `posttrain chat` and `posttrain generate` draw answers; no step takes it."""

from pydantic import NonNegativeFloat, PositiveInt

from posttrain.recipe.section import Section


class InferenceRecipe(Section):
    """Sampling from the plain softmax, as in training and evaluation: no top-p, no top-k.

    What a person reads is then a draw from what was trained and measured.
    """

    temperature: NonNegativeFloat = 0.0
    """Divides the logits; 0 is greedy."""

    max_new_tokens: PositiveInt = 256
    """Longest answer, in tokens, its end token included."""

    batch_size: PositiveInt = 16
    """Prompts answered side by side; bounded by memory."""

    seed: int = 0
    """Of sampling."""
