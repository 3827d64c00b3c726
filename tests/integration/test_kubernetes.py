"""The pipeline on Kubernetes: submitted to an API on loopback, every Job run as a process.

One run serves most of these tests; they read the manifests that ZenML sent.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import SECRETS, Manifest, cluster
from tests.integration.conftest import ROOT
from tests.integration.on_kubernetes import CRON, IMAGES, OnKubernetes, main_of, pod_of
from tests.zenml_server import zenml_server

pytestmark = pytest.mark.slow

STEPS = {
    *("ingest", "validate", "base_model", "template", "tokenize", "base_finetune", "sft"),
    *("evaluate", "register", "promote"),
}
ON_GPU = {"base_finetune", "sft", "evaluate"}
IMAGE_OF = {"ingest": "data", "validate": "data", "register": "registry", "promote": "registry"}
GPU_STEP = yaml.safe_load((ROOT / "k8s/gpu-step.yaml").read_text("utf-8"))
POLICY = yaml.safe_load((ROOT / "k8s/pod-failure-policy.yaml").read_text("utf-8"))
STEP_POD = yaml.safe_load((ROOT / "k8s/step-pod.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnKubernetes]:
    folder = tmp_path_factory.mktemp("team")
    with zenml_server(folder / "server") as server, cluster(folder / "cluster") as nodes:
        yield OnKubernetes(folder, server, nodes)


@pytest.fixture(scope="module")
def run(team: OnKubernetes) -> dict[str, Any]:
    """A run to its end: the statuses of the run and its steps."""
    team.submit(team.config("once"))
    return team.wait()


def test_every_step_completes_in_a_job_of_its_own(team: OnKubernetes, run: dict[str, Any]) -> None:
    assert run == {"run": "completed", "steps": dict.fromkeys(STEPS, "completed")}, (
        team.cluster.logs()
    )
    assert set(team.step_jobs()) == STEPS


@pytest.mark.parametrize("name", ["orchestrator", *sorted(STEPS)])
def test_a_pod_is_what_the_restricted_standard_lets_in(
    name: str, team: OnKubernetes, run: dict[str, Any]
) -> None:
    job = team.orchestrator_job() if name == "orchestrator" else team.step_jobs()[name]
    pod, main = pod_of(job), main_of(job)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert main["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert pod["terminationGracePeriodSeconds"] == 300  # time to save after SIGTERM


@pytest.mark.parametrize("name", sorted(STEPS))
def test_a_step_has_the_pod_of_its_settings(
    name: str, team: OnKubernetes, run: dict[str, Any]
) -> None:
    settings = GPU_STEP["pod_settings"] if name in ON_GPU else STEP_POD
    pod, main = pod_of(team.step_jobs()[name]), main_of(team.step_jobs()[name])
    assert main["image"] == f"{IMAGES}/posttrain-{IMAGE_OF.get(name, 'train')}:1.2.3"
    assert main["resources"] == settings["resources"]
    assert ("nvidia.com/gpu" in main["resources"]["limits"]) == (name in ON_GPU)
    assert pod.get("nodeSelector", {}) == settings.get("node_selectors", {})
    assert pod.get("tolerations", []) == settings.get("tolerations", [])
    assert pod["volumes"] == settings["volumes"]
    assert main["volumeMounts"] == settings["volume_mounts"]
    assert pod["serviceAccountName"] == "step"
    assert pod["automountServiceAccountToken"] is False
    assert pod["priorityClassName"] == "posttrain-interactive"


def test_gpu_steps_start_again_after_preemption_and_not_after_an_error(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    for name in ON_GPU:
        spec = team.step_jobs()[name]["spec"]
        assert spec["podFailurePolicy"] == GPU_STEP["pod_failure_policy"]
        assert spec["backoffLimit"] == 2  # the step's retry.max_retries
        assert spec["activeDeadlineSeconds"] == GPU_STEP["active_deadline_seconds"]
    others = [team.orchestrator_job(), team.step_jobs()["ingest"]]
    assert [job["spec"]["podFailurePolicy"] for job in others] == [POLICY, POLICY]
    assert team.step_jobs()["ingest"]["spec"]["backoffLimit"] == 0


def test_jobs_go_after_a_day_and_with_the_job_that_made_them(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    owner = team.orchestrator_job()["metadata"]["name"]
    for job in team.step_jobs().values():
        assert job["spec"]["ttlSecondsAfterFinished"] == 86400
        assert [found["name"] for found in job["metadata"]["ownerReferences"]] == [owner]


def test_only_the_orchestrator_may_talk_to_the_cluster(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    pod = pod_of(team.orchestrator_job())
    assert pod["serviceAccountName"] == "orchestrator"
    assert pod.get("automountServiceAccountToken") is not False


def test_no_secret_stands_in_a_manifest(team: OnKubernetes, run: dict[str, Any]) -> None:
    jobs = [team.orchestrator_job(), *team.step_jobs().values()]
    assert team.cluster.manifests(SECRETS) == []  # it ends with the run
    (secret,) = team.cluster.deleted(SECRETS)
    for job in jobs:
        (token,) = [e for e in main_of(job)["env"] if e["name"] == "ZENML_STORE_API_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["name"] == secret["metadata"]["name"]
    text = json.dumps(jobs) + team.cluster.logs()
    planted = [team.server.password, team.mlflow_password, *secret["data"].values()]
    assert [value for value in planted if value in text] == []


def test_a_schedule_becomes_a_cron_job_that_the_command_line_pauses_and_deletes(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    team.submit(team.config("weekly", CRON=CRON, NAME="weekly"))
    (job,) = team.cron_jobs()
    spec = job["spec"]
    assert spec["schedule"] == CRON
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 5)
    assert spec["startingDeadlineSeconds"] == 3600
    assert pod_of(spec["jobTemplate"])["serviceAccountName"] == "orchestrator"
    assert len(team.step_jobs()) == len(STEPS)  # nothing ran yet

    listed = team.command("posttrain", "schedule", "list")
    assert "weekly" in listed and CRON in listed and "active" in listed
    team.command("posttrain", "schedule", "pause", "weekly")
    assert suspended(team) == [True]
    assert "paused" in team.command("posttrain", "schedule", "list")
    team.command("posttrain", "schedule", "resume", "weekly")
    assert suspended(team) == [False]
    team.command("posttrain", "schedule", "delete", "weekly")
    assert team.cron_jobs() == []


def suspended(team: OnKubernetes) -> list[bool]:
    return [job["spec"]["suspend"] for job in team.cron_jobs()]


def test_the_cluster_refuses_what_kubernetes_would(team: OnKubernetes, tmp_path: Path) -> None:
    manifest: Manifest = {**team.orchestrator_job(), "metadata": {"name": "typo"}}
    manifest = json.loads(json.dumps(manifest).replace("backoffLimit", "backofLimit"))
    file = tmp_path / "job.json"
    file.write_text(json.dumps(manifest), encoding="utf-8")
    create = "import json, sys; from kubernetes import client, config; config.load_kube_config(); "
    create += "job = json.load(open(sys.argv[1])); "
    create += "client.BatchV1Api().create_namespaced_job('posttrain', job)"
    with pytest.raises(AssertionError, match="backofLimit"):
        team.command("python", "-c", create, str(file))


def test_the_stack_script_runs_again_and_changes_nothing(team: OnKubernetes) -> None:
    show = ("zenml", "stack", "describe", "posttrain-k8s")
    before = team.command(*show)
    team.register_stack()
    assert team.command(*show) == before
