"""The bill of materials is CycloneDX by its schema, and names what was there."""

import json
from importlib.metadata import version
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from mlflow import MlflowClient

from posttrain import sbom
from posttrain.evaluate.recorded import packages
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.register import register
from posttrain.reports import Evaluation, Package
from tests import samples
from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]


def check(text: str) -> dict[str, dict[str, object]]:
    """Its components by their references; valid by the schema."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    return {one["bom-ref"]: one for one in bom["components"]}


def measured(policy_hash: str) -> Evaluation:
    evaluation = samples.evaluation(policy_hash)
    return evaluation.model_copy(update={"packages": packages()})


def test_an_environments_bill_names_every_package() -> None:
    found = check(sbom.of_packages("posttrain", "0.1.0", packages(), {"libc6": "2.36-9"}))
    assert found["python:mlflow"]["version"] == version("mlflow")
    assert found["python:mlflow"]["purl"] == f"pkg:pypi/mlflow@{version('mlflow')}"
    assert found["python:pydantic"]["licenses"] == [{"license": {"id": "MIT"}}]
    assert found["debian:libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9"
    assert len(found) == len(packages()) + 1 > 100


def test_any_words_for_a_licence_are_valid() -> None:
    words = ("MIT", "Apache-2.0 OR BSD-2-Clause", "BSD License; Public Domain", "unknown")
    given = {f"p{i}": Package(version="1", licence=text) for i, text in enumerate(words)}
    found = check(sbom.of_packages("x", "1", given, {}))
    assert "licenses" not in found["python:p3"]
    assert found["python:p1"]["licenses"] == [{"expression": words[1]}]


def test_a_registered_version_has_one(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = measured(policy.content_hash())
    version_ = register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})
    entry = registry.get_model_version("museum", "1")
    text = Path(entry.source, sbom.FILE).read_text("utf-8")
    found = check(text)
    assert {f"python:{name}" for name in packages()} <= set(found)
    for role, digest in evaluation.data_hashes.items():
        assert found[f"data:{role}"]["hashes"] == [{"alg": "SHA-256", "content": digest}]
    model = json.loads(text)["metadata"]["component"]
    assert (model["type"], model["name"]) == ("machine-learning-model", "museum")
    assert model["version"] == version_.content_hash
