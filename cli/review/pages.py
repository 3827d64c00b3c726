"""Pages from templates: words, language, session, and the one model that a page is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote, unquote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from cli.review.security import keep
from cli.review.words import LANGUAGES, Language, known, preferred, translator
from posttrain.decisions import RuleOutcome
from posttrain.evaluate.limits import outcome_sentence
from posttrain.evaluate.wording import (
    figure_label,
    interval,
    is_part,
    lineage_label,
    number,
    stage_label,
)

LANGUAGE, WHO = "posttrain_language", "posttrain_who"
"""Cookies: the language that was chosen, and the name that was last signed with."""

YEAR = 365 * 24 * 3600
CARD_HEADER = "---\n"

TEMPLATES = Environment(
    loader=PackageLoader("cli.review", "templates"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")


@dataclass(frozen=True)
class Reader:
    """Who looks at the page, as far as it can be told."""

    language: Language
    who: str
    chosen: bool = field(default=False)
    """Whether the language was switched with this request."""


def reader_of(request: Request) -> Reader:
    """Language by query, cookie and browser; the name by cookie."""
    switched = known(request.query_params.get("lang"))
    cookie = known(request.cookies.get(LANGUAGE))
    accepted = preferred(request.headers.get("accept-language", ""))
    return Reader(switched or cookie or accepted, _read_name(request), switched is not None)


def page(
    request: Request, template: str, values: Mapping[str, Any], status: int = 200
) -> HTMLResponse:
    """Render a template in the reader's language."""
    reader = reader_of(request)
    common = {
        "t": translator(reader.language),
        "lang": reader.language,
        "languages": [(name, _switched(request, name)) for name in LANGUAGES],
        "who": reader.who,
        "code": request.state.code,
        "label": partial(figure_label, language=reader.language),
        "stage": partial(stage_label, language=reader.language),
        "lineage_label": partial(lineage_label, language=reader.language),
        "told": partial(outcome_rows, language=reader.language),
        "number": number,
        "interval": interval,
        "is_part": is_part,
        "moment": moment,
        "quote": lambda text: quote(text, safe=""),
        "model": None,
        "here": None,
    }
    text = TEMPLATES.get_template(template).render({**common, **values})
    response = HTMLResponse(text, status)
    if reader.chosen:
        keep(request, response, LANGUAGE, reader.language, YEAR)
    return response


def remember(request: Request, response: Any, who: str) -> None:
    """Fill the name in next time."""
    keep(request, response, WHO, quote(who), YEAR)


def style() -> str:
    """The report's style, so that both look alike, and what the page adds to it."""
    report = (files("posttrain.evaluate") / "templates" / "report.css").read_text(encoding="utf-8")
    own = (files("cli.review") / "templates" / "review.css").read_text(encoding="utf-8")
    return report + own


def card_html(card: str) -> tuple[str, Markup]:
    """A model card's header as it stands, and its body as HTML without any of the card's own."""
    header, body = "", card
    if card.startswith(CARD_HEADER):
        header, _, body = card.removeprefix(CARD_HEADER).partition(f"\n{CARD_HEADER}")
    tokens = MARKDOWN.parse(body)
    for token in tokens:
        if style := token.attrs.pop("style", None):  # a table's alignment, refused by our policy
            token.attrs["class"] = str(style).removeprefix("text-align:")
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    return header, Markup(html)  # noqa: S704 -- the parser lets no HTML of the card's through


def outcome_rows(outcomes: Sequence[RuleOutcome], language: Language) -> list[tuple[bool, str]]:
    """The gate's rules, each in a sentence."""
    return [(outcome.passed, outcome_sentence(outcome).in_(language)) for outcome in outcomes]


def moment(text: str) -> str:
    """A time of the registry's in UTC, to the minute."""
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")


def _read_name(request: Request) -> str:
    return unquote(request.cookies.get(WHO, ""))[:100]


def _switched(request: Request, language: Language) -> str:
    """This page in another language; of a form's answer, the page that it is about."""
    others = [(k, v) for k, v in request.query_params.multi_items() if k not in ("lang", "done")]
    path = quote(request.url.path, safe="/") if request.method == "GET" else "/"
    return f"{path}?{urlencode([*others, ('lang', language)])}"
