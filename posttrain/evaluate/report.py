"""The report of a run: one static HTML page, verdict first.

Self-contained: styles and charts are in the page, nothing is fetched, no script runs, so that it
shows in the dashboard's sandboxed frame (384 px high), from MLflow's artifacts, and as a file. The
same arguments give the same bytes.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from posttrain.evaluate import charts, verdict
from posttrain.evaluate.wording import (
    REWARD_FIGURES,
    curve_label,
    figure_label,
    figure_names,
    interval,
    is_part,
    number,
    stage_label,
)
from posttrain.reports import Evaluation, JudgeEvaluation, RewardEvaluation, RuleOutcome

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

BIN = re.compile(r"accuracy_at_(\d+)_to_(\d+)")
"""A bin of confidence, in per cent."""

LIGHT = ("score_std", "rlaif_score_std", "mean_length", "ended_share")
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
        sentences=_sentences(evaluation, histories),
        reward_sentences=verdict.reward_sentences(evaluation),
        limits=[(outcome.passed, verdict.outcome_sentence(outcome)) for outcome in outcomes],
        stages=[stage_label(stage.stage) for stage in evaluation.stages],
        rows=_rows(evaluation),
        figure_charts=_figure_charts(evaluation),
        curves=[
            (stage_label(stage), panels)
            for stage, history in histories.items()
            if (panels := _curves(stage, history))
        ],
        rewards=[
            (stage_label(name), _judge(reward, f"{stage_label(name)}: accuracy by confidence"))
            for name, reward in (
                ("reward_model", evaluation.reward_model),
                ("rlaif_reward_model", evaluation.rlaif_reward_model),
            )
            if reward is not None
        ],
        ai_judge=evaluation.ai_judge and _ai_judge(evaluation.ai_judge),
        judge_sentence=verdict.judge_sentence(evaluation),
        score_chart=_score_chart(evaluation),
        critique_sentence=verdict.critique_sentence(evaluation),
        revisions=evaluation.revisions,
        samples=_samples(evaluation),
        data=_transposed(data or {}),
        lineage=lineage,
        evaluation=evaluation,
    )


def _sentences(evaluation: Evaluation, histories: Mapping[str, History]) -> list[verdict.Sentence]:
    """The story: what each stage did, and what to know of it."""
    told = (
        verdict.length_sentence(evaluation),
        verdict.entropy_sentence(histories.get("ppo", ())),
        verdict.critique_sentence(evaluation),
        verdict.entropy_sentence(histories.get("rlaif", ()), "rlaif"),
        verdict.judge_sentence(evaluation),
    )
    return [
        *verdict.stage_sentences(evaluation),
        *verdict.warning_sentences(evaluation),
        *(one for one in told if one is not None),
    ]


def _rows(evaluation: Evaluation) -> list[tuple[str, bool, list[tuple[str, str] | None]]]:
    """Label, whether it is a part of the figure above, and (value, interval) a stage."""
    rows = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        cells = [(number(f.value), interval(f)) if f else None for f in figures]
        rows.append((figure_label(name), is_part(name), cells))
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


@dataclass(frozen=True)
class Judge:
    """The reward model: accuracy by kind and its other figures, each a label and a number."""

    by_kind: list[tuple[str, str]]
    figures: list[tuple[str, str]]
    chart: Chart | None


def _judge(reward: RewardEvaluation, title: str) -> Judge:
    every = {"accuracy": reward.accuracy, **reward.by_kind}
    found = [
        (label, f"{value:,.0f}" if name.startswith("num_") else number(value))
        for name, label in REWARD_FIGURES.items()
        if (value := reward.figures.get(name)) is not None
    ]
    return Judge(
        by_kind=[(curve_label(kind), number(accuracy)) for kind, accuracy in every.items()],
        figures=[("Held-out pairs", f"{reward.num_pairs:,}"), *found],
        chart=_calibration_chart(reward.figures, title),
    )


def _ai_judge(judge: JudgeEvaluation) -> list[tuple[str, str]]:
    """RLAIF's judge in a table's rows."""
    kinds = [
        (
            curve_label(kind),
            f"{number(share)} (order decides {number(judge.order_by_kind[kind])})",
        )
        for kind, share in judge.by_kind.items()
    ]
    dropped = [(f"Dropped: {why.replace('_', ' ')}", f"{n:,}") for why, n in judge.dropped.items()]
    return [
        ("Accuracy on held-out human pairs", number(judge.accuracy)),
        ("Held-out human pairs", f"{judge.num_pairs:,}"),
        *kinds,
        ("Probability of the answer in the first place", number(judge.first_preferred)),
        ("Order alone decides", number(judge.order_decides)),
        ("Pairs of its own judged", f"{judge.num_judged:,}"),
        ("Pairs kept", f"{judge.num_kept:,}"),
        *dropped,
    ]


def _calibration_chart(figures: Mapping[str, float], title: str) -> Chart | None:
    """Confidence against accuracy, from `accuracy_at_X_to_Y` and `num_at_X_to_Y`."""
    found = [(match, value) for name, value in figures.items() if (match := BIN.fullmatch(name))]
    if not found:
        return None
    bins = [(int(match[1]) / 100, int(match[2]) / 100, value) for match, value in found]
    pairs = [figures[f"num_at_{match[1]}_to_{match[2]}"] for match, _ in found]
    note = f"{' / '.join(f'{num:,.0f}' for num in pairs)} pairs"
    return Chart("Accuracy by confidence", note, (), charts.calibration(title, bins))


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
