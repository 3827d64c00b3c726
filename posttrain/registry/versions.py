"""Versions in MLflow's registry: found by tag, alias or number, with what their folders hold.

A version's source is a folder of a run's artifacts: `policy/`, `tokenizer/`, `evaluation.json` and
`README.md`; a base's is the base's own folder. Tags say what a version is and where it came from.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pydantic
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from posttrain.artifacts import BaseModel, Policy
from posttrain.hashes import sha256_of
from posttrain.hiding import hide
from posttrain.reports import Evaluation

CHALLENGER, CHAMPION, PREVIOUS = "challenger", "champion", "previous"
EXPERIMENT = "posttrain"
EVALUATION, CARD = "evaluation.json", "README.md"
LINEAGE = "lineage."
"""Prefix of the tags that say where a version came from."""

ABSENT = (
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
)  # MLflow gives the latter for aliases


def base_name(name: str) -> str:
    """Registered model that holds the bases of `name`'s versions."""
    return f"{name}-base"


def history_name(name: str) -> str:
    """Registered model whose versions are the lines of `name`'s promotion history."""
    return f"{name}-history"


def lock_prefix(name: str) -> str:
    """What the registered models begin with that lock `name`."""
    return f"{name}-lock-"


def model_names(client: MlflowClient) -> list[str]:
    """Registered models that are models: no bases, histories or locks of such."""
    found = {model.name for model in _all_models(client)}
    kept = re.compile(r"(?P<of>.+)-(base|history|lock-\d{6,})")
    matches = ((name, kept.fullmatch(name)) for name in sorted(found))
    return [name for name, match in matches if match is None or match["of"] not in found]


def _all_models(client: MlflowClient) -> Iterator[RegisteredModel]:
    token = None
    while True:
        page = client.search_registered_models(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def by_content(client: MlflowClient, name: str, content_hash: str) -> ModelVersion | None:
    """The version that holds this content; the first of several."""
    found = client.search_model_versions(f"name='{name}' and tags.content_hash='{content_hash}'")
    return min(found, key=lambda version: int(version.version), default=None)


def by_alias(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that an alias points to, or None where the model or the alias does not exist."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None


def content_hash(domain: BaseModel, policy: Policy) -> str:
    """What makes a version: the policy's files and facts, its base and its template."""
    facts = domain.facts
    return sha256_of([policy.content_hash(), facts.fingerprint, facts.template_hash])


def resolve(client: MlflowClient, name: str, alias_or_version: str) -> ModelVersion:
    """The version that a person named.

    Raises:
        ValueError: it does not exist; says what does.
    """
    version = None
    if alias_or_version.isdecimal():
        found = client.search_model_versions(f"name='{name}'")
        version = next((v for v in found if int(v.version) == int(alias_or_version)), None)
    else:
        version = by_alias(client, name, alias_or_version)
    if version is None:
        raise ValueError(f"{name}@{alias_or_version}: {what_exists(client, name)}")
    return version


def ensure_model(client: MlflowClient, name: str) -> None:
    """Create the registered model unless it exists."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def read_evaluation(client: MlflowClient, version: ModelVersion) -> Evaluation | None:
    """The evaluation registered with a version, or None where it has none that can be read.

    One that another release of ours wrote with other fields has no figures to compare with: the
    comparisons then fail and say so, and promotion goes on.
    """
    uri = client.get_model_version_download_uri(version.name, str(version.version))
    with tempfile.TemporaryDirectory() as folder:
        listed = mlflow.artifacts.list_artifacts(artifact_uri=uri) or []
        if not any(Path(item.path).name == EVALUATION for item in listed):
            return None
        file = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{uri}/{EVALUATION}", dst_path=folder
        )
        try:
            return Evaluation.model_validate_json(Path(file).read_bytes())
        except pydantic.ValidationError:
            return None


def read_card(client: MlflowClient, version: ModelVersion) -> str:
    """The model card registered with a version."""
    uri = client.get_model_version_download_uri(version.name, str(version.version))
    with tempfile.TemporaryDirectory() as folder:
        file = mlflow.artifacts.download_artifacts(artifact_uri=f"{uri}/{CARD}", dst_path=folder)
        return Path(file).read_text(encoding="utf-8")


@contextmanager
def artifact_run(client: MlflowClient, name: str) -> Iterator[str]:
    """Id of the run that holds new artifacts: the active one, as in a ZenML step, else our own."""
    active = mlflow.active_run()
    if active is not None:
        yield active.info.run_id
        return
    experiment = client.get_experiment_by_name(EXPERIMENT)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(EXPERIMENT)
    run_id = client.create_run(experiment_id, run_name=f"register {name}").info.run_id
    try:
        yield run_id
    except BaseException:
        client.set_terminated(run_id, status="FAILED")
        raise
    client.set_terminated(run_id)


def tag_name(text: str) -> str:
    """A name that MLflow accepts as a tag's or metric's."""
    return re.sub(r"[^\w.\- :/]", "_", text)


def what_exists(client: MlflowClient, name: str) -> str:
    """What a person may have meant, for an error that names what is not there."""
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return (
            f"{hide(mlflow.get_tracking_uri())} has no registered model {name!r} "
            f"(found: {', '.join(model_names(client)) or 'none'}); "
            "run the pipeline first, or set MLFLOW_TRACKING_URI"
        )
    numbers = sorted(int(v.version) for v in client.search_model_versions(f"name='{name}'"))
    aliases = ", ".join(f"{alias} -> {number}" for alias, number in sorted(model.aliases.items()))
    return f"no such version or alias (versions: {numbers}; aliases: {aliases or 'none'})"
