"""`posttrain stack embedded`: the stack of one machine, with nothing to start or pay for.

ZenML's local orchestrator and artifact store, MLflow tracking and registry on one SQLite file.
Running it again changes nothing. A lock keeps two first runs from migrating one database at a time.
`posttrain stack docker` is `cli.docker_stack`.
"""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

STACK = "posttrain"
EXPERIMENT = "posttrain"
TRACKER = REGISTRY = "posttrain_mlflow"

stack = typer.Typer(help="Register a stack; `make` does it.", no_args_is_help=True)
State = Annotated[Path, typer.Option(help="Folder of its state.")]


@stack.command("embedded")
def embedded_command(state: State = Path(".posttrain")) -> None:
    """Every step in the process that starts the run."""
    embedded(state)


@stack.command("docker")
def docker_command(
    state: State = Path(".posttrain"),
    gpus: Annotated[str | None, typer.Option(help="`all`, or how many.")] = None,
    network: Annotated[str | None, typer.Option(help="The engine's network for steps.")] = None,
    mount: Annotated[
        list[Path] | None, typer.Option(help="Folder that steps may read, at its own path.")
    ] = None,
) -> None:
    """Every step in a container of its own; run with `zenml pipeline run -s posttrain_docker`."""
    from cli.docker_stack import docker

    docker(state, gpus, network, mount or [])


def embedded(state: Path) -> None:
    """Register and activate the stack whose state lies in `state`."""
    from filelock import FileLock

    state.mkdir(parents=True, exist_ok=True)
    with FileLock(str(state / "setup.lock"), timeout=300):
        uri = os.environ["MLFLOW_TRACKING_URI"]
        _experiment(uri, state / "mlflow-artifacts")
        _stack(uri)


def _experiment(uri: str, artifacts: Path) -> None:
    """Create MLflow's database and experiment: the artifacts' folder is fixed at creation."""
    from mlflow import MlflowClient

    client = MlflowClient(uri, uri)
    if client.get_experiment_by_name(EXPERIMENT) is None:
        client.create_experiment(EXPERIMENT, artifact_location=artifacts.resolve().as_uri())


def _stack(uri: str) -> None:
    from zenml.client import Client
    from zenml.enums import StackComponentType

    client = Client()
    if client.list_stacks(name=STACK).items:
        known = client.get_stack_component(StackComponentType.EXPERIMENT_TRACKER, TRACKER)
        if known.configuration["tracking_uri"] != uri:
            raise ValueError(
                f"the stack {STACK!r} tracks to {known.configuration['tracking_uri']}, and "
                f"MLFLOW_TRACKING_URI is {uri}: was the checkout moved? `make clean` starts anew"
            )
        client.activate_stack(STACK)
        return
    components: dict[StackComponentType, Any] = {
        StackComponentType.ORCHESTRATOR: "default",
        StackComponentType.ARTIFACT_STORE: "default",
    }
    for kind, name, configuration in (
        (StackComponentType.EXPERIMENT_TRACKER, TRACKER, {"tracking_uri": uri}),
        (StackComponentType.MODEL_REGISTRY, REGISTRY, {}),
    ):
        if not client.list_stack_components(type=kind, name=name).items:
            client.create_stack_component(name, "mlflow", kind, configuration)
        components[kind] = name
    client.create_stack(STACK, components)
    client.activate_stack(STACK)
