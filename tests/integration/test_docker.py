"""Every step in a container of its own, for real: needs an engine, a base image and minutes.

`.ci/docker` brings up an engine where none answers. What `make images` takes from the environment
(BASE, PIP_FIND_LINKS, ...) is taken here too.
"""

import json
import os
import re
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Metric

from cli.docker_stack import IMAGE_USER
from tests.integration.conftest import ROOT, Checkout
from tests.integration.on_docker import (
    TAG,
    TRAINED,
    checkpoints,
    containers,
    docker,
    forget,
    last_checkpoint,
    running,
    step_of,
    training,
)
from tests.saved import holds

pytestmark = pytest.mark.slow

IMAGES = ("data", "train", "registry")
PLANTED = "planted-3f9c1e7ab2"
INSIDE = (ROOT / "posttrain/contract.py").read_text(encoding="utf-8").splitlines()[0]
"""What every image holds: a line of the code."""

SECRETS = dict.fromkeys(("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"), PLANTED)
SECRETS["POSTTRAIN_REVIEW_TOKEN"] = PLANTED

EVERY = 200
"""Steps from one checkpoint to the next."""

CUT_DOWN: dict[str, Any] = {
    "base_finetune__max_steps": 8 * EVERY,
    "base_finetune__checkpoint_every_steps": EVERY,
    "ingest__preferences__limit": 60,
    "ingest__prompts__limit": 60,
    "ingest__probes__limit": 40,
    "reward_model__max_steps": 2,
    "reward_model__max_new_tokens": 8,
    "ppo__num_iterations": 1,
    "ppo__batch_size": 8,
    "ppo__num_held_out": 8,
    "ppo__max_new_tokens": 8,
    "self_critique__max_steps": 2,
    "self_critique__max_new_tokens": 8,
    "self_critique__min_critic_accuracy": 0,
    "self_critique__no_fault_markers": [""],  # so small a model mends nothing
}
STEPS = ("ingest", "validate", "base_model", "template", "tokenize", TRAINED, "sft")
STEPS += ("reward_model", "ppo", "self_critique", "evaluate", "register", "promote")
MISSING = """
from importlib.metadata import distributions
print(*(file for one in distributions() if one.read_text("RECORD") for file in one.files or ()
        if file.suffix == ".py" and not {"test", "tests"} & set(file.parts)
        and not file.locate().exists()))
"""
"""Files of installed libraries that are not there: two layers hold what was installed as one."""

IMAGE_OF = {
    "ingest": "data",
    "validate": "data",
    "register": "registry",
    "promote": "registry",
}


@pytest.fixture(scope="module", autouse=True)
def group_may_write() -> Iterator[None]:
    """As `make demo-docker`: the containers' group writes what root's part of a run made."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.fixture(scope="module")
def images() -> None:
    try:
        subprocess.run(["docker", "version"], capture_output=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("NO DOCKER ENGINE answers; `.ci/docker` brings one up where it may")
    environment = {**os.environ, **SECRETS}
    if "PIP_FIND_LINKS" in environment:  # as an index with a password would have it
        environment["PIP_FIND_LINKS"] = with_password(environment["PIP_FIND_LINKS"])
    done = subprocess.run(
        ["make", "--jobs=3", "images", f"TAG={TAG}", "CPU=1"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def with_password(address: str) -> str:
    return address.replace("://", f"://reader:{PLANTED}@") if "@" not in address else address


@pytest.fixture(scope="module")
def world(images: None, checkout: Checkout) -> Iterator[Checkout]:
    checkout.environment |= SECRETS
    checkout.command("posttrain", "stack", "docker")
    forget()  # what another stack's runs left would be taken for ours
    yield checkout
    forget()


@pytest.fixture(scope="module")
def config(world: Checkout) -> Path:
    """The default run, cut down, on images of these tests."""
    file = world.config(**CUT_DOWN)
    text = file.read_text(encoding="utf-8")
    assert text.count(":local") == len(IMAGES) + 2  # two steps each for data and registry
    file.write_text(text.replace(":local", f":{TAG}"), encoding="utf-8")
    return file


@dataclass(frozen=True)
class Finished:
    """A run killed in mid-training, started again and stopped, and started again to its end."""

    killed_at: int
    """Newest checkpoint when SIGKILL came."""

    stopped_at: int
    """Newest checkpoint after SIGTERM."""

    kept: bool
    """Whether the first attempt's checkpoint was still the same file when the next had saved."""

    said: str
    containers: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(world: Checkout, config: Path) -> Finished:
    with running(world, config, "killed") as run:
        container = run.until(lambda: last_checkpoint(world) >= EVERY and training())
        docker("kill", "--signal", "KILL", container)
        assert run.code() != 0
        said = run.said()
    killed_at = last_checkpoint(world)
    written = checkpoints(world)[killed_at].stat().st_mtime_ns

    with running(world, config, "stopped") as run:
        run.until(lambda: last_checkpoint(world) > killed_at)
        kept = checkpoints(world)[killed_at].stat().st_mtime_ns == written
        docker("stop", "--time", "120", run.until(training))
        assert run.code() != 0
        said += run.said()
    stopped_at = last_checkpoint(world)

    with running(world, config, "finished") as run:
        assert run.code() == 0, run.said()[-3000:]
        said += run.said()
    return Finished(killed_at, stopped_at, kept, said, containers())


def test_a_killed_container_is_resumed_by_the_same_command(
    world: Checkout, finished: Finished
) -> None:
    statuses = world.statuses()
    assert statuses["validate"] == "cached"
    assert {statuses[step] for step in (TRAINED, "promote")} == {"completed"}
    assert EVERY <= finished.killed_at < finished.stopped_at < CUT_DOWN["base_finetune__max_steps"]
    assert finished.kept  # beginning anew writes it once more
    # what a checkpoint hands on is logged at once, what is trained anew takes its time
    since = (finished.killed_at, finished.stopped_at)
    for points, step in zip(curves(world)[1:], since, strict=True):
        handed_on = [point for point in points if point.step <= step]
        assert pace(handed_on) < pace(points[len(handed_on) :]) / 2


def pace(points: list[Metric]) -> float:
    """Milliseconds from one point to the next."""
    return float(points[-1].timestamp - points[0].timestamp) / (len(points) - 1)


def curves(world: Checkout) -> list[list[Metric]]:
    """The losses that each attempt at the stage logged to MLflow, in their order."""
    client, runs = tracked(world)
    attempts = [run for run in runs if run.info.run_name == TRAINED]
    attempts.sort(key=lambda run: int(run.info.start_time))
    histories = [client.get_metric_history(run.info.run_id, "train/loss") for run in attempts]
    return [sorted(points, key=lambda point: int(point.step)) for points in histories]


def tracked(world: Checkout) -> tuple[mlflow.MlflowClient, list[Any]]:
    client = mlflow.MlflowClient(world.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("posttrain")
    return client, list(client.search_runs([experiment.experiment_id]))


def test_a_stopped_container_saves_and_its_step_has_failed(finished: Finished) -> None:
    attempts = [c for c in finished.containers if step_of(c) == TRAINED]
    codes = [container["State"]["ExitCode"] for container in attempts]
    assert codes == [128 + signal.SIGKILL, 128 + signal.SIGTERM, 0]
    logs = subprocess.run(
        ["docker", "logs", attempts[1]["Id"]], capture_output=True, text=True, check=True
    )
    found = re.search(r"training ended at step (\d+) of", logs.stdout + logs.stderr)
    assert found and int(found[1]) == finished.stopped_at


def test_every_step_runs_in_a_container_of_its_own(finished: Finished) -> None:
    ended_well = [c for c in finished.containers if c["State"]["ExitCode"] == 0]
    assert sorted(map(step_of, ended_well)) == sorted(STEPS)
    assert len({c["Id"] for c in ended_well}) == len(STEPS)
    for container in finished.containers:
        step = step_of(container)
        assert container["Config"]["Image"] == f"posttrain-{IMAGE_OF.get(step, 'train')}:{TAG}"


def test_no_step_is_root_or_may_write_its_image(world: Checkout, finished: Finished) -> None:
    user = os.getuid() or IMAGE_USER
    for container in finished.containers:
        host = container["HostConfig"]
        assert container["Config"]["User"].split(":")[0] == str(user)
        assert host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"]
    # what the engine was told is what happened: the files say who wrote them
    stores = world.root / ".posttrain" / "zenml" / "local_stores"
    weights = list(stores.rglob("*.safetensors"))
    assert weights and {file.stat().st_uid for file in weights} == {user}


def test_tracking_reaches_one_store(world: Checkout, finished: Finished) -> None:
    _, runs = tracked(world)
    nested = {run.info.run_name for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert set(STEPS[5:]) <= nested
    assert world.report()["promotion"]["promoted"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_its_own_libraries_and_no_build_tools(images: None, image: str) -> None:
    look = ("run", "--rm", "--entrypoint", "sh", f"posttrain-{image}:{TAG}", "-c")
    assert docker(*look, "command -v gcc cc make g++ /opt/venv/bin/pip || true") == ""
    installed = docker(*look, "ls /opt/venv/lib/python3*/site-packages").split()
    assert ("torch" in installed) == (image == "train")
    assert ("great_expectations" in installed) == (image == "data")
    assert not {"fastapi_cli", "pytest", "playwright", "mypy"} & set(installed)
    python = ("run", "--rm", "--entrypoint", "python3", f"posttrain-{image}:{TAG}", "-c")
    assert docker(*python, MISSING) == ""


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_says_what_it_is(images: None, image: str) -> None:
    found = json.loads(docker("inspect", f"posttrain-{image}:{TAG}"))[0]["Config"]
    labels = found["Labels"]
    assert labels["org.opencontainers.image.title"] == f"posttrain-{image}"
    assert labels["org.opencontainers.image.version"] == version()
    assert len(labels["org.opencontainers.image.revision"]) == len("0" * 40)
    assert found["User"] == f"{IMAGE_USER}:{IMAGE_USER}"
    assert found["Entrypoint"][0] == "python3"  # no shell between it and a signal


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


@pytest.mark.parametrize("image", IMAGES)
def test_no_secret_in_an_image(images: None, image: str) -> None:
    name = f"posttrain-{image}:{TAG}"
    assert PLANTED not in docker("history", "--no-trunc", name) + docker("inspect", name)
    saved = subprocess.Popen(["docker", "save", name], stdout=subprocess.PIPE)
    assert saved.stdout is not None
    found = holds(saved.stdout, (INSIDE, PLANTED))
    assert saved.wait() == 0
    assert INSIDE in found  # it looked into the layers
    assert PLANTED not in found


def test_no_secret_in_logs_containers_or_stores(world: Checkout, finished: Finished) -> None:
    assert PLANTED not in finished.said
    for container in finished.containers:
        assert PLANTED not in json.dumps(container)  # its environment among the rest
        assert PLANTED not in docker("logs", container["Id"])
    state = world.root / ".posttrain"  # MLflow's and ZenML's databases, artifacts, checkpoints
    found = subprocess.run(["grep", "-rlF", PLANTED, state], capture_output=True, check=False)
    assert found.stdout.decode() == "" and found.returncode == 1
