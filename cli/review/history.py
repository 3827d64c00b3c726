"""The promotion history, and the way back."""

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from cli.review.decisions import Undecided, roll_back
from cli.review.desk import desk_of
from cli.review.pages import page, reader_of, remember
from posttrain.registry.promotions import history

router = APIRouter()


@router.get("/models/{name}/history")
def show_history(request: Request, name: str) -> Response:
    """Every change of the champion."""
    return _page(request, name, {"done": request.query_params.get("done") == "rollback"})


@router.post("/models/{name}/rollback")
def take_back(request: Request, name: str) -> Response:
    """Roll the champion back."""
    form = request.state.form
    try:
        who = roll_back(desk_of(request), name, form)
    except Undecided as error:
        told = error.in_(reader_of(request).language)
        again = {"error": told, "why": form.get("why", ""), "who": form.get("who", "")}
        return _page(request, name, again, error.status)
    response = RedirectResponse(
        f"{request.url_for('show_history', name=name).path}?done=rollback", 303
    )
    remember(request, response, who)
    return response


def _page(request: Request, name: str, more: Mapping[str, Any], status: int = 200) -> Response:
    desk = desk_of(request)
    found = desk.versions(name)
    values = {
        "model": name,
        "here": "history",
        "entries": history(desk.client, name)[::-1],
        "champion": found.champion,
        "previous": found.previous,
        "done": False,
        "error": "",
        "why": "",
    }
    return page(request, "history.html", {**values, **more}, status)
