"""Runs that ZenML and MLflow hold for running though nobody runs them any more."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow.entities import Run
    from zenml.models import PipelineRunResponse

    from posttrain.started import Fate

Say = Callable[[str], None]

WHY = "its process is gone (posttrain doctor)"
PAGE = 100


@dataclass(frozen=True)
class Unfinished:
    """A run of ZenML's that has not ended, as far as that knows."""

    run: "PipelineRunResponse"
    fate: "Fate"
    why: str
    go_on: str

    @property
    def told(self) -> str:
        return f"run {self.run.name} ({self.run.status.value}): {self.why}"


def unfinished() -> list[Unfinished]:
    """Every run that ZenML holds for running, judged; those that wait for a person are none."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    left = [one for one in ExecutionStatus if not one.is_finished]
    runs = [
        run
        for status in left
        if status != ExecutionStatus.PAUSED
        for run in _all(
            lambda page, status=status: Client().list_pipeline_runs(  # type: ignore[misc]
                status=status.value, hydrate=True, page=page, size=PAGE
            )
        )
    ]
    return [judged(run) for run in runs]


def judged(run: "PipelineRunResponse") -> Unfinished:
    """What became of a run's process; `unknown` wherever another may have taken it over."""
    from steps._started import starter

    started = starter(run.config)
    if started is None:
        return Unfinished(run, "unknown", "no pipeline of ours started it; left alone", "")
    if (elsewhere := _elsewhere(run)) is not None:
        return Unfinished(run, "unknown", elsewhere, started.go_on)
    fate = started.fate(store_is_local=_store_is_local())
    why = {
        "alive": f"process {started.pid} runs it; left alone",
        "dead": f"process {started.pid} of {started.host}, which ran it, is gone",
        "unknown": f"process {started.pid} of {started.host} started it, which can't be seen from "
        "here; left alone: ask there",
    }[fate]
    return Unfinished(run, fate, why, started.go_on)


def mark(run: "PipelineRunResponse") -> None:
    """Tell ZenML that a run and its steps in progress have failed."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus
    from zenml.models import PipelineRunUpdate, StepRunUpdate

    store = Client().zen_store
    failed, now = ExecutionStatus.FAILED, datetime.now(UTC).replace(tzinfo=None)
    for step in run.steps.values():
        if not step.status.is_finished:
            store.update_run_step(step.id, StepRunUpdate(status=failed, end_time=now))
    store.update_run(run.id, PipelineRunUpdate(status=failed, status_reason=WHY))


def _elsewhere(run: "PipelineRunResponse") -> str | None:
    """Why the process that started a run says nothing about it, or None where it does."""
    from zenml.enums import StackComponentType

    if run.snapshot is not None and run.snapshot.is_dynamic:
        return "it waits for a person, and another process may have resumed it; left alone"
    stack = run.stack
    orchestrator = stack.components[StackComponentType.ORCHESTRATOR][0] if stack else None
    if orchestrator is None or orchestrator.flavor_name != "local":
        flavor = orchestrator.flavor_name if orchestrator else "none"
        return (
            f"its steps run elsewhere (orchestrator: {flavor}); left alone: look there, or "
            f"`zenml pipeline runs refresh {run.name}`"
        )
    return None


def _store_is_local() -> bool:
    from zenml.client import Client

    return Client().zen_store.is_local_store()


def _all(list_page: Callable[[int], Any]) -> Iterator[Any]:
    number, pages = 1, 1
    while number <= pages:
        page = list_page(number)
        yield from page.items
        number, pages = number + 1, page.total_pages


def spools(dry_run: bool, say: Say) -> None:
    """Send what processes that are gone had no time to tell MLflow."""
    from posttrain import spool

    for place in _places():
        waiting = sum(len(file.unsent()) for file in spool.left(place))
        if waiting and dry_run:
            say(f"{place}: {waiting} lines wait for MLflow; without --dry-run they are sent")
        elif waiting:
            stay = spool.send_left(place)
            say(f"{place}: {waiting - stay} of {waiting} lines sent to MLflow")
        for file in sorted(place.glob("*.refused")):
            say(f"{file}: MLflow refused these lines; read them, and delete the file")


def _places() -> Iterable[Path]:
    """Spools of this machine: that of steps in this environment, and that of containers."""
    from zenml.config.global_config import GlobalConfiguration

    from posttrain import spool

    return sorted({spool.folder(), Path(GlobalConfiguration().local_stores_path) / "work/spool"})


def tracked_runs(found: list[Unfinished], dry_run: bool, say: Say) -> None:
    """End the runs of MLflow's whose run of ZenML's has ended, or is of a process that is gone."""
    from mlflow import MlflowClient

    from steps._registry import find_registry

    find_registry()
    client, dead = MlflowClient(), {one.run.name for one in found if one.fate == "dead"}
    for run in list(_running(client)):  # all, before one ends and the pages move
        parent = run.data.tags.get("mlflow.parentRunId")
        owner = client.get_run(parent).info.run_name if parent else run.info.run_name
        status = "FAILED" if owner in dead else _status_of(owner)
        if "zenml" in run.data.tags and status is not None:
            say(f"MLflow's run {run.info.run_name} ({run.info.run_id}) of {owner}: {status}")
            if not dry_run:
                client.set_terminated(run.info.run_id, status)


def _running(client: Any) -> "Iterator[Run]":
    token = None
    experiments = [one.experiment_id for one in client.search_experiments()]
    while token != "":
        page = client.search_runs(
            experiments, "attributes.status = 'RUNNING'", max_results=PAGE, page_token=token
        )
        yield from page
        token = page.token or ""


def _status_of(name: str) -> str | None:
    """How a run of ZenML's ended, in MLflow's words; None where it goes on or is not known."""
    from zenml.client import Client
    from zenml.enums import ExecutionStatus

    found = Client().list_pipeline_runs(name=name, size=1).items
    if not found or not found[0].status.is_finished:
        return None
    return "FINISHED" if found[0].status == ExecutionStatus.COMPLETED else "FAILED"


def locks(say: Say) -> None:
    """Who holds the locks of registered models; one that is over is taken over by whoever waits."""
    from mlflow import MlflowClient

    from posttrain.registry.lock import held
    from posttrain.registry.versions import model_names

    client = MlflowClient()
    for name in model_names(client):
        if (holder := held(client, name)) is not None:
            say(f"{name}: locked by {holder}; then the next decision takes the lock over")
