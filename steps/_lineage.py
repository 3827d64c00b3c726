"""Which run made this, and from which state of the code."""

import os
import subprocess
from pathlib import Path

from zenml import get_step_context
from zenml.enums import StackComponentType
from zenml.models import PipelineRunResponse
from zenml.orchestrators import ContainerizedOrchestrator

REVISION = "POSTTRAIN_REVISION"
"""Commit that an image was built from; set by its Dockerfile."""

UNKNOWN = "unknown"
ROOT = Path(__file__).parent.parent


def lineage() -> dict[str, str]:
    """ZenML's pipeline and run, the commit of checkout or image, and the images."""
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
    if by_step := images(context.pipeline_run):
        found["images"] = ", ".join(sorted(set(by_step.values())))
    return found


def who() -> str:
    """Whose run decides: ZenML's user and the run, as the promotion history keeps it."""
    run = get_step_context().pipeline_run
    user = run.user.name if run.user is not None else "nobody"
    return f"{user}, run {run.name}"


def origin() -> dict[str, str]:
    """The same, and `image.<step>` of each step: what stays with a version."""
    by_step = images(get_step_context().pipeline_run)
    return lineage() | {f"image.{step}": name for step, name in by_step.items()}


def images(run: PipelineRunResponse) -> dict[str, str]:
    """Step -> its image, by name or digest; empty where steps run without one."""
    snapshot, stack = run.snapshot, run.stack
    if snapshot is None or snapshot.build is None or stack is None:
        return {}
    orchestrator = stack.components[StackComponentType.ORCHESTRATOR][0]
    if orchestrator.flavor_name == "local":  # reads the images' names and starts none
        return {}
    image_of = ContainerizedOrchestrator.get_image
    return {step: image_of(snapshot, step) for step in snapshot.step_configurations}


def _git(*words: str) -> str | None:
    """Git's answer; None in an image, which holds no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
