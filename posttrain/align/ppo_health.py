"""Signs that PPO's score rises for the wrong reason, and what the recipe wants done about each.

Optimising a learned score finds its flaws (Gao et al. 2023, "Scaling laws for reward model
overoptimization"); length is the flaw found most often (Singhal et al. 2023).
"""

from collections.abc import Callable, Mapping, Sequence

from posttrain.recipe.ppo import PpoHealth

RISE = 0.5
"""Standard deviations of SFT's scores: a smaller rise is noise, and has no reason to look for."""

Point = Mapping[str, float]


class Unhealthy(RuntimeError):
    """A sign lasted, and the recipe stops at it."""


def entropy_collapse(first: Point, point: Point, health: PpoHealth) -> str | None:
    """Entropy a token against the first rollout's."""
    if point["entropy"] >= health.min_entropy_share * first["entropy"]:
        return None
    return (
        f"entropy fell from {first['entropy']:.3f} to {point['entropy']:.3f} nats a token, under "
        f"min_entropy_share ({health.min_entropy_share}): the policy says one thing; raise kl_coef "
        "or lower learning_rate"
    )


def length_alone(first: Point, point: Point, health: PpoHealth) -> str | None:
    """The part of the score's rise that longer (or shorter) answers explain."""
    if point["score"] < RISE or point["length_share"] <= health.max_length_share:
        return None
    return (
        f"length explains {point['length_share']:.0%} of the score's rise of {point['score']:.2f} "
        f"standard deviations (max_length_share {health.max_length_share}; answers of "
        f"{point['response_length']:.1f} tokens): the reward model pays for length; balance the "
        "lengths of its pairs"
    )


def repetition(first: Point, point: Point, health: PpoHealth) -> str | None:
    """Answers that say the same again and again."""
    if point["repeated_share"] <= health.max_repeated_share:
        return None
    return (
        f"{point['repeated_share']:.0%} of an answer's token pairs repeat one before "
        f"(max_repeated_share {health.max_repeated_share}; first rollout "
        f"{first['repeated_share']:.0%}): the reward model pays for a token; read the samples"
    )


SIGNS: dict[str, Callable[[Point, Point, PpoHealth], str | None]] = {
    "entropy_collapse": entropy_collapse,
    "length_alone": length_alone,
    "repetition": repetition,
}


def signs(history: Sequence[Point], health: PpoHealth) -> dict[str, str]:
    """Signs in each of the last `patience` points, in words, but for those that are ignored."""
    recent = history[-health.patience :]
    if len(recent) < health.patience:
        return {}
    found = {}
    for name, sign in SIGNS.items():
        seen = [sign(history[0], point, health) for point in recent]
        if getattr(health, name) != "ignore" and all(seen) and seen[-1] is not None:
            found[name] = seen[-1]
    return found


def check_health(iteration: int, history: Sequence[Point], health: PpoHealth) -> None:
    """Stop at a sign that lasted, where the recipe says so.

    Raises:
        Unhealthy: names the sign, the figures and the recipe's field.
    """
    for name, words in signs(history, health).items():
        if getattr(health, name) == "stop":
            raise Unhealthy(f"ppo iteration {iteration}: {words} (ppo.health.{name}: stop)")


def is_ailing(first: Point, point: Point, health: PpoHealth) -> bool:
    """Whether a sign that would stop the stage is there, lasting or not."""
    return any(
        getattr(health, name) == "stop" and sign(first, point, health) is not None
        for name, sign in SIGNS.items()
    )
