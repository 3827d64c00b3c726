"""Every step in a container of its own, for real: needs an engine, a base image and minutes.

`.ci/docker` brings up an engine where none answers. What `make images` takes from the environment
(BASE, PIP_FIND_LINKS, ...) is taken here too.
"""

import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest

from cli.docker_stack import IMAGE_USER, LABEL
from tests.integration.conftest import ROOT, Checkout

pytestmark = pytest.mark.slow

IMAGES = ("data", "train", "registry")
TAG = "test"
PLANTED = "planted-3f9c1e7ab2"
SECRETS = dict.fromkeys(("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD"), PLANTED)
RUN = ("zenml", "pipeline", "run", "pipelines.fine_tuning.fine_tuning", "-s", "posttrain_docker")

CUT_DOWN = {
    "base_finetune__max_steps": 600,
    "base_finetune__checkpoint_every_steps": 100,
}
STEPS = ("ingest", "validate", "base_model", "template", "tokenize")
STEPS += ("base_finetune", "sft", "evaluate", "register", "promote")
IMAGE_OF = {
    "ingest": "data",
    "validate": "data",
    "register": "registry",
    "promote": "registry",
}


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


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
        ["make", "images", f"TAG={TAG}", "CPU=1"],
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


def containers() -> list[dict[str, Any]]:
    """Every step's container, ended or not, in the order of their start."""
    ids = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={LABEL}").split()
    found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
    return sorted(found, key=lambda container: str(container["Created"]))


def step_of(container: dict[str, Any]) -> str:
    words = container["Config"]["Cmd"]
    return str(words[words.index("--step_name") + 1])


def forget() -> None:
    if found := [container["Id"] for container in containers()]:
        docker("rm", "--force", *found)


def start(world: Checkout, config: Path, log: Path) -> "subprocess.Popen[str]":
    with log.open("w", encoding="utf-8") as stream:  # a pipe that nobody reads would fill up
        return subprocess.Popen(
            [str(Path(sys.executable).parent / RUN[0]), *RUN[1:], "-c", str(config)],
            cwd=world.root,
            env=world.environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            text=True,
        )


def until(
    met: Callable[[], Any], process: "subprocess.Popen[str]", log: Path, seconds: float = 900
) -> Any:
    """What `met` gives once it gives something; fails when the run ends before."""
    end = time.monotonic() + seconds
    while not (found := met()):
        assert process.poll() is None, f"ended early:\n{log.read_text(encoding='utf-8')[-5000:]}"
        assert time.monotonic() < end, f"nothing came within {seconds} s"
        time.sleep(0.1)
    return found


def training() -> str | None:
    """The container that trains the base, while it runs."""
    for container in containers():
        if step_of(container) == "base_finetune" and container["State"]["Running"]:
            return str(container["Id"])
    return None


def last_checkpoint(world: Checkout) -> int:
    folder = world.root / ".posttrain" / "checkpoints"
    steps = [int(path.name.partition("-")[2]) for path in folder.glob("*/checkpoint-*")]
    return max(steps, default=0)


@dataclass(frozen=True)
class Finished:
    """A run that was killed in mid-training and started again, and all its containers."""

    resumed: bool
    """Whether the second attempt went on from the first one's last checkpoint."""

    said: str
    containers: list[dict[str, Any]]


@pytest.fixture(scope="module")
def finished(world: Checkout, config: Path) -> Finished:
    log = world.root / "killed.log"
    run = start(world, config, log)
    try:
        container = until(lambda: last_checkpoint(world) >= 100 and training(), run, log)
        docker("kill", "--signal", "KILL", container)
        assert run.wait(timeout=300) != 0
    finally:
        run.kill()  # it ended long ago, where all is well
    said = log.read_text(encoding="utf-8")
    killed_at = last_checkpoint(world)
    assert 100 <= killed_at < CUT_DOWN["base_finetune__max_steps"]

    checkpoint = next((world.root / ".posttrain" / "checkpoints").glob(f"*/*-{killed_at}"))
    written = checkpoint.stat().st_mtime_ns

    log = world.root / "again.log"
    run = start(world, config, log)
    try:
        until(lambda: last_checkpoint(world) > killed_at, run, log)
        resumed = checkpoint.stat().st_mtime_ns == written  # beginning anew writes it once more
        assert run.wait(timeout=900) == 0, log.read_text(encoding="utf-8")[-3000:]
    finally:
        run.kill()
    said += log.read_text(encoding="utf-8")
    return Finished(resumed, said, containers())


def test_a_killed_container_is_resumed_by_the_same_command(
    world: Checkout, finished: Finished
) -> None:
    statuses = world.statuses()
    assert statuses["validate"] == "cached"
    assert {statuses[step] for step in ("base_finetune", "promote")} == {"completed"}
    assert finished.resumed
    codes = [c["State"]["ExitCode"] for c in finished.containers if step_of(c) == "base_finetune"]
    assert codes == [128 + signal.SIGKILL, 0]


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
    client = mlflow.MlflowClient(world.environment["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("posttrain")
    runs = client.search_runs([experiment.experiment_id])
    nested = {run.info.run_name for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert {"base_finetune", "sft", "evaluate", "register", "promote"} <= nested
    assert world.report()["promotion"]["promoted"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_its_own_libraries_and_no_build_tools(images: None, image: str) -> None:
    look = ("run", "--rm", "--entrypoint", "sh", f"posttrain-{image}:{TAG}", "-c")
    assert docker(*look, "command -v gcc cc make g++ /opt/venv/bin/pip || true") == ""
    installed = docker(*look, "ls /opt/venv/lib/python3*/site-packages").split()
    assert ("torch" in installed) == (image == "train")
    assert ("great_expectations" in installed) == (image == "data")
    assert not {"fastapi_cli", "pytest", "playwright", "mypy"} & set(installed)


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
    found = subprocess.run(["grep", "--text", "-c", PLANTED], stdin=saved.stdout, check=False)
    assert saved.wait() == 0
    assert found.returncode == 1  # 1: looked at everything, found nothing


def test_no_secret_in_logs_containers_or_stores(world: Checkout, finished: Finished) -> None:
    assert PLANTED not in finished.said
    for container in finished.containers:
        assert PLANTED not in json.dumps(container)  # its environment among the rest
        assert PLANTED not in docker("logs", container["Id"])
    state = world.root / ".posttrain"  # MLflow's and ZenML's databases, artifacts, checkpoints
    found = subprocess.run(["grep", "-rlF", PLANTED, state], capture_output=True, check=False)
    assert found.stdout.decode() == "" and found.returncode == 1
