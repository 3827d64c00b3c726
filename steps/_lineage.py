"""Which run made this, and from which state of the code."""

import os
import subprocess
from pathlib import Path

from zenml import get_step_context
from zenml.client import Client
from zenml.models import PipelineRunResponse
from zenml.orchestrators import ContainerizedOrchestrator

REVISION = "POSTTRAIN_REVISION"
"""Commit that an image was built from; set by its Dockerfile."""

UNKNOWN = "unknown"

ROOT = Path(__file__).parent.parent


def lineage() -> dict[str, str]:
    """ZenML's pipeline and run, the code's commit, and the image of each step that ran in one."""
    context = get_step_context()
    found = {
        "zenml_pipeline": context.pipeline.name,
        "zenml_run": context.pipeline_run.name,
        "zenml_run_id": str(context.pipeline_run.id),
    }
    commit = _git("rev-parse", "HEAD")
    if commit is not None:
        found["git_commit"] = commit + ("-dirty" if _git("status", "--porcelain") else "")
    elif os.environ.get(REVISION, UNKNOWN) != UNKNOWN:
        found["git_commit"] = os.environ[REVISION]
    return found | images(context.pipeline_run)


def images(run: PipelineRunResponse) -> dict[str, str]:
    """`image.<step>`: what each step ran in; empty where the stack has no containers."""
    orchestrator = Client().active_stack.orchestrator
    if not isinstance(orchestrator, ContainerizedOrchestrator) or run.snapshot is None:
        return {}
    steps = run.snapshot.step_configurations
    return {f"image.{name}": orchestrator.get_image(run.snapshot, name) for name in steps}


def _git(*words: str) -> str | None:
    """Git's answer; None in an image, which holds no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
