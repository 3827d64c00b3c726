"""The same content is one version, with all that it needs."""

from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry.register import register
from posttrain.registry.versions import read_evaluation
from tests import samples

RECIPE = RegistrationRecipe(model_name="museum", licence="Apache-2.0", languages=("ko", "en"))
LINEAGE = {"zenml_run": "fine_tuning-1", "git_commit": "3d46a12", "data.corpus": "c" * 64}


def test_a_version_points_to_its_files_and_its_base(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = samples.evaluation(policy.content_hash())
    version = register(base, policy, evaluation, RECIPE, LINEAGE)

    assert (version.name, version.version, version.is_new) == ("museum", 1, True)
    entry = registry.get_model_version_by_alias("museum", "challenger")
    files = {path.relative_to(entry.source).as_posix() for path in Path(entry.source).rglob("*.*")}
    assert {
        "policy/manifest.json",
        "policy/adapter/adapter_model.safetensors",
        "tokenizer/chat_template.jinja",
        "evaluation.json",
        "README.md",
    } <= files
    assert not any("weights" in name for name in files)
    assert entry.tags["content_hash"] == version.content_hash
    assert entry.tags["lineage.git_commit"] == "3d46a12"
    assert entry.tags["lineage.data.corpus"] == "c" * 64
    assert entry.tags["figure.fact_accuracy.A"] == "0.95"
    base_entry = registry.get_model_version("museum-base", entry.tags["base_version"])
    assert base_entry.tags["base_fingerprint"] == base.facts.fingerprint
    assert Path(base_entry.source, "weights/model.safetensors").read_text() == "base"
    assert read_evaluation(registry, entry) == evaluation


def test_the_same_content_is_the_same_version(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = samples.evaluation(policy.content_hash())
    first = register(base, policy, evaluation, RECIPE, LINEAGE)
    again = register(base, policy, evaluation, RECIPE, {"zenml_run": "fine_tuning-2"})
    assert again == first.model_copy(update={"is_new": False})
    assert len(registry.search_model_versions("name='museum'")) == 1
    assert registry.get_model_version("museum", "1").tags["lineage.zenml_run"] == "fine_tuning-1"


def test_a_second_policy_shares_the_base(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    for number in ("1", "2"):
        policy = samples.policy(tmp_path / f"policy{number}", base, weights=number)
        evaluation = samples.evaluation(policy.content_hash())
        assert register(base, policy, evaluation, RECIPE, LINEAGE).version == int(number)
    assert len(registry.search_model_versions("name='museum-base'")) == 1
    assert registry.get_registered_model("museum").aliases == {"challenger": 2}
    assert len(list(Path("mlruns").rglob("model.safetensors"))) == 1


def test_a_new_evaluation_replaces_the_old_one(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    register(base, policy, samples.evaluation(policy.content_hash()), RECIPE, LINEAGE)
    anew = samples.evaluation(policy.content_hash(), "e" * 64, **{"fact_accuracy.A": 0.5})
    assert not register(base, policy, anew, RECIPE, {}).is_new
    entry = registry.get_model_version("museum", "1")
    assert read_evaluation(registry, entry) == anew
    assert entry.tags["held_out_hash"] == "e" * 64
    assert entry.tags["figure.fact_accuracy.A"] == "0.5"
    text = Path(entry.source, "README.md").read_text(encoding="utf-8")
    assert "`3d46a12`" in text
    assert "version 1 of `museum-base`" in text


def test_a_registration_that_was_killed_is_taken_up(
    registry: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = samples.evaluation(policy.content_hash())
    log_artifacts = MlflowClient.log_artifacts

    def killed(self: MlflowClient, run_id: str, folder: str, path: str) -> None:
        if path.endswith("/tokenizer"):  # after the base, and half of the version
            raise KeyboardInterrupt
        log_artifacts(self, run_id, folder, path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, "log_artifacts", killed)
        register(base, policy, evaluation, RECIPE, LINEAGE)
    assert registry.search_model_versions("name='museum'") == []
    assert register(base, policy, evaluation, RECIPE, LINEAGE).version == 1
    runs = registry.search_runs([registry.get_experiment_by_name("posttrain").experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    assert len(registry.search_model_versions("name='museum-base'")) == 1


def test_a_changed_file_is_not_registered(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    (base.path / "tokenizer" / "tokenizer.json").unlink()  # MLflow would upload the rest
    with pytest.raises(ValueError, match="differs from its manifest"):
        register(base, policy, samples.evaluation(policy.content_hash()), RECIPE, {})


def test_the_active_run_holds_the_files(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    with mlflow.start_run() as run:
        register(base, policy, samples.evaluation(policy.content_hash()), RECIPE, LINEAGE)
    assert registry.get_model_version("museum", "1").run_id == run.info.run_id
    assert registry.get_experiment_by_name("posttrain") is None
    assert registry.get_run(run.info.run_id).data.metrics["final/fact_accuracy.A"] == 0.95


def test_a_policy_of_another_base_is_refused(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    other = samples.base_model(tmp_path / "other", weights="other")
    policy = samples.policy(tmp_path / "policy", base)
    with pytest.raises(ValueError, match="was trained on base fingerprint"):
        register(other, policy, samples.evaluation(policy.content_hash()), RECIPE, {})


def test_an_evaluation_of_another_policy_is_refused(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    with pytest.raises(ValueError, match="the evaluation is of policy 000000000000"):
        register(base, policy, samples.evaluation("0" * 64), RECIPE, {})


def test_a_reference_base_is_registered_without_weights(
    registry: MlflowClient, tmp_path: Path
) -> None:
    base = samples.base_model(tmp_path / "base", kind="hub")
    policy = samples.policy(tmp_path / "policy", base)
    register(base, policy, samples.evaluation(policy.content_hash()), RECIPE, LINEAGE)
    source = Path(registry.get_model_version("museum-base", "1").source)
    names = {file.relative_to(source).as_posix() for file in source.rglob("*.*")}
    assert names == {"manifest.json", "tokenizer/tokenizer.json", "tokenizer/chat_template.jinja"}
    card = Path(registry.get_model_version("museum", "1").source, "README.md").read_text()
    assert '"acme/tiny", revision="0123abc"' in card


def test_the_card_has_a_header_and_the_figures(registry: MlflowClient, tmp_path: Path) -> None:
    base = samples.base_model(tmp_path / "base", kind="hub")
    policy = samples.policy(tmp_path / "policy", base)
    register(base, policy, samples.evaluation(policy.content_hash()), RECIPE, LINEAGE)
    card = Path(registry.get_model_version("museum", "1").source, "README.md").read_text()
    _, header, body = card.split("---\n", 2)
    fields = yaml.safe_load(header)
    assert [one["name"] for one in fields.pop("model-index")] == ["museum"]
    assert fields == {
        "license": "apache-2.0",
        "language": ["ko", "en"],
        "base_model": "acme/tiny",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["posttrain", "sft", "lora"],
    }
    assert "| Fact accuracy A | 0.00 (0.00–0.007) | 0.27 (0.20–0.34) | 0.95 (0.92–0.98) |" in body
    assert f"| data.corpus | `{'c' * 64}` |" in body
    assert "version 1 of `museum-base`" in body
