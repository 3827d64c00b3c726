"""A team's setting on loopback: a ZenML server, a cluster, the stack that k8s/stack.sh makes."""

import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from mlflow import MlflowClient

from tests.cluster import Cluster
from tests.integration.conftest import ROOT, TINY
from tests.kubelet import CRON_JOBS, JOBS, Manifest, Pod
from tests.zenml_server import ZenMLServer

IMAGES = "registry.test/team"
CRON = "0 3 * * 1"
PLANTED = ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY")
STEP_SECRET = "posttrain-step"
PATIENCE_SECONDS = 900
LONGER = {
    "base_finetune__max_steps": 300,
    "base_finetune__checkpoint_every_steps": 20,
    "sft__max_steps": 60,
    "sft__checkpoint_every_steps": 5,
}
"""Some seconds of training, in which a pod can be ended."""

Found = TypeVar("Found")

STATUSES = """
import json
from zenml.client import Client
run = Client().list_pipeline_runs(sort_by="desc:created", size=1).items[0]
found = {name: step.status.value for name, step in run.steps.items()}
print(json.dumps({"run": run.status.value, "steps": found}))
"""


class OnKubernetes:
    """A client who is logged in and has registered the stack."""

    def __init__(self, folder: Path, server: ZenMLServer, cluster: Cluster) -> None:
        self.folder, self.server, self.cluster = folder, server, cluster
        self.said = ""
        self.seen: dict[str, str] = {}
        stores = {"ZENML_LOCAL_STORES_PATH": str(folder / "stores")}
        tracking = f"sqlite:///{folder}/mlflow.db"
        # in the shell of whoever submits, and in the Secret that steps see
        self.planted = {name: f"planted-{secrets.token_hex(8)}" for name in PLANTED}
        self.mounted = {name: f"planted-{secrets.token_hex(8)}" for name in PLANTED}
        cluster.add_secret(STEP_SECRET, self.mounted)
        self.environment = {
            **server.client(folder / "client"),
            **stores,
            "PYTHONPATH": str(ROOT),
            "KUBECONFIG": str(cluster.kubeconfig),
            "CONTEXT": "test",
            "ARTIFACT_STORE": "s3://bucket/zenml",
            "CONTAINER_REGISTRY": IMAGES,
            "MLFLOW_URI": tracking,
            **self.planted,
        }
        cluster.environment = {
            **stores,
            "PYTHONPATH": str(ROOT),
            "ZENML_CUSTOM_SOURCE_ROOT": str(ROOT),  # as the images have it
            "POSTTRAIN_ROOTS": str(ROOT),  # the recipe's paths are absolute here
            "POSTTRAIN_THREADS": "1",
            "ZENML_ANALYTICS_OPT_IN": "false",
        }
        MlflowClient(tracking, tracking).create_experiment(
            "posttrain", artifact_location=(folder / "mlflow").as_uri()
        )
        self.mlflow_password = f"planted-{secrets.token_hex(8)}"
        self.command("zenml", "secret", "create", "mlflow")
        self.register_stack()

    def register_stack(self) -> None:
        """As k8s/README.md says; artifacts then go to a folder, for there is no bucket here."""
        self.command("bash", "k8s/stack.sh")
        self.command("zenml", "stack", "update", "posttrain-k8s", "-a", "default")

    def command(self, *words: str) -> str:
        """What a command of the environment's prints; fails the test if it fails."""
        if words[:3] == ("zenml", "secret", "create"):
            words += ("--username=me", f"--password={self.mlflow_password}")
        done = subprocess.run(
            words, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False
        )
        # the log without the frames of ZenML's own stack that rich draws
        said = [line for line in (done.stdout + done.stderr).splitlines() if "│" not in line]
        assert done.returncode == 0, "\n".join(said[-60:])
        self.said += done.stdout + done.stderr
        return done.stdout

    def config(self, name: str, shell: dict[str, str] | None = None, **changes: Any) -> Path:
        """A recipe's run file for the cluster, as k8s/run-file.sh makes it, cut down to seconds."""
        done = subprocess.run(
            ["bash", "k8s/run-file.sh", "recipes/base_ft_korean.yaml"],
            cwd=ROOT,
            env={**self.environment, "IMAGES": IMAGES, "TAG": "1.2.3", **(shell or {})},
            capture_output=True,
            text=True,
            check=True,
        )
        values = yaml.safe_load(done.stdout)
        values["parameters"]["recipe"] = tiny_recipe(**changes)
        values["settings"]["orchestrator.kubernetes"] = {"synchronous": False}
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return file

    def submit(self, config: Path) -> None:
        """By ZenML's own command."""
        target = "pipelines.fine_tuning.fine_tuning"
        self.command("zenml", "pipeline", "run", target, "-c", str(config))

    def wait(self) -> dict[str, Any]:
        """Statuses of the run and of its steps, once the orchestrator's Job has ended."""
        self._until(lambda: self.orchestrator_job()["status"].get("conditions"))
        found: dict[str, Any] = json.loads(
            self.command(sys.executable, "-c", STATUSES).splitlines()[-1]
        )
        return found

    def _until(self, look: Callable[[], Found]) -> Found:
        """What `look` finds, once it finds something."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (found := look()):
            assert time.monotonic() < until, self.cluster.logs()
            time.sleep(0.1)
        return found

    def orchestrator_job(self) -> Manifest:
        """The newest run's."""
        return [
            job
            for job in self.cluster.manifests(JOBS)
            if "step_name" not in job["metadata"]["labels"]
        ][-1]

    def step_jobs(self) -> dict[str, Manifest]:
        """Step -> its Job, of the newest run."""
        run = self.orchestrator_job()["metadata"]["name"]
        return {
            job["metadata"]["labels"]["step_name"]: job
            for job in self.cluster.manifests(JOBS)
            if run in [owner["name"] for owner in job["metadata"].get("ownerReferences", [])]
        }

    def pods(self, step: str) -> list[Pod]:
        """Those that the step has had in the newest run."""
        job = self.step_jobs().get(step)
        return self.cluster.pods(job) if job else []

    def training(self, step: str, attempt: int) -> Pod:
        """The step's pod, once it has written a checkpoint of its own."""
        pod = self._until(lambda: self.pods(step)[attempt:])[0]
        before = self.checkpoints()
        self._until(lambda: max(self.checkpoints(), default=0) > max(before, default=0))
        return pod

    def checkpoints(self) -> list[int]:
        """Steps of those that lie on the volume now."""
        folders = (self.cluster.folder / "claims/checkpoints").glob("*/checkpoint-*")
        return [int(folder.name.rpartition("-")[2]) for folder in folders]

    def cron_jobs(self) -> list[Manifest]:
        return self.cluster.manifests(CRON_JOBS)


def tiny_recipe(**changes: Any) -> dict[str, Any]:
    """The default recipe on a tiny base of its own."""
    values = yaml.safe_load((ROOT / "zenml_config.yaml").read_text("utf-8"))
    recipe: dict[str, Any] = values["parameters"]["recipe"]
    for path, value in (TINY | LONGER | changes).items():
        *sections, field = path.split("__")
        block = recipe
        for section in sections:
            block = block[section]
        block[field] = value
    # in an image the checkout's files lie where ZenML's entry point goes: in /app
    for source in recipe["ingest"].values():
        source["source"] = str(ROOT / source["source"])
    recipe["template"]["chat_template"] = str(ROOT / recipe["template"]["chat_template"])
    recipe["self_critique"]["constitution"] = str(ROOT / recipe["self_critique"]["constitution"])
    return recipe


def pod_of(job: Manifest) -> Manifest:
    found: Manifest = job["spec"]["template"]["spec"]
    return found


def main_of(job: Manifest) -> Manifest:
    (found,) = pod_of(job)["containers"]
    assert isinstance(found, dict)
    return found
