"""The pipeline on Kubernetes: submitted to an API on loopback, every Job run as a process.

One run serves most of these tests; they read the manifests that ZenML sent.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import cluster
from tests.docs.test_commands import FENCE
from tests.integration.conftest import ROOT
from tests.integration.on_kubernetes import CRON, IMAGES, STEP_SECRET, OnKubernetes, main_of, pod_of
from tests.kubelet import SECRETS, Manifest
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
    """Statuses of a run and of its steps, three of its pods ended in mid-training."""
    team.submit(team.config("once"))
    team.training("base_finetune", 0).preempt()
    team.training("base_finetune", 1).run_out_of_memory()
    pod = team.training("sft", 0)
    team.seen = pod.environment()
    pod.delete()
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


def test_a_pod_that_was_ended_from_outside_goes_on_from_its_checkpoint(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    first, second, third = team.pods("base_finetune")
    assert [pod.process.returncode for pod in (first, second, third)] == [143, -9, 0]
    saved = re.findall(r"training ended at step (\d+) of 300", first.said())
    goes_on = r"base_finetune: goes on from checkpoint-(\d+)"
    assert re.findall(goes_on, second.said()) == saved[:1] != []
    (later,) = re.findall(goes_on, third.said())
    assert int(saved[0]) < int(later) < 300
    deleted, again = team.pods("sft")
    assert [deleted.process.returncode, again.process.returncode] == [143, 0]
    assert "sft: goes on from checkpoint-" in again.said()
    others = STEPS - {"base_finetune", "sft"}
    assert [name for name in others if len(team.pods(name)) != 1] == []


def test_the_runs_token_comes_by_a_secret_that_ends_with_it(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    assert [one["metadata"]["name"] for one in team.cluster.manifests(SECRETS)] == [STEP_SECRET]
    (secret,) = team.cluster.deleted(SECRETS)
    for job in [team.orchestrator_job(), *team.step_jobs().values()]:
        (token,) = [e for e in main_of(job)["env"] if e["name"] == "ZENML_STORE_API_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"]["name"] == secret["metadata"]["name"]
    token = next(iter(secret["data"].values()))
    assert token not in team.cluster.everything_but_secrets()


def test_a_secret_stays_where_it_was_put(team: OnKubernetes, run: dict[str, Any]) -> None:
    """Nothing sent, said, tracked or stored holds one."""
    assert team.mounted.items() <= team.seen.items()  # steps do have theirs
    planted = {**team.mounted, **{f"{name} of the shell": v for name, v in team.planted.items()}}
    secrets = {**planted, "tracker's": team.mlflow_password, "user's": team.server.password}
    sent = team.cluster.everything_but_secrets() + team.said
    assert [name for name, value in secrets.items() if value in sent] == []
    # logs, MLflow's database and artifacts, ZenML's database and artifacts, what pods left
    written = [file for file in team.folder.rglob("*") if file.is_file()]
    assert {"mlflow.db", "zenml.db", "server.log"} <= {file.name for file in written}
    held = {
        name: file
        for file in written
        for name, value in planted.items()
        if value.encode() in file.read_bytes()
    }
    assert held == {}
    logs = [file.read_text("utf-8") for file in written if file.suffix == ".log"]
    assert [name for name, value in secrets.items() if any(value in log for log in logs)] == []


def test_the_job_for_several_nodes_is_written_as_the_readme_says(
    team: OnKubernetes, run: dict[str, Any], tmp_path: Path
) -> None:
    text = (ROOT / "k8s/README.md").read_text("utf-8")
    (block,) = [block for block in FENCE.findall(text) if "write_job" in block]
    assert block.count('"NAME"') == block.count('"/checkpoints/') == 1
    code = block.replace('"/checkpoints/', f'"{tmp_path}/')
    code = code.replace(
        'get_pipeline_run("NAME")', "list_pipeline_runs(sort_by='desc:created').items[0]"
    )
    script = tmp_path / "job.py"
    script.write_text(code, encoding="utf-8")
    team.command("python", str(script))
    job = json.loads((tmp_path / "jobs/sft/job.json").read_text("utf-8"))
    assert job["arguments"]["recipe"]["max_steps"] == 60
    assert set(job["arguments"]) == {"tokens", "domain", "recipe"}


def test_a_schedule_becomes_a_cron_job_that_the_command_line_pauses_and_deletes(
    team: OnKubernetes, run: dict[str, Any]
) -> None:
    team.submit(team.config("weekly", {"CRON": CRON, "NAME": "weekly"}))
    (job,) = team.cron_jobs()
    spec = job["spec"]
    assert spec["schedule"] == CRON
    assert spec["concurrencyPolicy"] == "Forbid"
    assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (3, 5)
    assert spec["startingDeadlineSeconds"] == 3600
    assert pod_of(spec["jobTemplate"])["serviceAccountName"] == "orchestrator"
    assert len(team.step_jobs()) == len(STEPS)  # nothing ran yet

    team.cluster.fire(job)  # what is new in its data? nothing
    always = dict.fromkeys(("register", "promote"), "completed")
    cached = dict.fromkeys(STEPS, "cached")
    assert team.wait() == {"run": "completed", "steps": {**cached, **always}}
    assert set(team.step_jobs()) == set(always)  # whether there is another champion by now

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


def test_an_error_in_training_fails_at_once(team: OnKubernetes, run: dict[str, Any]) -> None:
    config = team.config("wrong", sft__max_steps=61)
    team.cluster.environment["POSTTRAIN_DEVICE"] = "cuda"  # a node without a GPU
    try:
        team.submit(config)
        ended = team.wait()
    finally:
        del team.cluster.environment["POSTTRAIN_DEVICE"]
    assert ended["run"] == "failed"
    assert set(team.step_jobs()) == {"sft"}
    assert [pod.process.returncode for pod in team.pods("sft")] == [1]
    (condition,) = team.step_jobs()["sft"]["status"]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Failed", "PodFailurePolicy")
    assert ended["steps"]["sft"] == "retrying"  # ZenML goes by `retry`, not by the Job


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
    before = components(team)
    assert {"orchestrator", "artifact_store", "experiment_tracker"} <= set(before)
    assert before["orchestrator"]["configuration"]["service_account_name"] == "orchestrator"
    team.register_stack()
    assert components(team) == before


COMPONENTS = """
import json
from zenml.client import Client
stack = Client().get_stack("posttrain-k8s")
found = {kind.value: one for kind, (one,) in stack.components.items()}
print(json.dumps({kind: {"id": str(one.id), "flavor": one.flavor_name,
                         "configuration": one.configuration} for kind, one in found.items()}))
"""


def components(team: OnKubernetes) -> dict[str, Any]:
    """Kind -> id, flavor and configuration of what the stack is made of."""
    said = team.command(sys.executable, "-c", COMPONENTS)
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    return found
