"""The full report of a version, from wherever its run left it.

MLflow's run has a copy, ZenML has the artifact; a version that was measured anew since, or whose
run is gone, gets the page from its registered evaluation, which lacks the curves alone.
"""

import logging
import re
from collections.abc import Callable, Iterator

from cli.last_run import LastRun
from cli.review.desk import Desk
from cli.review.pages import TEMPLATES
from cli.review.words import Language, Translate, translator
from posttrain.evaluate.language import Text, in_language
from posttrain.evaluate.limits import outcome_sentence
from posttrain.evaluate.report import judged_again
from posttrain.registry.overview import VersionSummary
from posttrain.registry.version_report import logged_report, report_without_curves, tells_of
from posttrain.registry.versions import LINEAGE
from posttrain.reports import Evaluation

logger = logging.getLogger(__name__)

BEGINNING = re.compile(r"<main[^>]*>")


def report_of(desk: Desk, version: VersionSummary, name: str, language: Language) -> str | None:
    """The page, opened in a language; None of a version without an evaluation."""
    evaluation = desk.evaluation(name, version.number)
    if evaluation is None:
        return None
    for page in _of_run(desk, version, name, evaluation):
        judged = judged_again(page, version.outcomes) if version.outcomes else None
        return with_verdict(in_language(judged or page, language), version)
    return report_without_curves(evaluation, version.outcomes, version.tags, language)


def with_verdict(page: str, version: VersionSummary) -> str:
    """A run's page under what was said of the version since: by the gate, then by a person.

    The run wrote it before its gate looked at the champion.
    """
    if version.gate is None and version.decision is None:
        return page
    rows = [outcome_sentence(one) for one in version.outcomes if not one.passed]
    good, entry = version.gate == "passed", version.decision
    values = {"rows": rows, "good": good, "said": both(_gate_word(version)), "entry": entry}
    if entry is not None:
        values["did"] = both(lambda t: t(f"did_{entry.action}"))
    box = TEMPLATES.get_template("verdict.html").render(values)
    return BEGINNING.sub(lambda found: found[0] + box, page, count=1)


def both(text: Callable[[Translate], str]) -> Text:
    """A text of the page's catalogue in the languages of a report."""
    return Text(en=text(translator("en")), ko=text(translator("ko")))


def _gate_word(version: VersionSummary) -> Callable[[Translate], str]:
    word = f"gate_{version.gate or 'none'}"
    return lambda t: t("gate_word", number=version.number, word=t(word))


def _of_run(
    desk: Desk, version: VersionSummary, name: str, evaluation: Evaluation
) -> Iterator[str]:
    logged = logged_report(desk.version(name, version.number).run_id, evaluation)
    if logged is not None:
        yield logged
    zenml_run = version.tags.get(f"{LINEAGE}zenml_run_id")
    if desk.has_zenml and zenml_run is not None:
        kept = _kept(zenml_run)
        if kept is not None and tells_of(kept, evaluation):
            yield kept


def _kept(run_id: str) -> str | None:
    """ZenML's artifact."""
    from zenml.client import Client

    try:
        return LastRun(Client().get_pipeline_run(run_id), ()).report
    except (KeyError, ValueError):  # deleted, or of another ZenML
        return None
    except Exception:  # whatever ZenML's client raises where its server or database is gone
        logger.warning("ZenML does not answer; the report is drawn anew", exc_info=True)
        return None
