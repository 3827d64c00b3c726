"""Charts of the report as inline SVG, by matplotlib.

Titles and legends are the page's, and what a chart writes itself it holds in every language, so
that any shows in the reader's fonts. Colours are the page's too (`var(--series-1)`), so that a
chart follows light and dark. A chart's name is its caption's. The same figures give the same bytes.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from posttrain.evaluate.language import LANGUAGES, Text, both, say
from posttrain.evaluate.wording import number, stage_label
from posttrain.figures import Figure

INK = {
    "#010101": "var(--muted)",
    "#020202": "var(--rule)",
    "#030303": "var(--series-1)",
    "#040404": "var(--series-2)",
    "#050505": "var(--series-3)",
    "#060606": "var(--series-4)",
}
"""Colours that matplotlib is told, and what the page makes of them."""

MUTED, RULE, *SERIES = INK
SMALL, WIDE = (3.6, 1.9), (6.4, 2.9)
"""Inches, of a chart in a row of three and of one by itself; the page scales it to its column."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "posttrain",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@dataclass(frozen=True)
class Series:
    """One line of a curve."""

    name: str
    steps: list[float]
    values: list[float]


@dataclass(frozen=True)
class Point:
    """A stage on the frontier: KL and score with their intervals."""

    stage: str
    kl: float
    score: float
    kl_bounds: tuple[float, float] | None
    score_bounds: tuple[float, float] | None


def curve(name: str, series: Sequence[Series]) -> str:
    """Lines over steps; on a logarithmic scale where positive values span two powers of ten."""
    with mpl.rc_context(STYLE):
        canvas, axes = _axes()
        for line, color in zip(series, SERIES, strict=False):
            mark = "o" if len(line.steps) == 1 else ""
            axes.plot(line.steps, line.values, color=color, marker=mark, markersize=4)
        every = [value for line in series for value in line.values]
        if min(every) > 0 and max(every) / min(every) > 100:
            axes.set_yscale("log")
            axes.minorticks_off()
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        axes.margins(x=0.02)
        return _labelled(canvas, name, say("axes.step"))


def through_stages(name: str, stages: Sequence[str], figures: Sequence[Figure | None]) -> str:
    """One figure stage by stage, each a point on its interval; shares stand between 0 and 1."""
    with mpl.rc_context(STYLE):
        canvas, axes = _axes()
        known = [(x, figure) for x, figure in enumerate(figures) if figure is not None]
        values = [figure.value for _, figure in known]
        axes.plot([x for x, _ in known], values, color=RULE, linewidth=1.2, zorder=1)
        ends = [figure.bounds or (figure.value, figure.value) for _, figure in known]
        for (x, figure), (low, high) in zip(known, ends, strict=True):
            axes.plot([x, x], [low, high], color=SERIES[0], linewidth=2, zorder=2)
            axes.plot([x], [figure.value], "o", color=SERIES[0], markersize=5, zorder=3)
        if min(values) > 0 and max(values) / min(values) > 100:
            axes.set_yscale("log")
            axes.minorticks_off()
        elif all(low >= 0 and high <= 1 for low, high in ends):
            axes.set_ylim(-0.06, 1.06)
            axes.set_yticks([0, 0.5, 1])
        else:
            axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        labels = [both(stage_label, stage) for stage in stages]
        axes.set_xticks(range(len(labels)), [label.en for label in labels], fontsize=8)
        axes.set_xlim(-0.45, len(labels) - 0.55)
        return _svg(canvas, name, labels)


def scatter(name: str, groups: Sequence[Series]) -> str:
    """Points of several groups: `steps` are their x, `values` their y."""
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(WIDE)
        for group, color in zip(groups, SERIES, strict=False):
            axes.plot(
                group.steps,
                group.values,
                "o",
                color=color,
                markersize=4,
                markeredgewidth=0,
                alpha=0.55,
            )
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], integer=True))
        return _labelled(canvas, name, say("axes.tokens"))


def frontier(name: str, path: Series, points: Sequence[Point]) -> str:
    """Score against KL: `path` is training's own way there, and each stage a point."""
    with mpl.rc_context(STYLE):
        canvas, axes = _axes(WIDE)
        axes.axhline(0, color=RULE, linewidth=0.8, zorder=1)
        axes.plot(path.steps, path.values, "o-", color=MUTED, linewidth=1, markersize=2.5, zorder=2)
        for point, color in zip(points, SERIES, strict=False):
            if point.kl_bounds is not None:
                axes.plot(point.kl_bounds, [point.score] * 2, color=color, zorder=3)
            if point.score_bounds is not None:
                axes.plot([point.kl] * 2, point.score_bounds, color=color, zorder=3)
            axes.plot([point.kl], [point.score], "o", color=color, markersize=5, zorder=4)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        return _labelled(canvas, name, say("axes.kl"))


def calibration(name: str, bins: Sequence[tuple[float, float, float]]) -> str:
    """Accuracy of each bin of confidence (low, high, accuracy; shares) against what was claimed."""
    with mpl.rc_context(STYLE):
        canvas, axes = _axes()
        axes.plot([0.5, 1], [0.5, 1], color=RULE, linewidth=1.2, zorder=1)
        for low, high, accuracy in bins:
            axes.plot([low, high], [accuracy] * 2, color=SERIES[0], linewidth=2, zorder=2)
        axes.plot(
            [(low + high) / 2 for low, high, _ in bins],
            [accuracy for _, _, accuracy in bins],
            "o",
            color=SERIES[0],
            markersize=5,
            zorder=3,
        )
        axes.set_ylim(-0.06, 1.06)
        axes.set_yticks([0, 0.5, 1])
        axes.set_xlim(0.48, 1.02)
        axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1])
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
        return _labelled(canvas, name, say("axes.confidence"))


def finite(value: float | None) -> bool:
    """Whether a point of a curve can be drawn."""
    return value is not None and math.isfinite(value)


def _axes(size: tuple[float, float] = SMALL) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=size, layout="constrained")
    axes = canvas.subplots()
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    return canvas, axes


def _tick(value: float) -> str:
    return f"{value:g}" if abs(value) < 10_000 else number(value)


def _labelled(canvas: Canvas, name: str, x_label: Text) -> str:
    canvas.axes[0].set_xlabel(x_label.en)
    return _svg(canvas, name, [x_label])


def _svg(canvas: Canvas, name: str, labels: Sequence[Text]) -> str:
    """The bare `<svg>` element in the page's colours and font, which `#name` is the caption of."""
    canvas.patch.set_visible(False)
    canvas.axes[0].patch.set_visible(False)
    stream = io.StringIO()
    hidden = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    canvas.savefig(stream, format="svg", metadata=hidden)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<style.*?</style>", "", svg, flags=re.DOTALL)  # would style the whole page
    svg = re.sub(r"font-family: [^;\"]+;?", "", svg)
    for drawn, shown in INK.items():
        svg = svg.replace(drawn, shown)
    for label in labels:
        svg = svg.replace(f">{escape(label.en)}</text>", f">{_spans(label)}</text>")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    # clip paths of two charts on a page must not share a name
    svg = re.sub(r'(id="|#)([mp][0-9a-f]{10})', rf"\g<1>{name}-\g<2>", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-labelledby="{name}"', 1).strip()


def _spans(label: Text) -> str:
    """As `Text` on a page, in SVG's own words."""
    if label.en == label.ko:
        return escape(label.en)
    return "".join(
        f'<tspan class="{language}" lang="{language}">{escape(label.in_(language))}</tspan>'
        for language in LANGUAGES
    )
