"""The full report of a version, from wherever the run left it."""

from cli.review.desk import Desk
from cli.review.words import Language
from posttrain.evaluate.report import render
from posttrain.registry.overview import VersionSummary
from posttrain.registry.versions import LINEAGE


def report_of(desk: Desk, version: VersionSummary, name: str, language: Language) -> str | None:
    """What the run wrote, else the same page from the registered evaluation, without curves."""
    return _of_run(desk, version) or _rendered(desk, version, name)


def _of_run(desk: Desk, version: VersionSummary) -> str | None:
    run_id = version.tags.get(f"{LINEAGE}zenml_run_id")
    if not desk.has_zenml or run_id is None:
        return None
    from zenml.client import Client

    from cli.last_run import LastRun

    try:
        return LastRun(Client().get_pipeline_run(run_id), ()).report
    except KeyError:  # deleted, or of another ZenML
        return None


def _rendered(desk: Desk, version: VersionSummary, name: str) -> str | None:
    evaluation = desk.evaluation(name, version.number)
    if evaluation is None:
        return None
    lineage = {
        tag.removeprefix(LINEAGE): value
        for tag, value in version.tags.items()
        if tag.startswith(LINEAGE)
    }
    data = {role: data.counts for role, data in evaluation.data.items()}
    return render(evaluation, {}, version.outcomes, data, lineage)
