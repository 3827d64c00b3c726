"""The full report of a version, from wherever its run left it.

MLflow's run has a copy, ZenML has the artifact; a version that was measured anew since, or whose
run is gone, gets the page from its registered evaluation, which lacks the curves alone.
"""

import logging
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from cli.last_run import LastRun
from cli.review.desk import Desk
from cli.review.pages import TEMPLATES
from cli.review.words import Language, Translate, translator
from posttrain.evaluate.language import Text, in_language
from posttrain.evaluate.limits import outcome_sentence
from posttrain.evaluate.report import render
from posttrain.registry.overview import VersionSummary
from posttrain.registry.versions import LINEAGE
from posttrain.reports import Evaluation

logger = logging.getLogger(__name__)

REPORT = "report.html"
BEGINNING = re.compile(r"<main[^>]*>")


def report_of(desk: Desk, version: VersionSummary, name: str, language: Language) -> str | None:
    """The page, opened in a language; None of a version without an evaluation."""
    evaluation = desk.evaluation(name, version.number)
    if evaluation is None:
        return None
    told = (evaluation.held_out_hash, evaluation.policy_hash)
    for page in _of_run(desk, version, name):
        if all(one in page for one in told):
            return with_verdict(in_language(page, language), version)
    return _rendered(version, evaluation, language)


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


def _of_run(desk: Desk, version: VersionSummary, name: str) -> Iterator[str]:
    run_id = desk.version(name, version.number).run_id
    if run_id is not None and (page := _logged(run_id)) is not None:
        yield page
    zenml_run = version.tags.get(f"{LINEAGE}zenml_run_id")
    if desk.has_zenml and zenml_run is not None and (kept := _kept(zenml_run)) is not None:
        yield kept


def _logged(run_id: str) -> str | None:
    """MLflow's copy."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=REPORT, dst_path=folder
            )
        except (MlflowException, OSError):  # the run was deleted, or had its report from the cache
            return None
        return Path(file).read_text(encoding="utf-8")


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


def _rendered(version: VersionSummary, evaluation: Evaluation, language: Language) -> str:
    lineage = {
        tag.removeprefix(LINEAGE): value
        for tag, value in version.tags.items()
        if tag.startswith(LINEAGE)
    }
    data = {role: data.counts for role, data in evaluation.data.items()}
    return render(evaluation, {}, version.outcomes, data, lineage, language=language)
