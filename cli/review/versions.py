"""The first page of a model: its versions, who stands where, and who waits."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from cli.review.desk import Desk, Versions, desk_of
from cli.review.pages import page
from cli.waiting import waiting as run_of
from posttrain.evaluate.wording import PERPLEXITIES, direction
from posttrain.registry.versions import CHALLENGER, CHAMPION, PREVIOUS

router = APIRouter()

MOST_COLUMNS, MOST_WAITING = 4, 5


@router.get("/models/{name}")
def list_versions(request: Request, name: str) -> Response:
    """Versions with aliases, gate and decision."""
    desk = desk_of(request)
    found = desk.versions(name)
    return page(
        request,
        "versions.html",
        {
            "model": name,
            "here": "versions",
            "versions": list(found.by_number.values()),
            "columns": columns(found),
            "standing": [(alias, found.of(alias)) for alias in (CHAMPION, CHALLENGER, PREVIOUS)],
            "picked": picked(found),
            "waiting": waiting(desk, found),
        },
    )


def columns(found: Versions) -> list[str]:
    """Figures for the list: those of which one direction is better, that most versions have."""
    names = [name for one in found.by_number.values() for name in one.figures if "." not in name]
    told = [name for name in dict.fromkeys(names) if direction(name)]
    told.sort(key=lambda name: (name in PERPLEXITIES, -names.count(name)))
    return told[:MOST_COLUMNS]


def picked(found: Versions) -> tuple[int | None, int | None]:
    """What a comparison is likely to be about: champion and challenger, else the newest two."""
    numbers = list(found.by_number)
    a = found.champion or (numbers[1] if len(numbers) > 1 else None)
    others = [number for number in (found.of(CHALLENGER), *numbers) if number and number != a]
    return a, others[0] if others else None


def waiting(desk: Desk, found: Versions) -> list[int]:
    """Versions that a run asks about."""
    if not desk.has_zenml:
        return []
    undecided = [number for number in found.by_number if number != found.champion]
    return [number for number in undecided[:MOST_WAITING] if run_of(found.name, number)]
