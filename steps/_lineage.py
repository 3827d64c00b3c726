"""Which run made this, and from which state of the code."""

import subprocess
from pathlib import Path

from zenml import get_step_context

ROOT = Path(__file__).parent.parent


def lineage() -> dict[str, str]:
    """ZenML's pipeline and run, and the git commit where the code is a checkout."""
    context = get_step_context()
    found = {
        "zenml_pipeline": context.pipeline.name,
        "zenml_run": context.pipeline_run.name,
        "zenml_run_id": str(context.pipeline_run.id),
    }
    commit = _git("rev-parse", "HEAD")
    if commit is not None:
        found["git_commit"] = commit + ("-dirty" if _git("status", "--porcelain") else "")
    return found


def who() -> str:
    """Whose run decides: ZenML's user and the run, as the promotion history keeps it."""
    run = get_step_context().pipeline_run
    user = run.user.name if run.user is not None else "nobody"
    return f"{user}, run {run.name}"


def _git(*words: str) -> str | None:
    """Git's answer; None in an image, which holds no checkout."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
