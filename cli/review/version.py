"""One version: figures, gate, data, lineage, card; its report; and a person's decision on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from mlflow.exceptions import MlflowException
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from cli.review.decisions import ANSWERED, Undecided, answer_words, decide
from cli.review.desk import Desk, Versions, desk_of
from cli.review.pages import card_html, page, reader_of, remember
from cli.review.reports import report_of
from cli.review.runs import Asked, NoZenML, asked
from cli.review.words import Language
from posttrain.evaluate.wording import figure_names
from posttrain.figures import Figure
from posttrain.registry.overview import VersionSummary
from posttrain.registry.versions import LINEAGE, read_card
from posttrain.reports import Evaluation

router = APIRouter()

HASHES = (
    "content_hash",
    "policy_hash",
    "base_version",
    "base_fingerprint",
    "tokenizer_hash",
    "template_hash",
    "held_out_hash",
)
DATA = f"{LINEAGE}data."
DONE = ("approve", "promote", "reject", ANSWERED)

NEED_A_TICK = ("needs_overrule", "needs_overrule_unjudged")
"""Refusals after which the form has the box to tick."""

REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""A report shows what models wrote: it runs nothing, and is of no origin."""


@dataclass(frozen=True)
class RoleRow:
    """A role's data, in a line of the table."""

    name: str
    source: str | None
    revision: str | None
    rows: int | None
    quarantined: int
    sha: str


@router.get("/models/{name}/versions/{number}")
def show_version(request: Request, name: str, number: int) -> Response:
    """Everything that is known of a version."""
    done = request.query_params.get("done", "")
    return _page(request, name, number, {"done": done if done in DONE else ""})


@router.post("/models/{name}/versions/{number}/decision")
def decide_version(request: Request, name: str, number: int) -> Response:
    """Approve, promote or reject."""
    form = request.state.form
    try:
        done, who = decide(desk_of(request), name, number, form)
    except Undecided as error:
        told = error.in_(reader_of(request).language)
        again: dict[str, Any] = {
            "error": told,
            "why": form.get("why", ""),
            "who": form.get("who", ""),
        }
        if error.key in NEED_A_TICK:
            again["needs_overrule"] = True
        return _page(request, name, number, again, error.status)
    address = request.url_for("show_version", name=name, number=number).path
    response = RedirectResponse(f"{address}?done={done}", 303)
    remember(request, response, who)
    return response


@router.get("/models/{name}/versions/{number}/report")
def show_report(request: Request, name: str, number: int) -> Response:
    """The full report, as the run wrote it."""
    desk = desk_of(request)
    found = report_of(desk, desk.versions(name)[number], name, reader_of(request).language)
    if found is None:
        raise HTTPException(404)
    return HTMLResponse(found, headers={"Content-Security-Policy": REPORT_POLICY})


def _page(
    request: Request, name: str, number: int, more: Mapping[str, Any], status: int = 200
) -> Response:
    desk = desk_of(request)
    found = desk.versions(name)
    version, evaluation = found[number], desk.evaluation(name, number)
    state = _asked(desk, found, number)
    values = {
        "model": name,
        "here": "version",
        "version": version,
        "champion": found.champion,
        "previous": found.previous,
        "reasons": version.tags.get("gate_reasons", "").splitlines(),
        "figures": _figures(evaluation),
        "has_report": evaluation is not None,
        "data": data_rows(version, evaluation),
        "lineage": lineage_rows(version),
        "card": _card(desk.client, desk.version(name, number)),
        "zenml": desk.links.run(version.tags),
        "mlflow": desk.links.version(name, number),
        **_run_values(state, version, reader_of(request).language),
        "done": "",
        "error": "",
        "why": "",
    }
    return page(request, "version.html", {**values, **more}, status)


def _figures(evaluation: Evaluation | None) -> list[tuple[str, Figure]]:
    if evaluation is None:
        return []
    last = evaluation.stages[-1].figures
    return [(name, last[name]) for name in figure_names(evaluation) if name in last]


def data_rows(version: VersionSummary, evaluation: Evaluation | None) -> list[RoleRow]:
    """What each role's data were, by the evaluation, or by the tags alone."""
    hashes = {
        tag.removeprefix(DATA): sha for tag, sha in version.tags.items() if tag.startswith(DATA)
    }
    told = evaluation.data if evaluation else {}
    return [
        RoleRow(
            name=role,
            source=told[role].source if role in told else None,
            revision=told[role].revision if role in told else None,
            rows=told[role].counts.get("rows") if role in told else None,
            quarantined=sum(told[role].quarantined.values()) if role in told else 0,
            sha=sha,
        )
        for role, sha in hashes.items()
    ]


def lineage_rows(version: VersionSummary) -> list[tuple[str, str]]:
    """Where a version came from, and the hashes that it is known by."""
    told = [
        (tag.removeprefix(LINEAGE), value)
        for tag, value in version.tags.items()
        if tag.startswith(LINEAGE) and not tag.startswith(DATA)
    ]
    return told + [(name, version.tags[name]) for name in HASHES if name in version.tags]


def _card(client: Any, version: Any) -> tuple[str, str] | None:
    try:
        return card_html(read_card(client, version))
    except (MlflowException, OSError):  # a version that somebody registered without one
        return None


def _asked(desk: Desk, found: Versions, number: int) -> Asked | None:
    """What ZenML knows of runs that ask about a version; None where it does not answer."""
    if not desk.has_zenml or number == found.champion:
        return Asked()
    try:
        return asked(found.name, number)
    except NoZenML:
        return None


def _run_values(state: Asked | None, version: VersionSummary, language: Language) -> dict[str, Any]:
    """The run that waits, for the template; its own gate's word counts, not the tag's."""
    known = state or Asked()
    waits, answer = known.waiting, known.answer or (known.waiting and known.waiting.answer)
    passed = waits.proposal.passed if waits is not None else version.gate == "passed"
    return {
        "is_waiting": waits is not None,
        "is_unknown": state is None,
        "answer": answer_words(answer, language) if answer else None,
        "has_failed": known.has_failed,
        "needs_overrule": not passed,
        "is_judged": waits is not None or version.gate is not None,
    }
