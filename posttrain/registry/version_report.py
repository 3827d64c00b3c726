"""A registered version's report: the page of its run, or one made of its registered evaluation."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException

from posttrain.decisions import RuleOutcome
from posttrain.evaluate.report import PAGE, render
from posttrain.recipe.evaluation import Language
from posttrain.registry.versions import LINEAGE
from posttrain.reports import Evaluation


def logged_report(run_id: str | None, evaluation: Evaluation) -> str | None:
    """The page of an MLflow run, where it is there and tells of this evaluation."""
    if run_id is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=PAGE, dst_path=folder
            )
        except (MlflowException, OSError):  # the run was deleted, or had its report from the cache
            return None
        page = Path(file).read_text(encoding="utf-8")
    return page if tells_of(page, evaluation) else None


def tells_of(page: str, evaluation: Evaluation) -> bool:
    """Whether a page was made of this evaluation: a version may be measured anew."""
    return evaluation.held_out_hash in page and evaluation.policy_hash in page


def report_without_curves(
    evaluation: Evaluation,
    outcomes: tuple[RuleOutcome, ...],
    tags: Mapping[str, str],
    language: Language,
    **named: str,
) -> str:
    """The page of what the registry holds; `named` stands before the tags' lineage."""
    lineage = {
        tag.removeprefix(LINEAGE): text for tag, text in tags.items() if tag.startswith(LINEAGE)
    }
    counts = {role: data.all_counts for role, data in evaluation.data.items()}
    return render(evaluation, None, outcomes, counts, named | lineage, language=language)
