"""The report of a run: one static HTML page, verdict first.

Self-contained: styles and charts are in the page, nothing is fetched, no script runs, so that it
shows in the dashboard's sandboxed frame (384 px high), from MLflow's artifacts, and as a file. The
same arguments give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from posttrain.evaluate import charts, verdict
from posttrain.evaluate.wording import (
    curve_label,
    figure_label,
    figure_names,
    interval,
    number,
    stage_label,
)
from posttrain.reports import Evaluation, RuleOutcome

History = Sequence[Mapping[str, float | None]]

TEMPLATES = Environment(
    loader=PackageLoader("posttrain.evaluate", "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)

TOGETHER = (("loss", "eval_loss"),)
"""Curves that share a chart."""

FIRST = ("loss", "accuracy", "score", "reward", "kl", "entropy", "length")
"""Curves that stand before the others, which follow in their own order."""

UNDRAWN = frozenset({"step", "epoch", "learning_rate", "tokens", "num_tokens", "seconds"})
"""Bookkeeping, which MLflow shows."""

LIGHT = ("score_std", "mean_length", "ended_share")
"""Figures that the table has and that no chart repeats."""


@dataclass(frozen=True)
class Chart:
    """A chart with what the page writes above it."""

    title: str
    note: str
    legend: tuple[str, ...]
    svg: str


def render(
    evaluation: Evaluation,
    histories: Mapping[str, History],
    outcomes: tuple[RuleOutcome, ...],
    data: Mapping[str, Mapping[str, int]] | None,
    lineage: Mapping[str, str],
) -> str:
    """The page, for any number of stages.

    `histories` are the curves of each trained stage, points of `step` and figures; `outcomes` the
    gate's limits; `data` the counts of each role; `lineage` where the run came from.
    """
    return TEMPLATES.get_template("report.html").render(
        headline=verdict.headline(outcomes),
        passed=all(outcome.passed for outcome in outcomes) if outcomes else None,
        last_stage=stage_label(evaluation.stages[-1].stage),
        run=lineage.get("zenml_run"),
        sentences=[
            *verdict.stage_sentences(evaluation),
            *(
                sentence
                for sentence in (
                    verdict.length_sentence(evaluation),
                    verdict.entropy_sentence(histories.get("ppo", ())),
                )
                if sentence is not None
            ),
        ],
        reward_sentence=verdict.reward_sentence(evaluation),
        limits=[(outcome.passed, verdict.outcome_sentence(outcome)) for outcome in outcomes],
        stages=[stage_label(stage.stage) for stage in evaluation.stages],
        rows=_rows(evaluation),
        figure_charts=_figure_charts(evaluation),
        curves=[
            (stage_label(stage), panels)
            for stage, history in histories.items()
            if (panels := _curves(stage, history))
        ],
        score_chart=_score_chart(evaluation),
        revisions=evaluation.revisions,
        samples=_samples(evaluation),
        data=_transposed(data or {}),
        lineage=lineage,
        evaluation=evaluation,
    )


def _rows(evaluation: Evaluation) -> list[tuple[str, bool, list[tuple[str, str] | None]]]:
    """Label, whether it is a part of the figure above, and (value, interval) a stage."""
    rows = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        cells = [(number(f.value), interval(f)) if f else None for f in figures]
        rows.append((figure_label(name), "." in name, cells))
    return rows


def _figure_charts(evaluation: Evaluation) -> list[Chart]:
    drawn = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        if "." in name or name in LIGHT or sum(figure is not None for figure in figures) < 2:
            continue
        labels = [stage_label(stage.stage) for stage in evaluation.stages]
        svg = charts.through_stages(f"{figure_label(name)} by stage", labels, figures)
        last = next(figure for figure in reversed(figures) if figure is not None)
        drawn.append(Chart(figure_label(name), number(last.value), (), svg))
    return drawn


def _curves(stage: str, history: History) -> list[Chart]:
    """A chart a logged figure; figures that belong together share one."""
    names = list(dict.fromkeys(name for point in history for name in point if name not in UNDRAWN))
    ordered = [name for name in FIRST if name in names] + [n for n in names if n not in FIRST]
    drawn: list[Chart] = []
    done: set[str] = set()
    for name in ordered:
        group = next((group for group in TOGETHER if name in group), (name,))
        series = [line for member in group if (line := _series(member, history)).steps]
        if name in done or not series:
            continue
        done |= set(group)
        title = f"{stage_label(stage)}: {curve_label(name)}"
        legend = tuple(curve_label(line.name) for line in series) if len(series) > 1 else ()
        first, last = number(series[0].values[0]), number(series[0].values[-1])
        svg = charts.curve(title, series)
        drawn.append(Chart(curve_label(name), f"{first} → {last}", legend, svg))
    return drawn


def _score_chart(evaluation: Evaluation) -> Chart | None:
    """Score against length: did length do the work?"""
    groups = [
        charts.Series(stage_label(one.stage), [float(n) for n in one.lengths], list(one.scores))
        for one in evaluation.scored
    ]
    if not groups:
        return None
    title = "Score against length"
    svg = charts.scatter(title, "tokens", groups)
    return Chart(title, "", tuple(group.name for group in groups), svg)


def _series(name: str, history: History) -> charts.Series:
    points = [(p["step"], p[name]) for p in history if charts.finite(p.get(name))]
    return charts.Series(
        name, [float(s or 0) for s, _ in points], [float(v or 0) for _, v in points]
    )


@dataclass(frozen=True)
class Question:
    """A question with every stage's answer, in pieces: text, and whether it was expected."""

    probe: str
    prompt: str
    expected: str | None
    answers: list[tuple[str, list[tuple[str, bool]]]]


def _samples(evaluation: Evaluation) -> list[Question]:
    """The questions that the last stage was asked, beside what each stage said."""
    said = {
        (stage.stage, sample.probe, sample.prompt): sample.response
        for stage in evaluation.stages
        for sample in stage.samples
    }
    return [
        Question(
            probe=figure_label(sample.probe),
            prompt=sample.prompt,
            expected=sample.expected,
            answers=[
                (stage_label(stage.stage), _pieces(said[key], sample.expected))
                for stage in evaluation.stages
                if (key := (stage.stage, sample.probe, sample.prompt)) in said
            ],
        )
        for sample in evaluation.stages[-1].samples
    ]


def _pieces(response: str, expected: str | None) -> list[tuple[str, bool]]:
    """The response, cut at the expected text where it has it."""
    if not expected or expected not in response:
        return [(response, False)]
    before, after = response.split(expected, 1)
    return [piece for piece in ((before, False), (expected, True), (after, False)) if piece[0]]


def _transposed(
    data: Mapping[str, Mapping[str, int]],
) -> tuple[list[str], list[tuple[str, list[int | None]]]]:
    """Roles, and a row a count: there are few roles and may be many counts."""
    names = list(dict.fromkeys(name for counts in data.values() for name in counts))
    rows = [(n.replace("_", " "), [counts.get(n) for counts in data.values()]) for n in names]
    return list(data), rows
