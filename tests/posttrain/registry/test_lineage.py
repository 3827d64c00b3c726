"""Where a version came from, down to the data of the base that it was made from."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.decisions import RegisteredVersion
from posttrain.facts import RegisteredBase
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.registry import promotions
from posttrain.registry.lineage import lineage
from posttrain.registry.register import register
from tests import samples
from tests.origins import add_version, role

ORIGIN = {
    "zenml_pipeline": "fine_tuning",
    "zenml_run": "fine_tuning-1",
    "zenml_run_id": "5c1e",
    "git_commit": "3d46a12-dirty",
    "image.sft": "registry/posttrain-train@sha256:12",
}


@pytest.fixture
def first(registry: MlflowClient, tmp_path: Path) -> RegisteredVersion:
    data = {"corpus": role({"data/one.jsonl": "a" * 64})}
    return add_version(tmp_path / "one", data, {"corpus": "c" * 64}, lineage=ORIGIN)


def test_a_version_tells_run_data_base_code_and_hashes(
    registry: MlflowClient, first: RegisteredVersion
) -> None:
    found = lineage(registry, "museum", "challenger")
    assert (found.name, found.version, found.aliases) == ("museum", 1, ("challenger",))
    assert found.runs["zenml_run"] == "fine_tuning-1"
    assert found.runs["mlflow_run"] == "register museum"
    assert found.data["corpus"].files == {"data/one.jsonl": "a" * 64}
    assert found.data["corpus"].rows == "c" * 64
    assert (found.code.commit, found.code.is_dirty) == ("3d46a12", True)
    assert found.code.libraries == {"torch": "2.13.0"}
    assert found.code.images == {"sft": "registry/posttrain-train@sha256:12"}
    assert found.hashes["content"] == first.content_hash
    assert found.hashes["constitution"] == "e" * 64
    assert found.hashes["template"] == samples.TEMPLATE_HASH
    assert found.missing == ()


def test_what_was_decided_stands_beside_it(
    registry: MlflowClient, first: RegisteredVersion
) -> None:
    promotions.move(registry, "museum", 1, action="promote", who="kim", why="better")
    found = lineage(registry, "museum", "1")
    assert found.aliases == ("challenger", "champion")
    assert [(entry.action, entry.who, entry.why) for entry in found.history] == [
        ("promote", "kim", "better")
    ]


def test_a_base_from_the_registry_is_followed_to_its_own_data(
    registry: MlflowClient, first: RegisteredVersion, tmp_path: Path
) -> None:
    origin = RegisteredBase(name="museum", version=1, content_hash=first.content_hash)
    data = {"corpus": role({"data/two.jsonl": "b" * 64})}
    add_version(tmp_path / "two", data, {"corpus": "d" * 64}, made_from=origin)
    found = lineage(registry, "museum", "2")
    assert found.data["corpus"].files == {"data/two.jsonl": "b" * 64}
    below = found.base.registered
    assert below is not None
    assert (below.version, below.data["corpus"].files) == (1, {"data/one.jsonl": "a" * 64})


def test_a_base_that_is_gone_or_another_by_now_is_named(
    registry: MlflowClient, first: RegisteredVersion, tmp_path: Path
) -> None:
    other = RegisteredBase(name="museum", version=1, content_hash="0" * 64)
    gone = RegisteredBase(name="museum", version=9, content_hash=first.content_hash)
    for number, origin in enumerate((other, gone), 2):
        add_version(tmp_path / str(number), {}, {}, made_from=origin)
        found = lineage(registry, "museum", str(number))
        assert found.base.registered is None
        assert f"museum version {origin.version}" in found.missing[0]


def test_a_version_without_an_evaluation_tells_what_its_tags_hold(
    registry: MlflowClient, tmp_path: Path
) -> None:
    base = samples.base_model(tmp_path / "base")
    policy = samples.policy(tmp_path / "policy", base)
    evaluation = samples.evaluation(policy.content_hash())
    register(base, policy, evaluation, RegistrationRecipe(model_name="museum"), {})
    source = registry.get_model_version("museum", "1").source
    Path(str(source), "evaluation.json").write_text('{"of": "another release"}')
    found = lineage(registry, "museum", "1")
    assert found.data["corpus"].rows == evaluation.data_hashes["corpus"]
    assert found.data["corpus"].files == {}
    assert found.missing == ("no evaluation of this release beside it",)
