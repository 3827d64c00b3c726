"""The full report of a version, from wherever its run left it.

MLflow's run has a copy, ZenML has the artifact; a version that was measured anew since, or whose
run is gone, gets the page from its registered evaluation, which lacks the curves alone.
"""

from collections.abc import Iterator

from cli.last_run import LastRun
from cli.review.desk import Desk
from cli.review.words import Language
from posttrain.evaluate.language import in_language
from posttrain.registry.overview import VersionSummary
from posttrain.registry.version_report import logged_report, report_without_curves, tells_of
from posttrain.registry.versions import LINEAGE
from posttrain.reports import Evaluation


def report_of(desk: Desk, version: VersionSummary, name: str, language: Language) -> str | None:
    """The page, opened in a language; None of a version without an evaluation."""
    evaluation = desk.evaluation(name, version.number)
    if evaluation is None:
        return None
    for page in _of_run(desk, version, name, evaluation):
        return in_language(page, language)
    return report_without_curves(evaluation, version.outcomes, version.tags, language)


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
