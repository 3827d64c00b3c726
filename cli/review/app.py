"""The review page as an ASGI application: what every request passes, and its first pages."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cli.review import blind, comparing, history, version, versions
from cli.review.desk import Desk, desk_of
from cli.review.pages import page, reader_of, style
from cli.review.security import (
    COOKIE,
    ICON,
    PAUSE_SECONDS,
    SIGN_IN,
    SIGNED_IN_SECONDS,
    STYLE,
    Refused,
    admit,
    keep,
    protect,
    until,
)
from cli.review.words import translator

logger = logging.getLogger(__name__)

DRAWING = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<rect width="16" height="16" rx="3" fill="#2358a8"/>'
    '<path d="M4 8.5l2.7 2.7L12 5.5" fill="none" stroke="#fff" stroke-width="2"/></svg>'
)

router = APIRouter()


def build(desk: Desk) -> FastAPI:
    """The application for one registry."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)  # no page but ours
    app.state.desk = desk
    app.middleware("http")(_guard)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _not_found)
    for part in (router, versions.router, version.router, comparing.router, blind.router):
        app.include_router(part)
    app.include_router(history.router)
    return app


async def _guard(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Admit the request, answer it, and put the headers on whatever comes of it."""
    try:
        await admit(request, desk_of(request).access)
        response = await answer(request)
    except Refused as refused:
        response = _refusal(request, refused)
    except Exception:
        logger.exception("%s %s", request.method, request.url.path)
        response = _message(request, 500, "failed", "failed_lede")
    protect(request, response)
    return response


def _refusal(request: Request, refused: Refused) -> Response:
    if refused.reason == "sign_in" and request.method == "GET":
        return RedirectResponse(SIGN_IN, 303)
    return _message(request, refused.status, "refused", f"refused_{refused.reason}")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return _message(request, status, "not_found", "not_found_lede")


def _message(request: Request, status: int, title: str, text: str) -> Response:
    t = translator(reader_of(request).language)
    return page(request, "message.html", {"title": t(title), "text": t(text)}, status)


@router.get("/")
def models(request: Request) -> Response:
    """The registered models; the only one's versions at once."""
    names = desk_of(request).names()
    if len(names) == 1:
        address = request.url_for("list_versions", name=names[0]).path
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"{address}{query}", 303)
    return page(request, "models.html", {"names": names})


@router.get(STYLE)
def stylesheet() -> Response:
    """The report's style and the page's."""
    return Response(style(), media_type="text/css")


@router.get(ICON)
def icon() -> Response:
    """For the tab: browsers ask for one."""
    return Response(DRAWING, media_type="image/svg+xml")


@router.get(SIGN_IN)
def sign_in_form(request: Request) -> Response:
    """Where a token is asked for."""
    if desk_of(request).access.token is None:
        raise HTTPException(404)
    return page(request, "sign_in.html", {"wrong": False})


@router.post(SIGN_IN)
async def sign_in(request: Request) -> Response:
    """Check the token; a session that gave it is a new one."""
    access = desk_of(request).access
    if not access.opens(request.state.form.get("token", "")):
        await asyncio.sleep(PAUSE_SECONDS)
        return page(request, "sign_in.html", {"wrong": True}, 403)
    response = RedirectResponse("/", 303)
    request.state.is_new = False
    keep(request, response, COOKIE, access.signed_in(until()), SIGNED_IN_SECONDS)
    return response
