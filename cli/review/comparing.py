"""Two versions side by side: figures with the interval of their difference, answers, tags."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cli.review.desk import desk_of
from cli.review.pages import page
from cli.review.versions import picked
from posttrain.evaluate.wording import number
from posttrain.figures import Figure
from posttrain.registry.overview import FigureComparison, compare
from posttrain.reports import Evaluation, Sample

router = APIRouter()

HALF = 76.0
"""Half of the drawing's width, in px, less a margin."""

MIDDLE = 80.0


@dataclass(frozen=True)
class Row:
    """A figure of both, with the difference."""

    name: str
    a: Figure | None
    b: Figure | None
    gap: str | None
    """B less A with its sign; None where the two do not compare."""

    bounds: str
    plot: tuple[float, float, float] | None
    """Low end, value and high end of how much better B is, in px."""

    verdict: Literal["better", "worse", "level", "unknown"]
    """What B is beside A."""


@dataclass(frozen=True)
class Both:
    """A question with both answers; None where one was not asked."""

    probe: str
    prompt: str
    expected: str | None
    a: str | None
    b: str | None


@router.get("/models/{name}/compare")
def compare_versions(request: Request, name: str) -> Response:
    """Side by side, or the choice of two."""
    desk = desk_of(request)
    found = desk.versions(name)
    a, b = (_number(request.query_params.get(side)) for side in ("a", "b"))
    if a is None and b is None:
        a, b = picked(found)
    values = {"model": name, "here": "compare", "numbers": list(found.by_number), "a": None}
    if a is None or b is None:
        return page(request, "compare.html", values | {"b": None})
    told = compare(desk.client, name, str(found[a].number), str(found[b].number))
    evaluations = desk.evaluation(name, a), desk.evaluation(name, b)
    return page(
        request,
        "compare.html",
        values
        | {
            "a": told.a,
            "b": told.b,
            "rows": rows(told.figures),
            "samples": samples(evaluations),
            "differing": told.differing,
        },
    )


def rows(figures: tuple[FigureComparison, ...]) -> list[Row]:
    """Figures as the table writes them."""
    return [_row(told) for told in figures]


def _row(told: FigureComparison) -> Row:
    if told.a is None or told.b is None or not told.comparable:
        return Row(told.name, told.a, told.b, None, "", None, "unknown")
    gap, reach = told.b.value - told.a.value, told.difference
    bounds = f"{_signed(reach[0])} – {_signed(reach[1])}" if reach else ""
    plot = _plot(reach, gap, told.direction) if reach and told.direction else None
    return Row(told.name, told.a, told.b, _signed(gap), bounds, plot, told.verdict)


def _plot(reach: tuple[float, float], gap: float, sign: int) -> tuple[float, float, float]:
    """Places on the drawing, each row to its own scale: zero is in the middle, better is right."""
    low, high = sorted(sign * bound for bound in reach)
    scale = HALF / (max(abs(low), abs(high), abs(gap)) or 1.0)
    low, value, high = (round(MIDDLE + scale * one, 1) for one in (low, sign * gap, high))
    return low, value, high


def samples(evaluations: tuple[Evaluation | None, Evaluation | None]) -> list[Both]:
    """The last stages' answers, question by question."""
    sides: list[Mapping[tuple[str, str], Sample]] = [
        {(one.probe, one.prompt): one for one in evaluation.stages[-1].samples}
        if evaluation
        else {}
        for evaluation in evaluations
    ]
    both = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        a, b = (side.get(key) for side in sides)
        known = a or b
        assert known is not None, "the key is of one of them"
        said = (a.response if a else None, b.response if b else None)
        both.append(Both(known.probe, known.prompt, known.expected, *said))
    return both


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value).replace("-", "−")


def _number(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal():
        raise HTTPException(404)
    return int(text)
