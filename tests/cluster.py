"""A Kubernetes API on loopback, and a kubelet that starts the commands of Jobs as processes here.

The API is kmock's, with an admission of ours: a manifest that the schemas of Kubernetes refuse is
refused. The kubelet gives a process its manifest's environment, and folders in place of volumes.
Nothing is scheduled, pulled or confined: what quotas, network policies and security contexts do
takes a cluster.
"""

import asyncio
import base64
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kmock import KubernetesEmulator, Object, Server, action
from kmock._internal.k8s import KubernetesError
from kmock._internal.rendering import Request

SCHEMAS = "1.34"
"""The version of Kubernetes whose schemas manifests are held to."""

JOBS, CRON_JOBS, PODS, SECRETS = "batch/v1/jobs", "batch/v1/cronjobs", "v1/pods", "v1/secrets"
KINDS = {"jobs": "Job", "cronjobs": "CronJob", "secrets": "Secret"}
NAMESPACE = "posttrain"
POLL_SECONDS = 0.2

Manifest = dict[str, Any]


class Api(KubernetesEmulator):
    """Takes what Kubernetes would take, and fills in what it would."""

    async def _handle(self, request: Request) -> Any:
        if request.action == action.CREATE and isinstance(request.data, dict):
            where = request.resource  # a client may leave out what the address says
            sent = _without_nulls(request.data)
            request.data.clear()
            request.data.update(sent)
            request.data.setdefault("apiVersion", f"{where.group}/{where.version}".strip("/"))
            request.data.setdefault("kind", KINDS[where.plural])
            try:
                kubernetes_validate.validate(request.data, SCHEMAS, strict=True)
            except kubernetes_validate.ValidationError as error:
                message = f"{'.'.join(map(str, error.path))}: {error.message}"
                raise KubernetesError(status=422, reason="Invalid", message=message) from error
            request.data.setdefault("status", {})
        return await super()._handle(request)


def _without_nulls(value: Any) -> Any:
    """A null is as good as absent. ZenML sends some, and the keys of some are no keys at all."""
    if isinstance(value, dict):
        return {key: _without_nulls(found) for key, found in value.items() if found is not None}
    if isinstance(value, list):
        return [_without_nulls(found) for found in value]
    return value


class Cluster:
    """The API at `url`, and the kubelet once it is told what its nodes have."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self.loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self.started = threading.Event()
        self.api: Api
        self.url = ""
        self.thread = threading.Thread(target=self.loop.run_until_complete, args=[self._serve()])
        self.thread.start()
        self.started.wait()
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(self._kubeconfig()), encoding="utf-8")

    def close(self) -> None:
        """End the API and whatever still runs."""
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join()

    def manifests(self, kind: str) -> list[Manifest]:
        """What there is, in the order of arrival."""
        return [found.raw for found in self._objects(kind) if not found.deleted]

    def deleted(self, kind: str) -> list[Manifest]:
        """What there was."""
        return [found.last.raw for found in self._objects(kind) if found.deleted]

    def _objects(self, kind: str) -> list[Object]:
        return [
            found
            for (resource, _, _), found in list(self.api.objects.items())
            if f"{resource.group}/{resource.version}/{resource.plural}".strip("/") == kind
        ]

    def logs(self) -> str:
        """The last lines of each process, without the frames of ZenML's own stack."""
        found = []
        for file in sorted(self.folder.glob("*.log")):
            lines = [line for line in file.read_text("utf-8").splitlines() if "│" not in line]
            found += [f"--- {file.stem}", *lines[-40:]]
        return "\n".join(found)

    def _kubeconfig(self) -> Manifest:
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }

    async def _serve(self) -> None:
        async with Api() as self.api, Server(self.api) as server:
            self.api.resources.load_bundled()
            self.url = str(server.url)
            self.started.set()
            running: dict[str, asyncio.Task[None]] = {}
            while not self.stopping.is_set():
                for job in self.manifests(JOBS) if self.environment else []:
                    name = job["metadata"]["name"]
                    if name not in running:
                        running[name] = asyncio.create_task(self._run(job))
                await asyncio.sleep(POLL_SECONDS)
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _run(self, job: Manifest) -> None:
        """Run a Job's pod to its end."""
        name = job["metadata"]["name"]
        pod = job["spec"]["template"]["spec"]
        container = pod["containers"][0]
        if "step_name" not in job["metadata"]["labels"]:
            self._add_pod(job)
        with (self.folder / f"{name}.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *container["command"][1:],
                *container["args"],
                env=self._environment(name, pod),
                stdout=log,
                stderr=log,
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.kill()
                raise
        condition = {"type": "Failed" if status else "Complete", "status": "True"}
        self.api.objects[JOBS, NAMESPACE, name].patch({"status": {"conditions": [condition]}})

    def _add_pod(self, job: Manifest) -> None:
        """The orchestrator looks for its own pod, by the name of its host."""
        name = job["metadata"]["name"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": f"uid-of-{name}"}
        metadata = {"name": socket.gethostname(), "labels": {"job-name": name}}
        self.api.objects[PODS, NAMESPACE, socket.gethostname()] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {**metadata, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "status": {"phase": "Running"},
        }

    def _environment(self, job: str, pod: Manifest) -> dict[str, str]:
        """A container's: nothing of this process but where Python finds its modules."""
        container = pod["containers"][0]
        found = {
            "PATH": os.environ["PATH"],
            "KUBECONFIG": str(self.kubeconfig),
            **self.environment,
        }
        folders = self._folders(job, pod)
        for entry in container["env"]:
            value = self._value(entry)
            for mount, folder in folders.items():
                if value == mount or value.startswith(f"{mount}/"):
                    value = str(folder) + value[len(mount) :]
            found[entry["name"]] = value
        return found

    def _value(self, entry: Manifest) -> str:
        if "value" in entry:
            return str(entry["value"])
        reference = entry["valueFrom"]["secretKeyRef"]
        secret = self.api.objects[SECRETS, NAMESPACE, reference["name"]].raw
        return base64.b64decode(secret["data"][reference["key"]]).decode()

    def _folders(self, job: str, pod: Manifest) -> dict[str, Path]:
        """Mount path -> folder: a claim's is shared, an empty one is the pod's own."""
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        found = {}
        for mount in pod["containers"][0]["volumeMounts"]:
            volume = volumes[mount["name"]]
            claim = volume.get("persistentVolumeClaim")
            parts = ("claims", claim["claimName"]) if claim else (job, volume["name"])
            folder = self.folder.joinpath(*parts)
            folder.mkdir(parents=True, exist_ok=True)
            found[mount["mountPath"]] = folder
        return found


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose files lie in `folder`."""
    folder.mkdir(parents=True)
    found = Cluster(folder)
    try:
        yield found
    finally:
        found.close()
