"""The report's charts with what the page writes above them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posttrain.evaluate import charts
from posttrain.evaluate.language import Text, both, plain, say
from posttrain.evaluate.wording import (
    curve_label,
    figure_label,
    figure_names,
    number,
    stage_label,
)
from posttrain.figures import Figure
from posttrain.reports import Evaluation, StageEvaluation

History = Sequence[Mapping[str, float | None]]

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
class Panel:
    """A chart, its caption, and the name by which the one refers to the other."""

    name: str
    title: Text
    note: Text
    legend: tuple[Text, ...]
    svg: str


def figure_panels(evaluation: Evaluation) -> list[Panel]:
    """Each figure that two stages have, stage by stage."""
    drawn = []
    for name in figure_names(evaluation):
        figures = [stage.figures.get(name) for stage in evaluation.stages]
        if "." in name or name in LIGHT or sum(figure is not None for figure in figures) < 2:
            continue
        key = _key("stages", name)
        svg = charts.through_stages(key, [stage.stage for stage in evaluation.stages], figures)
        last = next(figure for figure in reversed(figures) if figure is not None)
        drawn.append(Panel(key, both(figure_label, name), plain(number(last.value)), (), svg))
    return drawn


def curve_panels(stage: str, history: History) -> list[Panel]:
    """A chart a logged figure; figures that belong together share one."""
    names = list(dict.fromkeys(name for point in history for name in point if name not in UNDRAWN))
    ordered = [name for name in FIRST if name in names] + [n for n in names if n not in FIRST]
    drawn: list[Panel] = []
    done: set[str] = set()
    for name in ordered:
        group = next((group for group in TOGETHER if name in group), (name,))
        series = [line for member in group if (line := _series(member, history)).steps]
        if name in done or not series:
            continue
        done |= set(group)
        legend = tuple(both(curve_label, line.name) for line in series) if len(series) > 1 else ()
        note = plain(f"{number(series[0].values[0])} → {number(series[0].values[-1])}")
        key = _key(stage, name)
        drawn.append(Panel(key, both(curve_label, name), note, legend, charts.curve(key, series)))
    return drawn


def calibration_panel(stage: str, figures: Mapping[str, float]) -> Panel | None:
    """Confidence against accuracy, from `accuracy_at_X_to_Y` and `num_at_X_to_Y`."""
    found = [(match, value) for name, value in figures.items() if (match := BIN.fullmatch(name))]
    if not found:
        return None
    bins = [(int(match[1]) / 100, int(match[2]) / 100, value) for match, value in found]
    pairs = [figures[f"num_at_{match[1]}_to_{match[2]}"] for match, _ in found]
    note = say("page.num_pairs", nums=" / ".join(f"{num:,.0f}" for num in pairs))
    key = _key(stage, "calibration")
    svg = charts.calibration(key, bins)
    return Panel(key, say("page.by_confidence"), note, (), svg)


def score_panel(evaluation: Evaluation) -> Panel | None:
    """Score against length: did length do the work?"""
    groups = [
        charts.Series(one.stage, [float(n) for n in one.lengths], list(one.scores))
        for one in evaluation.scored
    ]
    if not groups:
        return None
    legend = tuple(both(stage_label, group.name) for group in groups)
    key = _key("score", "length")
    svg = charts.scatter(key, groups)
    return Panel(key, say("page.score_length_chart"), plain(""), legend, svg)


def frontier_panel(evaluation: Evaluation, history: History) -> Panel | None:
    """Score against KL: PPO's way through its iterations, and where each stage stands."""
    points = frontier_points(evaluation)
    if len(points) < 2:
        return None
    path = [
        (kl, score)
        for point in history
        if charts.finite(kl := point.get("kl")) and charts.finite(score := point.get("score"))
    ]
    line = charts.Series("path", [kl or 0.0 for kl, _ in path], [score or 0.0 for _, score in path])
    legend = tuple(both(stage_label, point.stage) for point in points)
    note = say("page.iterations") if path else plain("")
    key = _key("frontier", "kl")
    svg = charts.frontier(key, line, points)
    return Panel(key, say("page.frontier_chart"), note, legend, svg)


def frontier_points(evaluation: Evaluation) -> list[charts.Point]:
    """Each stage's KL to SFT, and its score in standard deviations of SFT's scores above SFT.

    PPO's own curve counts in them. Empty where there is no reward model.
    """
    mean, std = (evaluation.figure("sft", name) for name in ("mean_score", "score_std"))
    if mean is None or std is None or not std.value > 0:
        return []
    start = charts.Point("sft", 0.0, 0.0, None, _scaled(mean.bounds, mean, std))
    return [
        start,
        *(
            _point(stage, stage.figures["mean_score"], stage.figures["kl_to_sft"], mean, std)
            for stage in evaluation.stages
            if {"mean_score", "kl_to_sft"} <= stage.figures.keys()
        ),
    ]


def _point(
    stage: StageEvaluation, score: Figure, kl: Figure, mean: Figure, std: Figure
) -> charts.Point:
    return charts.Point(
        stage=stage.stage,
        kl=kl.value,
        score=(score.value - mean.value) / std.value,
        kl_bounds=kl.bounds,
        score_bounds=_scaled(score.bounds, mean, std),
    )


def _scaled(
    bounds: tuple[float, float] | None, mean: Figure, std: Figure
) -> tuple[float, float] | None:
    if bounds is None:
        return None
    low, high = ((bound - mean.value) / std.value for bound in bounds)
    return low, high


def _series(name: str, history: History) -> charts.Series:
    points = [(p["step"], p[name]) for p in history if charts.finite(p.get(name))]
    return charts.Series(
        name, [float(s or 0) for s, _ in points], [float(v or 0) for _, v in points]
    )


def _key(where: str, what: str) -> str:
    return re.sub(r"\W+", "-", f"chart-{where}-{what}".lower())
