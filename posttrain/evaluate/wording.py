"""What stages, figures and numbers are called where people read them, in any kind of document."""

from posttrain.recipe.harness import HARNESS
from posttrain.reports import Evaluation, Figure

STAGES = {
    "untrained": "Untrained",
    "base_finetune": "Base FT",
    "sft": "SFT",
    "reward_model": "Reward model",
    "ppo": "PPO",
    "dpo": "DPO",
    "self_critique": "Self-critique",
    "rlaif_reward_model": "Second reward model",
    "rlaif": "RLAIF",
}

FIGURES = {
    "perplexity_domain": "Perplexity, domain text",
    "perplexity_answers": "Perplexity, answers",
    "bits_per_byte_domain": "Bits per byte, domain text",
    "mean_score": "Reward score, mean",
    "score_std": "Reward score, standard deviation",
    "rlaif_score": "Second reward model's score, mean",
    "rlaif_score_std": "Second reward model's score, standard deviation",
    "kl_to_sft": "KL to SFT, nats an answer",
    "ended_share": "Answers that end",
    "mean_length": "Answer length, tokens",
}
"""Built-in figures, in the order of the table; the recipe's probes stand after the perplexities."""

REWARD_FIGURES = {
    "margin_mean": "Mean margin of the preferred answer",
    "calibration_error": "Mean gap of confidence and accuracy",
    "accuracy_equal_length": "Accuracy where lengths are alike",
    "num_equal_length": "Pairs of like length",
    "length_correlation": "Correlation of score and length",
}
"""Figures of the reward model on held-out pairs, in the order of the table."""

CURVES = {
    "eval_loss": "Held-out loss",
    "grad_norm": "Gradient norm",
    "kl": "KL",
    "lr": "Learning rate",
}
"""Curves whose names do not read as words."""

PERPLEXITIES = ("perplexity_domain", "perplexity_answers", "bits_per_byte_domain")
"""Stand first in tables."""

ROUGE = {"rouge_1": "ROUGE-1", "rouge_2": "ROUGE-2", "rouge_l": "ROUGE-L"}
"""Figures of a probe named `rouge`."""

LOWER_IS_BETTER = frozenset({*PERPLEXITIES, "violation_rate"})
HIGHER_IS_BETTER = frozenset(
    {"fact_cloze", "fact_accuracy", "helpfulness", "mean_score", "rlaif_score", *ROUGE}
)


def stage_label(stage: str) -> str:
    """`base_finetune` -> `Base FT`."""
    return STAGES.get(stage, stage.replace("_", " ").capitalize())


def figure_label(name: str) -> str:
    """`fact_accuracy.A` -> `Fact accuracy A`; `harness.arc_easy.acc` -> `arc_easy, acc`."""
    if name in FIGURES:
        return FIGURES[name]
    if name.startswith(HARNESS):  # benchmarks keep the names that people know them by
        return ", ".join(name.removeprefix(HARNESS).split(".", 1))
    probe, _, subset = name.partition(".")
    label = ROUGE.get(probe) or probe.replace("_", " ").capitalize()
    return f"{label} {subset}" if subset else label


def curve_label(name: str) -> str:
    """`grad_norm` -> `Gradient norm`."""
    return CURVES.get(name) or figure_label(name)


def figure_names(evaluation: Evaluation) -> list[str]:
    """Every measured figure: perplexities, the probes as the recipe lists them, the rest.

    Benchmarks, which not every stage has, stand last.
    """
    seen = list(dict.fromkeys(name for stage in evaluation.stages for name in stage.figures))
    first = [name for name in PERPLEXITIES if name in seen]
    benchmarks = [name for name in seen if name.startswith(HARNESS)]
    probes = [name for name in seen if name not in FIGURES and name not in benchmarks]
    built_in = [name for name in FIGURES if name in seen and name not in first]
    return first + probes + built_in + benchmarks


def is_part(name: str) -> bool:
    """Whether a figure is a part of the one above it: a set of a probe."""
    return "." in name and not name.startswith(HARNESS)


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where the name does not tell."""
    probe = name.partition(".")[0]
    return (probe in HIGHER_IS_BETTER) - (probe in LOWER_IS_BETTER)


def number(value: float) -> str:
    """A figure in as many digits as a reader compares: `1,581`, `94.3`, `2.62`, `0.03`, `0.004`."""
    size = abs(value)
    if size >= 1_000:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    if 0 < size < 0.01:
        return f"{value:.1g}"
    return f"{value:.2f}"


def interval(figure: Figure) -> str:
    """The 95 % interval, `0.89-0.96` with an en dash; nothing where there is none."""
    return "–".join(number(bound) for bound in figure.bounds or ())


def in_words(items: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
