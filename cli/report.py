"""`posttrain report`: what the last run measured and whether it was promoted."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from cli.last_run import LastRun
    from posttrain.decisions import Promotion
    from posttrain.reports import Evaluation, StageEvaluation

FIGURES = (
    "perplexity_domain",
    "perplexity_answers",
    "bits_per_byte_domain",
    "fact_cloze",
    "fact_accuracy",
    "mean_score",
    "score_std",
    "kl_to_sft",
    "violation_rate",
    "helpfulness",
    "ended_share",
    "mean_length",
)
"""Keys that every stage has in the JSON, null where it was not measured."""

Tongue = Literal["en", "ko"]
"""`posttrain.recipe.evaluation.Language`, which `--help` need not load."""

SETS = {"fact_accuracy": ("A", "B", "C")}
PAGE = Path(".posttrain/report.html")


def report(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    open_page: Annotated[bool, typer.Option("--open", help="Open the full page.")] = False,
    language: Annotated[
        Tongue | None, typer.Option(help="Of the tables and the page; the recipe's if not named.")
    ] = None,
) -> None:
    """Show the last run's evaluation and promotion."""
    from cli.last_run import last_run
    from posttrain.evaluate.language import in_language

    found = last_run()
    for run in found.newer:
        print(f"newer, without an evaluation: {run}", file=sys.stderr)
    if as_json:
        print(json.dumps(as_dict(found), ensure_ascii=False, indent=1))
    else:
        show(found, language or "en")
    page = found.report
    if page is not None and (open_page or not as_json):
        page = in_language(page, language) if language is not None else page
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page, encoding="utf-8")
        print(f"Full report: {PAGE.resolve().as_uri()}", file=sys.stderr)
        if open_page:
            typer.launch(PAGE.resolve().as_uri())


def as_dict(found: "LastRun") -> dict[str, Any]:
    """The JSON of `posttrain report`."""
    evaluation, promotion = found.evaluation, found.promotion
    reward = evaluation.reward_model
    sets = _sets(evaluation)
    return {
        "run": found.name,
        "seconds": found.seconds,
        "stages": [_stage(stage, sets) for stage in evaluation.stages],
        "reward_model": reward.model_dump(exclude={"figures"}) if reward else None,
        **_second_round(evaluation),
        "data": {"quarantined": found.quarantined},
        "cost": [cost.model_dump() for cost in evaluation.costs],
        "promotion": promotion.model_dump(include={"version", "promoted", "reasons"})
        if promotion
        else None,
    }


def _second_round(evaluation: "Evaluation") -> dict[str, Any]:
    """The second reward model and the AI judge, where the run has them."""
    found = {"rlaif_reward_model": evaluation.rlaif_reward_model, "ai_judge": evaluation.ai_judge}
    return {
        name: one.model_dump(exclude={"figures"}) for name, one in found.items() if one is not None
    }


def _sets(evaluation: "Evaluation") -> dict[str, tuple[str, ...]]:
    """Figure -> its sets, for figures that any stage reports by set."""
    found: dict[str, tuple[str, ...]] = dict(SETS)
    for name in (name for stage in evaluation.stages for name in stage.figures):
        probe, _, subset = name.partition(".")
        if subset and subset not in found.get(probe, ()):
            found[probe] = (*found.get(probe, ()), subset)
    return found


def _stage(stage: "StageEvaluation", sets: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    names = dict.fromkeys([*FIGURES, *(name.partition(".")[0] for name in stage.figures)])

    def value(name: str) -> float | None:
        return stage.figures[name].value if name in stage.figures else None

    return {"stage": stage.stage} | {
        name: {subset: value(f"{name}.{subset}") for subset in sets[name]}
        if name in sets
        else value(name)
        for name in names
    }


def show(found: "LastRun", language: Tongue = "en") -> None:
    """Print tables for a terminal."""
    from rich.console import Console

    from posttrain.evaluate.language import say
    from posttrain.evaluate.verdict import (
        headline,
        judge_sentence,
        reward_sentences,
        stage_sentences,
        warning_sentences,
    )
    from posttrain.evaluate.wording import label

    console = Console(highlight=False)
    evaluation, promotion = found.evaluation, found.promotion
    duration = f", {found.seconds:.0f} s" if found.seconds is not None else ""
    console.print(f"{found.name}{duration}", style="dim", markup=False)
    if promotion is not None:
        good = all(outcome.passed for outcome in promotion.outcomes)
        console.print(
            headline(promotion.outcomes).in_(language), style="bold green" if good else "bold red"
        )
    console.print()
    console.print(_table(evaluation, language))
    console.print()
    told = [*stage_sentences(evaluation), *warning_sentences(evaluation)]
    told += reward_sentences(evaluation)
    for sentence in [*told, judge_sentence(evaluation)]:
        if sentence is not None:
            lead, detail = (text.in_(language) for text in (sentence.lead, sentence.detail))
            console.print(f"{lead}: {detail}", markup=False)
    if found.quarantined:
        reasons = found.quarantined.items()
        rows = ", ".join(f"{label('reasons', why, language)} {num:,}" for why, num in reasons)
        console.print(say("terminal.quarantined", rows=rows).in_(language), markup=False)
    if promotion is not None:
        what = "terminal.champion" if promotion.promoted else "terminal.not_promoted"
        said = say(what, version=promotion.version).in_(language)
        console.print(f"\n{said}:", style="bold")
        for reason in _reasons(promotion, language):
            console.print(f"  {reason}", markup=False)


def _reasons(promotion: "Promotion", language: Tongue) -> list[str]:
    """As they were recorded; in another language, what was missed."""
    from posttrain.evaluate.limits import outcome_sentence

    missed = [outcome for outcome in promotion.outcomes if not outcome.passed]
    if language == "en" or not missed:
        return list(promotion.reasons)
    return [outcome_sentence(outcome).in_(language) for outcome in missed]


def _table(evaluation: "Evaluation", language: Tongue) -> "Table":
    """Figures by stage; the interval is the last stage's, so that it fits 80 columns."""
    from rich.table import Table

    from posttrain.evaluate.language import say
    from posttrain.evaluate.wording import (
        figure_label,
        figure_names,
        interval,
        is_part,
        number,
        stage_label,
    )

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    for stage in evaluation.stages:
        table.add_column(stage_label(stage.stage, language), justify="right")
    table.add_column(say("terminal.interval").in_(language), style="dim")
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        cells = [number(figure.value) if figure else "–" for figure in figures]
        cells.append(interval(figures[-1]) if figures[-1] else "")
        label = figure_label(name, language)
        table.add_row(f"  {label}" if is_part(name) else label, *cells)
    return table
