"""A Kubernetes API on loopback, with a kubelet that starts the commands of Jobs as processes here.

The API is kmock's, with an admission of ours: a manifest that the schemas of Kubernetes refuse is
refused. What quotas, network policies and security contexts do takes a cluster.
"""

import asyncio
import base64
import json
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

from tests.kubelet import JOBS, NAMESPACE, SECRETS, Kubelet, Manifest, Pod

SCHEMAS = "1.34"
"""The version of Kubernetes whose schemas manifests are held to."""

KINDS = {"jobs": "Job", "cronjobs": "CronJob", "secrets": "Secret"}
POLL_SECONDS = 0.2


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
        self.kubelet: Kubelet
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

    def pods(self, job: Manifest) -> list[Pod]:
        """A Job's, in the order of their start."""
        return [pod for pod in self.kubelet.pods if pod.job == job["metadata"]["name"]]

    def add_secret(self, name: str, values: dict[str, str]) -> None:
        """As `kubectl create secret generic` does."""
        coded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.api.objects[SECRETS, NAMESPACE, name] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "data": coded,
        }

    def everything_but_secrets(self) -> str:
        """All that was ever sent, as JSON."""
        kept = [
            found.last.raw if found.deleted else found.raw
            for (resource, _, _), found in list(self.api.objects.items())
            if resource.plural != "secrets"
        ]
        return json.dumps(kept)

    def fire(self, cron_job: Manifest) -> None:
        """What the CronJob controller does when the time has come."""
        template = cron_job["spec"]["jobTemplate"]
        name = f"{cron_job['metadata']['name']}-{len(self.manifests(JOBS))}"
        self.api.objects[JOBS, NAMESPACE, name] = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {**template["metadata"], "name": name, "namespace": NAMESPACE},
            "spec": template["spec"],
            "status": {},
        }

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
            self.kubelet = Kubelet(self.api, self.folder)
            running: dict[str, asyncio.Task[None]] = {}
            while not self.stopping.is_set():
                for job in self.manifests(JOBS) if self.environment else []:
                    name = job["metadata"]["name"]
                    if name not in running:
                        given = {"KUBECONFIG": str(self.kubeconfig), **self.environment}
                        running[name] = asyncio.create_task(self.kubelet.run(job, given))
                for task in running.values():
                    if task.done():
                        task.result()  # an error of the kubelet's ends the API, and so the test
                await asyncio.sleep(POLL_SECONDS)
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster whose files lie in `folder`."""
    folder.mkdir(parents=True)
    found = Cluster(folder)
    try:
        yield found
    finally:
        found.close()
