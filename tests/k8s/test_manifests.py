"""The manifests: built by kustomize, held to Kubernetes' schemas, linted for security."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from mlflow.cli import server
from mlflow.server.security_utils import is_allowed_host_header

from tests.cluster import SCHEMAS

KUBECTL = shutil.which("kubectl")
CHECKOV = shutil.which("checkov", path=f".posttrain/checkov/bin{os.pathsep}{os.environ['PATH']}")
BUILDS = ("base", "overlays/gpu", "overlays/kind")
CLUSTER_WIDE = {"PriorityClass", "Namespace"}
SECRET_NAMES = {"mlflow-auth", "mlflow-database"}
MLFLOW_OPTIONS = {option.name: option.envvar for option in server.params}
"""`mlflow server`'s, and the variables that it reads them from."""

needs_kubectl = pytest.mark.skipif(
    KUBECTL is None,
    reason="NO MANIFEST WAS CHECKED: no kubectl (1.25 or newer: its kustomize is what is wanted)",
)


def built(folder: str) -> list[dict[str, Any]]:
    """What `kubectl apply -k` would send."""
    done = subprocess.run(
        ["kubectl", "kustomize", f"k8s/{folder}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pods(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
        for manifest in manifests
        if manifest["kind"] in ("Deployment", "StatefulSet")
    }


@needs_kubectl
@pytest.mark.parametrize("folder", BUILDS)
def test_every_manifest_is_what_the_schemas_of_kubernetes_say(folder: str) -> None:
    manifests = built(folder)
    for manifest in manifests:
        kubernetes_validate.validate(manifest, SCHEMAS, strict=True)
    elsewhere = [
        manifest["metadata"]["name"]
        for manifest in manifests
        if manifest["kind"] not in CLUSTER_WIDE
        and manifest["metadata"].get("namespace") != "posttrain"
    ]
    assert elsewhere == []


@needs_kubectl
@pytest.mark.parametrize("folder", BUILDS)
def test_the_namespace_lets_its_own_pods_in(folder: str) -> None:
    manifests = built(folder)
    (labels,) = [m["metadata"]["labels"] for m in manifests if m["kind"] == "Namespace"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(manifests).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name


@needs_kubectl
@pytest.mark.parametrize("folder", BUILDS)
def test_secrets_come_by_name_and_none_is_in_the_manifests(folder: str) -> None:
    manifests = built(folder)
    assert [m["metadata"]["name"] for m in manifests if m["kind"] == "Secret"] == []
    named = {
        value
        for pod in pods(manifests).values()
        for value in [
            *(v["secret"]["secretName"] for v in pod["volumes"] if "secret" in v),
            *(
                entry["valueFrom"]["secretKeyRef"]["name"]
                for container in pod["containers"]
                for entry in container["env"]
                if "secretKeyRef" in entry.get("valueFrom", {})
            ),
        ]
    }
    assert named == SECRET_NAMES
    text = Path("k8s/README.md").read_text(encoding="utf-8")
    assert [name for name in named if f"create secret generic {name}" not in text] == []


@needs_kubectl
@pytest.mark.parametrize("folder", BUILDS)
def test_no_secret_is_on_a_command_line(folder: str) -> None:
    found = pods(built(folder))
    assert "secretKeyRef" in str(found["mlflow"])
    for name, pod in found.items():
        for container in pod["containers"]:
            secrets = {
                entry["name"]
                for entry in container["env"]
                if "secretKeyRef" in entry.get("valueFrom", {})
            }
            words = " ".join([*container.get("command", []), *container.get("args", [])])
            assert set(re.findall(r"\$\((\w+)\)", words)) & secrets == set(), name


@needs_kubectl
def test_mlflow_takes_its_database_from_the_environment() -> None:
    (container,) = pods(built("base"))["mlflow"]["containers"]
    (source,) = [
        entry["valueFrom"]["secretKeyRef"]
        for entry in container["env"]
        if entry["name"] == MLFLOW_OPTIONS["backend_store_uri"]
    ]
    assert source == {"name": "mlflow-database", "key": "uri"}


@needs_kubectl
@pytest.mark.parametrize("folder", [folder for folder in BUILDS if folder != "base"])
def test_an_overlay_takes_mlflow_from_where_the_readme_pushes_it(folder: str) -> None:
    text = Path("k8s/README.md").read_text(encoding="utf-8")
    (tag,) = re.findall(r"^export IMAGES=\S+ TAG=(\S+)$", text, re.M)
    (container,) = pods(built(folder))["mlflow"]["containers"]
    assert container["image"] == f"your-registry/posttrain-mlflow:{tag}"
    assert f"export OVERLAY=k8s/{folder} " in text or f"# or k8s/{folder}\n" in text


@needs_kubectl
def test_nothing_is_open_that_no_policy_names() -> None:
    manifests = [m for m in built("base") if m["kind"] == "NetworkPolicy"]
    (deny,) = [m["spec"] for m in manifests if m["metadata"]["name"] == "default-deny"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to_all = [
        manifest["metadata"]["name"]
        for manifest in manifests
        for rule in manifest["spec"].get("ingress", [])
        if "from" not in rule
    ]
    assert open_to_all == []


@needs_kubectl
def test_the_orchestrators_role_reads_no_secret_and_has_no_wildcards() -> None:
    roles = {m["metadata"]["name"]: m["rules"] for m in built("base") if m["kind"] == "Role"}
    for name, rules in roles.items():
        for rule in rules:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]], name
    on_secrets = [r["verbs"] for r in roles["orchestrator"] if "secrets" in r["resources"]]
    assert on_secrets == [["delete"]]


@needs_kubectl
@pytest.mark.parametrize("name", ["mlflow.posttrain.svc.cluster.local:5000", "localhost:5000"])
def test_mlflow_answers_to_the_name_that_the_stack_calls(name: str) -> None:
    (container,) = pods(built("base"))["mlflow"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    allowed = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert is_allowed_host_header(allowed, name)
    assert not is_allowed_host_header(allowed, "elsewhere.example:5000")


TRAINER_API = {
    "TrainingRuntime": {
        "spec": {"mlPolicy", "podGroupPolicy", "template"},
        "spec.mlPolicy": {"numNodes", "torch", "mpi", "flux"},
        "spec.mlPolicy.torch": {"numProcPerNode", "elasticPolicy"},
        "spec.template": {"metadata", "spec"},
        # JobSet's v1alpha2
        "spec.template.spec": {"replicatedJobs", "network", "successPolicy", "failurePolicy"},
    },
    "TrainJob": {
        "spec": {"runtimeRef", "initializer", "trainer", "suspend", "managedBy"},
        "spec.runtimeRef": {"name", "apiGroup", "kind"},
        "spec.trainer": {
            *("image", "command", "args", "env", "numNodes", "resourcesPerNode"),
            "numProcPerNode",
        },
    },
}
"""Fields of Kubeflow Trainer's v1alpha1: a cluster drops what it does not know without a word."""


def test_the_train_job_has_only_fields_that_the_trainer_knows() -> None:
    for manifest in yaml.safe_load_all(Path("k8s/train-job.yaml").read_text(encoding="utf-8")):
        assert manifest["apiVersion"] == "trainer.kubeflow.org/v1alpha1"
        for path, known in TRAINER_API[manifest["kind"]].items():
            block = manifest
            for name in path.split("."):
                block = block[name]
            assert set(block) <= known, path


def test_the_train_job_runs_the_launch_entry_as_its_runtime_says() -> None:
    text = Path("k8s/train-job.yaml").read_text(encoding="utf-8")
    runtime, job = yaml.safe_load_all(text)
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert set(node) == {"name", "template"}
    # the trainer finds the container that it fills in by these
    (container,) = node["template"]["spec"]["template"]["spec"]["containers"]
    assert (node["name"], container["name"]) == ("node", "node")
    labels = node["template"]["metadata"]["labels"]
    assert labels == {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}
    pod = node["template"]["spec"]["template"]
    pod = {**pod, "spec": {**pod["spec"], "restartPolicy": "Never"}}  # JobSet's default
    spec = {**node["template"]["spec"], "template": pod}
    as_job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "node"}, "spec": spec}
    kubernetes_validate.validate(as_job, SCHEMAS, strict=True)
    trainer = job["spec"]["trainer"]
    assert trainer["args"][:2] == ["--module", "posttrain.launch"]
    assert trainer["numNodes"] == runtime["spec"]["mlPolicy"]["numNodes"]
    gpus = trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    assert str(trainer["numProcPerNode"]) == gpus
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    assert job["spec"]["runtimeRef"]["kind"] == runtime["kind"]


@pytest.mark.slow
@needs_kubectl
@pytest.mark.skipif(
    CHECKOV is None,
    reason="THE SECURITY LINTER DID NOT RUN: `make checkov` installs it",
)
@pytest.mark.parametrize("folder", BUILDS)
def test_the_security_linter_finds_nothing(folder: str, tmp_path: Path) -> None:
    assert CHECKOV is not None
    file = tmp_path / "built.yaml"
    file.write_text(yaml.safe_dump_all(built(folder)), encoding="utf-8")
    command = [CHECKOV, "--file", str(file), "--framework", "kubernetes", "--compact", "--quiet"]
    environment = {**os.environ, "BC_SKIP_MAPPING": "TRUE"}  # it asks its maker's server otherwise
    done = subprocess.run(
        [*command, "--skip-download"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_skipped_rule_of_the_linter_has_its_reason() -> None:
    lines = [
        line.split(":", 1)[1]
        for file in Path("k8s").rglob("*.yaml")
        for line in file.read_text(encoding="utf-8").splitlines()
        if "checkov.io/skip" in line
    ]
    assert lines
    assert [line for line in lines if len(line.partition("=")[2].split()) < 3] == []
