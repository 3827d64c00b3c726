"""The first page of a model: its versions, who stands where, and who waits."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from cli.review.desk import Desk, Versions, desk_of
from cli.review.pages import page
from cli.review.runs import NoZenML, waiting_versions
from posttrain.evaluate.wording import PERPLEXITIES, direction
from posttrain.registry.versions import CHALLENGER, CHAMPION, PREVIOUS

router = APIRouter()

MOST_COLUMNS = 4


@router.get("/models/{name}")
def list_versions(request: Request, name: str) -> Response:
    """Versions with aliases, gate and decision."""
    desk = desk_of(request)
    found = desk.versions(name)
    asks = waiting(desk, found)
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
            "waiting": asks or (),
            "is_unknown": asks is None,
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


def waiting(desk: Desk, found: Versions) -> list[int] | None:
    """Versions that a run asks about; None where ZenML does not answer."""
    if not desk.has_zenml:
        return []
    try:
        asks = waiting_versions(found.name)
    except NoZenML:
        return None
    return [number for number in asks if number in found.by_number and number != found.champion]
