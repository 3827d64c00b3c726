"""Human pairs and the AI judge's in one set, for the second reward model."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from posttrain.align.ai_preferences import read_judged
from posttrain.align.rows import Pair, as_pairs
from posttrain.artifacts import AiPreferences
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.rlaif import RlaifRecipe
from posttrain.recipe.section import Section


@dataclass(frozen=True)
class Blend:
    """AI preferences for the second reward model, and the section that says how many."""

    preferences: AiPreferences
    recipe: RlaifRecipe


class Sections(Section):
    """What the second reward model is trained by."""

    reward_model: RewardModelRecipe
    rlaif: RlaifRecipe


def blend_pairs(
    human: Sequence[Pair], blend: Blend, ends: Sequence[int]
) -> tuple[list[Pair], dict[str, float]]:
    """Both kinds in the recipe's share, drawn with its seed, and how many of each were left out."""
    recipe = blend.recipe
    rows = read_judged(blend.preferences)
    ours, _ = as_pairs(rows, ends, blend.preferences.path)
    num_ai = min(len(ours), num_beside(len(human), 1 - recipe.share))
    num_human = min(len(human), num_beside(num_ai, recipe.share))
    chance = random.Random(recipe.seed)
    chosen = [*chance.sample(list(human), num_human), *chance.sample(ours, num_ai)]
    chance.shuffle(chosen)
    return chosen, {
        "num_human_pairs": float(num_human),
        "num_ai_pairs": float(num_ai),
        "human_pairs_left_out": float(len(human) - num_human),
        "ai_pairs_left_out": float(len(ours) - num_ai),
    }


def num_beside(number: int, share: float) -> int:
    """How many of the other kind stand beside `number` pairs that are to be `share` of all."""
    return round(number * (1 - share) / share) if share else sys.maxsize
