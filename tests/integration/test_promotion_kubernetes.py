"""A person decides on Kubernetes: the orchestrator's pod ends, and an answer starts another."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.cluster import JOBS, cluster
from tests.integration.conftest import ROOT
from tests.integration.on_kubernetes import IMAGES, PATIENCE_SECONDS, OnKubernetes
from tests.promoting import Model
from tests.promoting_on_server import Api
from tests.zenml_server import zenml_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnKubernetes]:
    folder = tmp_path_factory.mktemp("team")
    with zenml_server(folder / "server") as server, cluster(folder / "cluster") as nodes:
        yield OnKubernetes(folder, server, nodes)


def config(team: OnKubernetes) -> Path:
    text = Path("recipes/promotion/ferry_guide.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["parameters"]["recipe"] |= {"wait_minutes": 0.02, "poll_seconds": 1}
    values["settings"]["docker"]["parent_image"] = f"{IMAGES}/posttrain-registry:1.2.3"
    values["settings"]["orchestrator.kubernetes"] = {"synchronous": False}
    file = team.folder / "promotion.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    return file


def orchestrators(team: OnKubernetes) -> list[dict[str, object]]:
    """Jobs that ran the pipeline itself."""
    jobs = team.cluster.manifests(JOBS)
    return [job for job in jobs if "step_name" not in job["metadata"]["labels"]]


def test_an_answer_to_a_paused_run_starts_a_new_orchestrator_pod(team: OnKubernetes) -> None:
    environment = {**team.environment, "MLFLOW_TRACKING_URI": team.environment["MLFLOW_URI"]}
    model = Model(SimpleNamespace(environment=environment, root=ROOT), "ferry-guide")  # type: ignore[arg-type]
    model.put(0.9)
    target = "pipelines.promotion.promotion"
    team.command("zenml", "pipeline", "run", target, "-c", str(config(team)))
    api, until, status = Api(team.server), time.monotonic() + PATIENCE_SECONDS, ""
    while status != "paused":
        assert time.monotonic() < until and status != "failed", team.cluster.logs()
        status = api("GET", "/runs?sort_by=desc:created&size=1")[1]["items"][0]["body"]["status"]
        time.sleep(1)
    assert len(orchestrators(team)) == 1
    done = subprocess.run(
        [Path(sys.executable).parent / "posttrain", "registry", "approve", "1", "--why", "ok"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + team.cluster.logs()
    assert model.aliases == {"challenger": 1, "champion": 1}
    assert len(orchestrators(team)) == 2
    assert set(team.step_jobs()) == {"challenger", "gate", "decide"}  # none of them twice
