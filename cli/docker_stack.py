"""`posttrain stack docker`: every step in a container of its own, on this machine.

ZenML's local_docker orchestrator beside the embedded stack's store, tracker and registry, which
each container sees at the path that they have here. Running it again brings the stack up to date.
Which image a step runs in is said in the run's YAML.
"""

import os
from pathlib import Path
from typing import Any

from cli.stack import REGISTRY, TRACKER, embedded

STACK = "posttrain_docker"
LABEL = "posttrain.stack"
"""On every container of a step, so that `docker ps --filter label=posttrain.stack` finds them."""

IMAGE_USER = 10001
"""The images' own user; serves where root starts the run."""

APP = Path("/app")
READ_ONLY = ("data", "recipes")
"""Folders of the checkout that containers see as they are here, not as they were at the build."""

RUN_HERE = ("env", "checkov")
"""What make and people on this machine run from the state: no step may write it. The rest lies on
one mount, for artifacts are links into the store."""


def docker(state: Path, gpus: str | None, network: str | None, mounts: list[Path]) -> None:
    """Register the stack; the embedded one stays active.

    Args:
        state: folder of the embedded stack's state.
        gpus: "all", a number, or none.
        network: engine's network for the steps; its default one where absent.
        mounts: folders of data that steps may read, each at its own path.

    Raises:
        ValueError: a mount is not there, or a folder of the state lies where containers can't see.
    """
    from filelock import FileLock

    embedded(state)
    with FileLock(str(state / "setup.lock"), timeout=300):
        arguments = run_arguments(state.resolve(), gpus, network, mounts)
        _stack({"run_args": arguments})
        if os.getuid() == 0:
            _share(state, IMAGE_USER)


def run_arguments(
    state: Path, gpus: str | None, network: str | None, mounts: list[Path]
) -> dict[str, Any]:
    """What the engine is told for every step: user, limits, folders, devices."""
    found: dict[str, Any] = {
        "user": _user(),
        "init": True,  # a first process that passes SIGTERM on: Python as the first ignores it
        "read_only": True,
        # native code that is compiled at run time lands here
        "tmpfs": {"/tmp": "exec,mode=1777"},  # noqa: S108 -- the container's own
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "shm_size": "1g",  # processes of one stage exchange tensors there
        "labels": {LABEL: STACK},
        "environment": _environment(state, mounts),
        "volumes": _volumes(state, mounts),
    }
    if network is not None:
        found["network"] = network
    if gpus is not None:
        found["device_requests"] = [{"count": _count(gpus), "capabilities": [["gpu"]]}]
    return found


def _user() -> str:
    """Whoever starts the run owns what it leaves; root hands the steps to the images' user."""
    if os.getuid() == 0:
        return f"{IMAGE_USER}:{IMAGE_USER}"
    return f"{os.getuid()}:{os.getgid()}"


def _count(gpus: str) -> int:
    if gpus == "all":
        return -1
    if gpus.isdecimal() and int(gpus) > 0:
        return int(gpus)
    raise ValueError(f"--gpus {gpus}: not a number of GPUs; give `all` or a number from 1")


def _environment(state: Path, mounts: list[Path]) -> dict[str, str]:
    from zenml.config.global_config import GlobalConfiguration

    from posttrain.runtime import Runtime

    # by name: ZenML keeps them in clear, and POSTTRAIN_REVIEW_TOKEN is a password
    names = [f"POSTTRAIN_{field.upper()}" for field in Runtime.model_fields]
    names.append("ZENML_LOGGING_VERBOSITY")
    given = {name: os.environ[name] for name in names if name in os.environ}
    if mounts:  # what is mounted for the steps, a recipe may read
        named = [given.get("POSTTRAIN_ROOTS"), *(str(mount.resolve()) for mount in mounts)]
        given["POSTTRAIN_ROOTS"] = os.pathsep.join(filter(None, named))
    # Artifacts are linked into the store, and a link does not cross from one mount to another.
    work = Path(GlobalConfiguration().local_stores_path) / "work"
    return given | {"POSTTRAIN_WORK": str(work), "HF_HOME": str(state / "huggingface")}


def _volumes(state: Path, mounts: list[Path]) -> dict[str, dict[str, str]]:
    from posttrain.runtime import Runtime

    runtime = Runtime.from_environment()
    folders = [runtime.cache]
    if "://" not in runtime.checkpoints:
        folders.append(Path(runtime.checkpoints))
    tracking = os.environ["MLFLOW_TRACKING_URI"]
    if tracking.startswith("sqlite:///"):
        folders.append(Path(tracking.removeprefix("sqlite:///")))
    for folder in folders:
        if not folder.resolve().is_relative_to(state):
            raise ValueError(
                f"{folder}: outside {state}, where no container sees it; "
                "set POSTTRAIN_CACHE, POSTTRAIN_CHECKPOINTS and MLFLOW_TRACKING_URI below it"
            )
    found = {str(state): {"bind": str(state), "mode": "rw"}}
    (state / "checkov").mkdir(exist_ok=True)  # else a step could, and fill it
    for path in (state / name for name in RUN_HERE):
        if path.exists():
            found[str(path)] = {"bind": str(path), "mode": "ro"}
    for name in READ_ONLY:
        found[str(Path(name).resolve())] = {"bind": str(APP / name), "mode": "ro"}
    for mount in mounts:
        if not mount.exists():
            raise ValueError(f"--mount {mount}: no such folder")
        found[str(mount.resolve())] = {"bind": str(mount.resolve()), "mode": "ro"}
    return found


def _stack(configuration: dict[str, Any]) -> None:
    from zenml.client import Client
    from zenml.enums import StackComponentType as Kind

    client = Client()
    for kind, flavor, values in (
        (Kind.ORCHESTRATOR, "local_docker", configuration),
        (Kind.IMAGE_BUILDER, "local", {}),  # the orchestrator asks for one; make builds the images
    ):
        if not client.list_stack_components(type=kind, name=STACK).items:
            client.create_stack_component(STACK, flavor, kind, values)
        elif values:
            client.update_stack_component(STACK, kind, configuration=values)
    if not client.list_stacks(name=STACK).items:
        components: dict[Kind, Any] = {
            Kind.ORCHESTRATOR: STACK,
            Kind.IMAGE_BUILDER: STACK,
            Kind.ARTIFACT_STORE: "default",
            Kind.EXPERIMENT_TRACKER: TRACKER,
            Kind.MODEL_REGISTRY: REGISTRY,
        }
        client.create_stack(STACK, components)


def _share(folder: Path, group: int) -> None:
    """Let the group write all that lies in the folder, and own what will, but RUN_HERE."""
    kept = tuple(folder / name for name in RUN_HERE)
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink() or any(path.is_relative_to(one) for one in kept):
            continue
        os.chown(path, -1, group)
        mode = path.stat().st_mode
        path.chmod(mode | (0o2070 if path.is_dir() else 0o060))
