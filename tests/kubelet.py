"""What becomes of a Job: each of its pods is a process here, the next starts as Kubernetes has it.

A process has its manifest's environment, and folders in place of volumes. Its end is judged as the
Job controller does it, by the first rule of the pod failure policy that matches and then by the
backoff limit, without the pause between two pods. Nothing is scheduled, pulled or confined: a test
that wants a pod preempted, or out of memory, says so.
"""

import asyncio
import base64
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kmock import KubernetesEmulator

JOBS, CRON_JOBS, PODS, SECRETS = "batch/v1/jobs", "batch/v1/cronjobs", "v1/pods", "v1/secrets"
NAMESPACE = "posttrain"
OF_A_SIGNAL = 128
"""A container that a signal ends has this much more than its number as its exit status."""

Manifest = dict[str, Any]


@dataclass
class Pod:
    """A process of a Job's."""

    name: str
    job: str
    log: Path
    process: asyncio.subprocess.Process
    conditions: list[Manifest] = field(default_factory=list)

    def said(self) -> str:
        """Its log."""
        return self.log.read_text("utf-8")

    def environment(self) -> dict[str, str]:
        """The running process's."""
        entries = Path(f"/proc/{self.process.pid}/environ").read_text("utf-8").split("\0")
        return dict(entry.split("=", 1) for entry in entries if entry)

    def preempt(self) -> None:
        """As for a pod of more priority, a drained node, or a spot machine that is taken back."""
        self.conditions.append({"type": "DisruptionTarget", "status": "True"})
        self.process.send_signal(signal.SIGTERM)

    def delete(self) -> None:
        """As `kubectl delete pod` does: SIGTERM, and no word why."""
        self.process.send_signal(signal.SIGTERM)

    def run_out_of_memory(self) -> None:
        """As the kernel does it: exit status 137."""
        self.process.send_signal(signal.SIGKILL)


def verdict(rules: list[Manifest], status: int, conditions: list[Manifest]) -> str:
    """What a failure policy says of a failed pod with one container."""
    for rule in rules:
        for wanted in rule.get("onPodConditions", []):
            if any(wanted.items() <= found.items() for found in conditions):
                return str(rule["action"])
        codes = rule.get("onExitCodes")
        if codes and (status in codes["values"]) == (codes["operator"] == "In"):
            return str(rule["action"])
    return "Count"


class Kubelet:
    """Runs Jobs of an API's in `folder`, which gets a log a pod."""

    def __init__(self, api: KubernetesEmulator, folder: Path) -> None:
        self.api = api
        self.folder = folder
        self.pods: list[Pod] = []

    async def run(self, job: Manifest, environment: dict[str, str]) -> None:
        """Run a Job's pods to its end."""
        spec, name = job["spec"], job["metadata"]["name"]
        rules = spec.get("podFailurePolicy", {}).get("rules", [])
        failed = 0
        for attempt in range(100):
            pod = await self._start(job, attempt, environment)
            try:
                ended = await pod.process.wait()
            except asyncio.CancelledError:
                pod.process.kill()
                raise
            status = ended if ended >= 0 else OF_A_SIGNAL - ended
            self._report(pod, job, status)
            if status == 0:
                return self._finish(name, "Complete", "CompletionsReached")
            action = verdict(rules, status, pod.conditions)
            if action == "FailJob":
                return self._finish(name, "Failed", "PodFailurePolicy")
            failed += action == "Count"
            if failed > spec["backoffLimit"]:
                return self._finish(name, "Failed", "BackoffLimitExceeded")

    def _finish(self, job: str, kind: str, reason: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "message": reason}
        self.api.objects[JOBS, NAMESPACE, job].patch({"status": {"conditions": [condition]}})

    async def _start(self, job: Manifest, attempt: int, environment: dict[str, str]) -> Pod:
        name = f"{job['metadata']['name']}-{attempt}"
        spec = job["spec"]["template"]["spec"]
        container = spec["containers"][0]
        file = self.folder / f"{name}.log"
        with file.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *container["command"][1:],
                *container["args"],
                env=self._environment(name, spec, environment),
                stdout=log,
                stderr=log,
            )
        # the orchestrator looks for its own pod, by the name of its host
        own = name if "step_name" in job["metadata"]["labels"] else socket.gethostname()
        pod = Pod(own, job["metadata"]["name"], file, process)
        self._report(pod, job, None)
        self.pods.append(pod)
        return pod

    def _report(self, pod: Pod, job: Manifest, status: int | None) -> None:
        """Write what the API says of a pod."""
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": pod.job, "uid": f"uid-{pod.job}"}
        state: Manifest = {"running": {}}
        phase = "Running"
        if status is not None:
            phase = "Failed" if status else "Succeeded"
            state = {
                "terminated": {"exitCode": status, "reason": "Error" if status else "Completed"}
            }
        self.api.objects[PODS, NAMESPACE, pod.name] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.name,
                "namespace": NAMESPACE,
                "labels": {**job["metadata"]["labels"], "job-name": pod.job},
                "ownerReferences": [owner],
                "creationTimestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "status": {
                "phase": phase,
                "conditions": pod.conditions,
                "containerStatuses": [
                    {
                        "name": "main",
                        "image": job["spec"]["template"]["spec"]["containers"][0]["image"],
                        "imageID": "",
                        "ready": False,
                        "restartCount": 0,
                        "state": state,
                    }
                ],
            },
        }

    def _environment(self, pod: str, spec: Manifest, given: dict[str, str]) -> dict[str, str]:
        """A container's: nothing of this process but where Python finds its modules."""
        container = spec["containers"][0]
        found = {"PATH": os.environ["PATH"], **given}
        for source in container.get("envFrom", []):
            found |= self._all_of(source["secretRef"])
        folders = self._folders(pod, spec)
        for entry in container["env"]:
            value = self._value(entry)
            for mount, folder in folders.items():
                if value == mount or value.startswith(f"{mount}/"):
                    value = str(folder) + value[len(mount) :]
            found[entry["name"]] = value
        return found

    def _all_of(self, reference: Manifest) -> dict[str, str]:
        """A Secret's keys and values; none where it is optional and not there."""
        for (resource, _, name), found in list(self.api.objects.items()):
            if resource.plural == "secrets" and name == reference["name"] and not found.deleted:
                data = found.raw["data"]
                return {key: base64.b64decode(value).decode() for key, value in data.items()}
        assert reference.get("optional"), f"no secret {reference['name']}"
        return {}

    def _value(self, entry: Manifest) -> str:
        if "value" in entry:
            return str(entry["value"])
        reference = entry["valueFrom"]["secretKeyRef"]
        return self._all_of(reference)[reference["key"]]

    def _folders(self, pod: str, spec: Manifest) -> dict[str, Path]:
        """Mount path -> folder: a claim's is shared, an empty one is the pod's own."""
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        found = {}
        for mount in spec["containers"][0]["volumeMounts"]:
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim")
            parts = ("claims", claim["claimName"]) if claim else (pod, volume["name"])
            folder = self.folder.joinpath(*parts)
            folder.mkdir(parents=True, exist_ok=True)
            found[mount["mountPath"]] = folder
        return found
