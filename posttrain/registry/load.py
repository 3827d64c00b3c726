"""Bring a registered version back as artifacts, verified to the byte."""

import shutil
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.artifacts import MANIFEST, BaseModel, Policy
from posttrain.registry.versions import base_name, content_hash, resolve


def download(name: str, alias_or_version: str, folder: Path) -> tuple[BaseModel, Policy]:
    """Fetch a version's base and policy into `folder`.

    What lies there already is verified and kept. A version is named by its number, or by an alias:
    `champion`, `challenger`, `previous`.

    Raises:
        ValueError: no such model, version or alias (says what exists); or a file differs from what
            was registered.
    """
    client = MlflowClient()
    version = resolve(client, name, alias_or_version)
    if "base_version" not in version.tags:
        raise ValueError(f"{name} version {version.version}: was not registered by posttrain")
    base_version = resolve(client, base_name(name), version.tags["base_version"])
    base = BaseModel(_fetch(client, base_version, "", folder / f"base-{_short(base_version)}"))
    policy = Policy(_fetch(client, version, "/policy", folder / f"policy-{_short(version)}"))
    for artifact in (base, policy):
        try:
            artifact.verify()
        except ValueError as error:
            raise ValueError(f"{error}; delete {artifact.path} to fetch it anew") from error
    if content_hash(base, policy) != version.tags["content_hash"]:
        raise ValueError(
            f"{name} version {version.version}: what was downloaded to {folder} is not what was "
            "registered, its manifest included; register it again"
        )
    return base, policy


def _short(version: ModelVersion) -> str:
    return str(version.tags["content_hash"])[:12]


def _fetch(client: MlflowClient, version: ModelVersion, part: str, target: Path) -> Path:
    """Download to a folder beside `target` and rename: a killed download leaves no `target`."""
    if (target / MANIFEST).exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    uri = client.get_model_version_download_uri(version.name, str(version.version))
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as staging:
        fetched = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri + part, dst_path=staging)
        )
        shutil.rmtree(target, ignore_errors=True)
        fetched.rename(target)
    return target
