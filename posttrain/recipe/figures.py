"""Which figures a run will measure, so that its gate names no other."""

from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.harness import HARNESS, HarnessRecipe
from posttrain.recipe.promotion import PromotionRecipe

BUILT_IN = (
    "perplexity_domain",
    "bits_per_byte_domain",
    "perplexity_answers",
    "mean_score",
    "score_std",
    "kl_to_sft",
    "ended_share",
)
"""Figures that evaluation measures without a probe."""

SECOND_ROUND = ("rlaif_score", "rlaif_score_std")
"""Those that a second round adds."""


def check_figures(
    promotion: PromotionRecipe, evaluation: EvaluationRecipe, has_second_round: bool
) -> None:
    """Refuse a gate on a figure that nobody measures.

    Raises:
        ValueError: names the figure, and those that there are.
    """
    sets = {
        figure: probe.sets if probe.by_set else ()
        for probe in evaluation.probes
        for figure in probe.figures
    }
    known = {*BUILT_IN, *(SECOND_ROUND if has_second_round else ()), *sets}
    named = [limit.figure for limit in promotion.limits]
    named += [comparison.figure for comparison in promotion.against_champion]
    for figure in named:
        if figure.startswith(HARNESS):
            _check_benchmark(figure, evaluation.harness)
            continue
        name, dot, of_set = figure.partition(".")
        if name not in known:
            raise ValueError(
                f"promotion names the figure {figure!r}, which is neither built in nor a probe "
                f"(known: {sorted(known)})"
            )
        by_set = sets.get(name, ())
        if dot and of_set not in by_set:
            raise ValueError(
                f"promotion names the figure {figure!r}, and evaluation reports no such set; "
                f"name one of {[name, *(f'{name}.{one}' for one in by_set)]} (a probe reports "
                "its `sets` with `by_set: true`)"
            )


def _check_benchmark(figure: str, harness: HarnessRecipe | None) -> None:
    if harness is None or harness.task_of(figure) is None:
        tasks = list(harness.tasks) if harness is not None else "absent"
        raise ValueError(
            f"promotion names the figure {figure!r}, which is no {HARNESS}<task>.<metric> of "
            f"the tasks in evaluation.harness ({tasks}); add its task there"
        )
