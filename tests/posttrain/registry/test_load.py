"""A registered version comes back to the byte, or not at all."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.artifacts import Policy
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.load import download
from posttrain.registry.register import register
from tests import samples


@pytest.fixture
def version(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = samples.evaluation(policy.content_hash())
    register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("name", ["challenger", "1"])
def test_what_was_registered_comes_back(tmp_path: Path, name: str) -> None:
    base, policy = download("museum", name, tmp_path / "got")
    assert (base.path / "weights" / "model.safetensors").read_text() == "base"
    assert (policy.path / "adapter" / "adapter_model.safetensors").read_text() == "adapter"
    assert policy.facts.trained_on.base_fingerprint == base.facts.fingerprint


@pytest.mark.usefixtures("version")
def test_a_second_download_reads_what_is_there(tmp_path: Path) -> None:
    base, _ = download("museum", "1", tmp_path / "got")
    before = (base.path / "weights" / "model.safetensors").stat().st_mtime_ns
    again, _ = download("museum", "challenger", tmp_path / "got")
    assert (again.path / "weights" / "model.safetensors").stat().st_mtime_ns == before
    assert sorted(path.name[:4] for path in (tmp_path / "got").iterdir()) == ["base", "poli"]


@pytest.mark.usefixtures("version")
def test_a_changed_weight_is_refused(registry: MlflowClient, tmp_path: Path) -> None:
    stored = Path(registry.get_model_version("museum", "1").source, "policy/adapter")
    (stored / "adapter_model.safetensors").write_text("adaptes")
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors.*to fetch it anew"):
        download("museum", "1", tmp_path / "got")


@pytest.mark.usefixtures("version")
def test_a_forged_manifest_is_refused(registry: MlflowClient, tmp_path: Path) -> None:
    stored = Path(registry.get_model_version("museum", "1").source, "policy")
    policy = Policy(stored)
    facts = policy.facts.model_copy(update={"num_trainable": 65_537})
    Policy.write(stored, policy.manifest.stage, facts)  # sealed as it should be
    with pytest.raises(ValueError, match="is not what was registered"):
        download("museum", "1", tmp_path / "got")


def test_an_unknown_model_names_the_known_ones(registry: MlflowClient, tmp_path: Path) -> None:
    registry.create_registered_model("library")
    with pytest.raises(ValueError, match=r"no registered model 'museum' \(found: library\)"):
        download("museum", "champion", tmp_path)


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize("name", ["champion", "7"])
def test_an_unknown_alias_or_version_names_the_known_ones(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"versions: \[1\]; aliases: challenger -> 1"):
        download("museum", name, tmp_path)


def test_a_version_of_another_tool_is_refused(registry: MlflowClient, tmp_path: Path) -> None:
    registry.create_registered_model("museum")
    registry.create_model_version("museum", str(tmp_path))
    with pytest.raises(ValueError, match="was not registered by posttrain"):
        download("museum", "1", tmp_path)
