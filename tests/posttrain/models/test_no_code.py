"""Whoever puts code or a pickle where we read leaves nothing behind: it is never run.

A sentinel file is what each of them would leave.
"""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from posttrain.artifacts import MANIFEST, BaseModel, Policy
from posttrain.facts import Reference
from posttrain.models.adapters import attach_folder
from posttrain.models.candidate import find, in_folder
from posttrain.models.code import code_of
from posttrain.models.exported import load_exported, read_facts
from posttrain.models.exporting import Version, write_peft
from posttrain.models.load import load_backbone, load_base, load_policy, load_weights
from posttrain.models.seal import seal
from posttrain.models.tokenizer import load_tokenizer, read_tokenizer
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.registry.load import download
from posttrain.registry.versions import read_card, read_evaluation, resolve
from steps._folders import FolderMaterializer
from tests.faults import Injected
from tests.policies import make_policy
from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]

CODE = """
from pathlib import Path
Path({sentinel!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = {model_type!r}
class Model(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO_MAP = {
    "AutoConfig": "code.Config",
    "AutoModel": "code.Model",
    "AutoModelForCausalLM": "code.Model",
    "AutoTokenizer": [None, "code.Tokenizer"],
}
COMMIT = "c" * 40


class Trap:
    """Unpickled, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.open, (str(self.sentinel), os.O_CREAT)


@pytest.fixture
def sentinel(tmp_path: Path) -> Path:
    """The trap works: unpickled here once, it left its file."""
    file = tmp_path / "sentinel"
    os.close(pickle.loads(pickle.dumps(Trap(file))))  # noqa: S301  our own
    assert file.exists()
    file.unlink()
    return file


def model_folder(base: BaseModel, folder: Path) -> Path:
    shutil.copytree(base.path / "weights", folder)
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    return folder


def bring_code(folder: Path, sentinel: Path, model_type: str) -> None:
    """Python of its own beside the weights, named by both of the files that may name it."""
    code = CODE.format(sentinel=str(sentinel), model_type=model_type)
    (folder / "code.py").write_text(code, encoding="utf-8")
    for name in ("config.json", "tokenizer_config.json"):
        described = json.loads((folder / name).read_bytes()) | {"auto_map": AUTO_MAP}
        if name == "config.json":
            described["model_type"] = model_type
        (folder / name).write_text(json.dumps(described), encoding="utf-8")


@pytest.mark.fault("Input", "a model brings Python", "auto_map, sentinel file")
def test_code_of_a_known_architecture_is_passed_over(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    folder = model_folder(base, tmp_path / "model")
    bring_code(folder, sentinel, "llama")
    assert in_folder(folder).config.model_type == "llama"
    assert type(load_weights(folder)).__module__.startswith("transformers.models.llama")
    load_backbone(folder, "LlamaForCausalLM")
    (tmp_path / "sealed").mkdir()
    reference = Reference(kind="local", source=str(folder))
    tokenizer = read_tokenizer(folder)
    load_base(seal(tmp_path / "sealed", "base_model", reference, folder, tokenizer, False))
    injected.add(5, lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a model brings Python", "auto_map, sentinel file")
def test_a_model_that_is_nothing_without_its_code_is_refused(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    folder = model_folder(base, tmp_path / "model")
    bring_code(folder, sentinel, "strange")
    for number, read in enumerate((in_folder, load_weights), 1):
        with pytest.raises(ValueError, match=r"trust_remote_code"):
            read(folder)
        assert not sentinel.exists(), number
    with pytest.raises(ValueError, match=r"base_model\.source: .* works by Python of its own"):
        find(BaseModelRecipe(source=str(folder)))
    injected.add(3, lost=int(sentinel.exists()))
    assert not sentinel.exists()


TRUSTED = {"repository": "kim/strange", "commit": COMMIT}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"trust_remote_code": True}, "write what is trusted, {repository: owner/name"),
        ({"trust_remote_code": "yes"}, "write what is trusted"),
        ({"trust_remote_code": {"repository": "kim/strange"}}, "commit"),
        ({"trust_remote_code": {**TRUSTED, "commit": "main"}}, "commit"),
        ({"trust_remote_code": TRUSTED}, "both must name the same repository and commit"),
        (
            {"trust_remote_code": {**TRUSTED, "repository": "lee/x"}, "revision": COMMIT},
            "both must",
        ),
    ],
)
def test_code_is_trusted_by_repository_and_commit_alone(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r"base_model|trust_remote_code") as refused:
        BaseModelRecipe.model_validate({"source": "kim/strange", **given})
    assert told in str(refused.value)


def test_what_a_recipe_trusts_the_machine_must_allow_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe, or an artifact's manifest, may come from somebody else."""
    reference = Reference(kind="hub", source="kim/strange", revision=COMMIT, trusts_code=True)
    with pytest.raises(ValueError, match=f"POSTTRAIN_TRUSTED_CODE=kim/strange@{COMMIT}"):
        code_of(reference)
    monkeypatch.setenv("POSTTRAIN_TRUSTED_CODE", f"lee/other@{COMMIT},kim/strange@{'d' * 40}")
    with pytest.raises(ValueError, match="brings Python that would run here"):
        code_of(reference)
    monkeypatch.setenv("POSTTRAIN_TRUSTED_CODE", f"lee/other@{COMMIT},kim/strange@{COMMIT}")
    assert code_of(reference) == {"trust_remote_code": True, "code_revision": COMMIT}
    assert code_of(reference.model_copy(update={"trusts_code": False})) == {
        "trust_remote_code": False
    }


def test_a_folder_has_no_code_to_trust(base: BaseModel, tmp_path: Path) -> None:
    folder = model_folder(base, tmp_path / "model")
    trusted = {"repository": str(folder), "commit": COMMIT}
    recipe = {"source": str(folder), "revision": COMMIT, "trust_remote_code": trusted}
    with pytest.raises(ValueError, match="is a folder here, which has no commit"):
        find(BaseModelRecipe.model_validate(recipe))


PICKLES = (
    *("pytorch_model.bin", "model.bin", "model.pt", "model.pkl", "tokenizer.pkl", "vocab.pkl"),
    *("tokenizer.model", "adapter_model.bin", "optimizer.pt", "training_args.bin", "data.pkl"),
    *("python_model.pkl", "artifact.pkl", "vocab.bin", "spiece.model", "rng_state.pth"),
)
"""Names under which libraries look for pickles, or for what they take for one."""


def lay(folder: Path, sentinel: Path, *names: str) -> None:
    for name in names or PICKLES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(pickle.dumps(Trap(sentinel)))


@pytest.mark.fault("Input", "a pickle lies in wait", "model folder, sentinel file")
def test_pickles_in_a_models_folder_are_not_read(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    folder = model_folder(base, tmp_path / "model")
    lay(folder, sentinel)
    assert in_folder(folder).config.model_type == "llama"
    load_weights(folder)
    load_backbone(folder, "LlamaForCausalLM")
    injected.add(len(PICKLES), lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "model folder, sentinel file")
def test_a_model_of_pickled_weights_alone_is_refused(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    folder = model_folder(base, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    lay(folder, sentinel)
    index = {"weight_map": {"lm_head.weight": "pytorch_model.bin"}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    with pytest.raises(ValueError, match="holds no safetensors"):
        in_folder(folder)
    for read in (load_weights, lambda folder: load_backbone(folder, "LlamaForCausalLM")):
        with pytest.raises(OSError, match="safetensors"):
            read(folder)
    injected.add(3, lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "model folder, sentinel file")
def test_a_pickle_called_safetensors_is_refused(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    folder = model_folder(base, tmp_path / "model")
    lay(folder, sentinel, "model.safetensors", "adapter_model.safetensors")
    with pytest.raises(Exception, match=r"(?i)header|safetensor"):
        load_weights(folder)
    policy = make_policy(base, "lora", tmp_path / "policy")
    lay(policy.path / "adapter", sentinel, "adapter_model.safetensors")
    with pytest.raises(Exception, match=r"(?i)header|safetensor"):
        attach_folder(load_base(base), policy.path / "adapter", "x", trainable=False)
    with pytest.raises(ValueError, match="differs from its manifest"):
        load_policy(base, policy)
    injected.add(3, lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "artifact store, sentinel file")
def test_pickles_in_the_artifact_store_are_not_read(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    """Slipped in, they are seen; with a manifest made for them, they lie there unread."""
    stored = tmp_path / "store" / "artifact"
    shutil.copytree(base.path, stored)
    lay(stored, sentinel)
    lay(stored / "weights", sentinel)
    with pytest.raises(ValueError, match="differs from its manifest"):
        FolderMaterializer(str(stored)).load(BaseModel)
    facts = json.loads((stored / MANIFEST).read_bytes())["facts"]
    BaseModel.write(stored, "base_model", BaseModel.FACTS.model_validate(facts))
    loaded = FolderMaterializer(str(stored)).load(BaseModel)
    load_base(loaded)
    load_tokenizer(loaded)
    injected.add(2 * len(PICKLES), lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "exported folder, sentinel file")
def test_pickles_in_an_exported_folder_are_refused(
    base: BaseModel, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    policy = make_policy(base, "lora", tmp_path / "policy")
    write_peft(Version("museum", 3, base, policy), tmp_path / "peft")
    lay(tmp_path / "peft", sentinel, *PICKLES, "base/pytorch_model.bin")
    with pytest.raises(ValueError, match="files were added or taken away"):
        load_exported(tmp_path / "peft")
    assert read_facts(tmp_path / "peft").format == "peft"
    injected.add(len(PICKLES) + 1, lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "model registry, sentinel file")
def test_pickles_in_the_registry_are_not_read(
    registry: MlflowClient, sentinel: Path, tmp_path: Path, injected: Injected
) -> None:
    """A version of MLflow's own kind, whose model is a pickle, under our tags."""
    folder = tmp_path / "pyfunc"
    lay(
        folder,
        sentinel,
        *PICKLES,
        f"policy/{MANIFEST}",
        "policy/python_model.pkl",
        "evaluation.json",
    )
    flavor = {"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}
    described = {"flavors": {"python_function": flavor}, "model_uuid": "a" * 32}
    (folder / "MLmodel").write_text(json.dumps(described), encoding="utf-8")
    (folder / "README.md").write_text("a card", encoding="utf-8")
    for name in ("museum", "museum-base"):
        registry.create_registered_model(name)
        registry.create_model_version(
            name, folder.as_uri(), tags={"base_version": "1", "content_hash": "f" * 64}
        )
    with pytest.raises(ValueError, match="not the manifest of an artifact"):
        download("museum", "1", tmp_path / "cache")
    version = resolve(registry, "museum", "1")
    assert read_evaluation(registry, version) is None
    assert read_card(registry, version) == "a card"
    injected.add(len(PICKLES), lost=int(sentinel.exists()))
    assert not sentinel.exists()


@pytest.mark.fault("Input", "a pickle lies in wait", "model registry, sentinel file")
def test_mlflow_itself_unpickles_nothing_where_make_says_so(
    sentinel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, injected: Injected
) -> None:
    """Our environments turn it off; MLflow's default is on."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    lay(tmp_path / "pyfunc", sentinel, "python_model.pkl")
    flavor = {
        "loader_module": "mlflow.pyfunc.model",
        "python_model": "python_model.pkl",
        "cloudpickle_version": "3.0.0",
    }
    described = {"flavors": {"python_function": flavor}, "model_uuid": "a" * 32}
    (tmp_path / "pyfunc" / "MLmodel").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"(?i)pickle"):
        mlflow.pyfunc.load_model(str(tmp_path / "pyfunc"))
    injected.add(lost=int(sentinel.exists()))
    assert not sentinel.exists()


def test_policies_are_of_the_kind_that_is_tested(base: BaseModel, tmp_path: Path) -> None:
    """The same policy, without a trap in it, loads."""
    policy = make_policy(base, "lora", tmp_path / "policy")
    assert isinstance(policy, Policy)
    load_policy(base, policy)
