"""Blind comparison: a pair at a time, the rater's verdict, and what all of them amount to."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from cli.review.desk import Desk, desk_of
from cli.review.pages import page, reader_of, remember
from posttrain.align.verdicts import Choice
from posttrain.evaluate.ballots import PREFERENCES, preferences
from posttrain.evaluate.blind import Ballot, Tally, VersionPair, tally, to_rate
from posttrain.registry.one_line import is_blank

router = APIRouter()

CHOICES: dict[str, Choice | None] = {
    "response_1": "response_1",
    "response_2": "response_2",
    "tie": "tie",
    "skip": None,
}
MOST_VERSIONS = 4
"""Newest versions whose stored answers are offered in pairs."""


@dataclass(frozen=True)
class Offered:
    """Two versions with answers to the same prompts."""

    versions: tuple[int, int]
    num_pairs: int
    num_rated: int


@router.get("/models/{name}/blind")
def choose(request: Request, name: str) -> Response:
    """Which two versions."""
    desk = desk_of(request)
    numbers = sorted(desk.versions(name).by_number, reverse=True)
    said = desk.ballots(name).read()
    offered = []
    for b, a in combinations(numbers, 2):
        pairs = desk.drawn(name, (a, b))
        if not pairs and b in numbers[:MOST_VERSIONS] and a in numbers[:MOST_VERSIONS]:
            pairs = desk.stored(name, (a, b))
        if pairs:
            offered.append(Offered((a, b), len(pairs), tally((a, b), said).num_rated))
    example = (numbers[1], numbers[0]) if len(numbers) > 1 else (1, 2)
    values = {"model": name, "here": "blind", "choices": offered, "example": example}
    return page(request, "blind_choose.html", values)


@router.get("/models/{name}/blind/{a}/{b}")
def show_pair(request: Request, name: str, a: int, b: int) -> Response:
    """The next pair that this rater has not judged, or the one that is asked for."""
    desk, two = desk_of(request), _two(a, b)
    pairs, is_stored = _pairs(desk, name, two)
    rater = "" if request.query_params.get("rater") == "new" else reader_of(request).who
    said = desk.ballots(name).read()
    left = to_rate(pairs, said, rater)
    wanted, last = request.query_params.get("pair"), request.query_params.get("last", "")
    if wanted is not None and wanted not in pairs:
        raise HTTPException(404)
    pair = pairs[wanted] if wanted is not None else next(iter(left), None)
    return page(
        request,
        "blind.html",
        {
            "model": name,
            "here": "blind",
            "address": _address(name, two),
            "rater": rater,
            "pair": pair,
            "number_of": list(pairs).index(wanted) + 1 if wanted else len(pairs) - len(left) + 1,
            "total": len(pairs),
            "last": last if last in pairs else "",
            "is_stored": is_stored,
        },
    )


@router.post("/models/{name}/blind/{a}/{b}/rater")
def name_rater(request: Request, name: str, a: int, b: int) -> Response:
    """Keep the rater's name in a cookie."""
    who = request.state.form.get("who", "").strip()[:100]
    desk_of(request).versions(name)
    response = RedirectResponse(_address(name, _two(a, b)), 303)
    if not is_blank(who):
        remember(request, response, who)
    return response


@router.post("/models/{name}/blind/{a}/{b}")
def rate(request: Request, name: str, a: int, b: int) -> Response:
    """Keep a verdict and go on to the next pair."""
    desk, two = desk_of(request), _two(a, b)
    form, rater = request.state.form, reader_of(request).who
    pairs, _ = _pairs(desk, name, two)
    pair = pairs.get(form.get("pair", ""))
    if pair is None or form.get("choice") not in CHOICES or not rater:
        raise HTTPException(404)
    desk.ballots(name).add(
        Ballot(
            pair=pair,
            choice=CHOICES[form["choice"]],
            rater=rater,
            updated_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    )
    return RedirectResponse(f"{_address(name, two)}?last={pair.pair_id}", 303)


@router.get("/models/{name}/blind/{a}/{b}/results")
def show_results(request: Request, name: str, a: int, b: int) -> Response:
    """Win rate, and what goes into the next run."""
    desk, two = desk_of(request), _two(a, b)
    desk.versions(name)
    ballots = desk.ballots(name)
    said = ballots.read()
    rows, told = preferences(said), tally(two, said)
    values: Mapping[str, Any] = {
        "model": name,
        "here": "blind",
        "address": _address(name, two),
        "tally": told,
        "standing": standing(told),
        "percent": lambda share: f"{100 * share:.0f} %",
        "num_preferences": len(rows),
        "num_held_out": sum("split" in row for row in rows),
        "source": (ballots.folder / PREFERENCES).as_posix(),
    }
    return page(request, "results.html", values)


def standing(told: Tally) -> str:
    """`pass` where the newer version is preferred beyond noise, `fail` where the older is."""
    rate = told.win_rate
    if rate is None or rate.low is None or rate.high is None or rate.low <= 0.5 <= rate.high:
        return "neutral"
    return "pass" if rate.low > 0.5 else "fail"


def _two(a: int, b: int) -> tuple[int, int]:
    if a == b:
        raise HTTPException(404)
    return (min(a, b), max(a, b))


def _pairs(desk: Desk, name: str, two: tuple[int, int]) -> tuple[Mapping[str, VersionPair], bool]:
    """Pairs that were drawn, else those of the stored answers; and whether it is these."""
    found = desk.versions(name)
    assert found[two[0]] and found[two[1]]  # 404 otherwise
    drawn = desk.drawn(name, two)
    return (drawn, False) if drawn else (desk.stored(name, two), True)


def _address(name: str, two: tuple[int, int]) -> str:
    return f"/models/{quote(name, safe='')}/blind/{two[0]}/{two[1]}"
