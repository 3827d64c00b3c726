"""Who may see the review page and whose forms it takes.

1. Host: only names by which the page is meant to be reached, so that a foreign name that resolves
   to this address (DNS rebinding) gets nothing.
2. Sign-in: with a token, wherever one is set; it must be set beyond loopback.
3. Forms: from a page of our own (Origin), with a code that belongs to the session (CSRF), small,
   and with a length.
4. Every answer carries headers that forbid scripts, frames and requests to anywhere else.
"""

import hmac
import ipaddress
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from starlette.requests import Request
from starlette.responses import Response

COOKIE = "posttrain_review"
STYLE, ICON, SIGN_IN = "/review.css", "/icon.svg", "/sign-in"
OPEN = (STYLE, ICON, SIGN_IN)
"""Paths that need no sign-in."""

EVERY_ADDRESS = ("0.0.0.0", "::", "")  # noqa: S104 -- none of them is a name
SHORTEST_TOKEN = 16
SIGNED_IN_SECONDS = 12 * 3600
LARGEST_FORM = 64 * 1024
MOST_FIELDS = 20
PAUSE_SECONDS = 1.0
"""After a wrong token."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # same-origin: with no-referrer a browser would send `Origin: null` with our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

Reason = Literal["host", "sign_in", "origin", "form", "code"]


class Refused(Exception):
    """A request that gets no further."""

    def __init__(self, status: int, reason: Reason) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Access:
    """By which names the page is reached, and the token that opens it."""

    hosts: frozenset[str]
    """Values of the Host header, `name:port`, and `name` alone behind a proxy."""

    token: str | None
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    """Of this process: whoever was signed in before it is no longer."""

    def code(self, session: str) -> str:
        """What a session's forms carry."""
        return self._sign(f"form:{session}")

    def signed_in(self, end: int) -> str:
        """The cookie of a new session that gave the token, good until `end`."""
        session = secrets.token_hex(16)
        return f"{session}.{end}.{self._sign(f'in:{session}:{end}')}"

    def read(self, cookie: str) -> tuple[str | None, bool]:
        """The session that a cookie names, and whether it is signed in."""
        session, _, rest = cookie.partition(".")
        if len(session) != 32 or not session.isalnum() or not session.isascii():
            return None, False
        end, _, signature = rest.partition(".")
        is_valid = same(signature, self._sign(f"in:{session}:{end}"))
        return session, is_valid and int(end) > time.time()

    def opens(self, token: str) -> bool:
        """Whether it is the token."""
        return self.token is not None and same(token, self.token)

    def _sign(self, text: str) -> str:
        return hmac.new(self.secret, text.encode(), "sha256").hexdigest()


def access(host: str, port: int, allowed: tuple[str, ...], token: str | None) -> Access:
    """The rules for an address to listen on.

    Raises:
        ValueError: it is not loopback and there is no token, the token is short, or nobody could
            come in by any name.
    """
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise ValueError(
            f"POSTTRAIN_REVIEW_TOKEN has {len(token)} characters and needs {SHORTEST_TOKEN}; take "
            "`python -c 'import secrets; print(secrets.token_urlsafe())'`"
        )
    if not is_loopback(host) and token is None:
        raise ValueError(
            f"--host {host} is reached from other machines; set a token in POSTTRAIN_REVIEW_TOKEN, "
            "or leave --host out and come in through `ssh -L`"
        )
    if host in EVERY_ADDRESS and not allowed:
        raise ValueError(f"--host {host} names no address; add --allow-host NAME:PORT")
    names = {"localhost", "127.0.0.1", "[::1]"} if is_loopback(host) else set()
    if host not in EVERY_ADDRESS:
        names.add(f"[{host}]" if ":" in host else host)
    with_port = {f"{name}:{port}" for name in names}
    if port == 80:
        with_port |= names
    return Access(frozenset(with_port | {name.lower() for name in allowed}), token)


def until() -> int:
    """When a session that is signed in now ends."""
    return int(time.time()) + SIGNED_IN_SECONDS


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def same(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much agrees."""
    return hmac.compare_digest(given.encode(), expected.encode())


async def admit(request: Request, rules: Access) -> None:
    """Let a request pass, its session and form in `request.state`.

    Raises:
        Refused: it gets no further.
    """
    request.state.code, request.state.is_new, request.state.form = "", False, {}
    host = request.headers.get("host", "").lower()
    if host not in rules.hosts:
        raise Refused(421, "host")
    session, signed_in = rules.read(request.cookies.get(COOKIE, ""))
    request.state.session = session or secrets.token_hex(16)
    request.state.is_new = session is None
    request.state.code = rules.code(request.state.session)
    if rules.token is not None and not signed_in and request.url.path not in OPEN:
        raise Refused(401, "sign_in")
    if request.method == "POST":
        _check_origin(request, host)
        request.state.form = await _form(request)
        if not same(request.state.form.get("code", ""), request.state.code):
            raise Refused(403, "code")


def _check_origin(request: Request, host: str) -> None:
    """A form of our own says where it stands; browsers have said so for years."""
    origin = urlsplit(request.headers.get("origin", ""))
    if (origin.scheme, origin.netloc.lower()) != (request.url.scheme, host):
        raise Refused(403, "origin")
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise Refused(403, "origin")


async def _form(request: Request) -> dict[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    length = request.headers.get("content-length", "")
    if kind != "application/x-www-form-urlencoded" or not length.isdecimal():
        raise Refused(400, "form")
    if int(length) > LARGEST_FORM:
        raise Refused(413, "form")
    try:
        text = (await request.body()).decode("utf-8")
        fields = parse_qs(text, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError as error:
        raise Refused(400, "form") from error
    return {name: values[-1] for name, values in fields.items()}


def protect(request: Request, response: Response) -> None:
    """Headers on every answer, and the session's cookie on its first; a page's own ones stay."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.state.is_new and request.url.path not in (STYLE, ICON):
        keep(request, response, COOKIE, request.state.session)


def keep(
    request: Request, response: Response, name: str, value: str, seconds: int | None = None
) -> None:
    """Set a cookie that no script reads and no other site sends."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
