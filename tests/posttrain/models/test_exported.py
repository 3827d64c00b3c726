import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.facts import Reference
from posttrain.models.exported import load_exported, read_facts
from posttrain.models.exporting import Version, trial_logits, write_merged, write_peft
from posttrain.models.load import load_policy
from posttrain.models.seal import seal
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.train import Method
from tests.architectures import make_base
from tests.hub import serve
from tests.policies import METHODS, make_policy
from tests.stand_ins import QWEN, write_qwen

ROOT = Path(__file__).parents[3]


@pytest.fixture
def policy(base: BaseModel, tmp_path: Path) -> Policy:
    return make_policy(base, "lora", tmp_path / "policy")


@pytest.fixture
def peft(base: BaseModel, policy: Policy, tmp_path: Path) -> Path:
    """An exported adapter with its base beside it."""
    write_peft(Version("museum", 3, base, policy), tmp_path / "peft")
    return tmp_path / "peft"


@pytest.fixture
def merged(base: BaseModel, policy: Policy, tmp_path: Path) -> Path:
    write_merged(Version("museum", 3, base, policy), tmp_path / "merged", torch.float32)
    return tmp_path / "merged"


def local_base(base: BaseModel, folder: Path) -> BaseModel:
    """The same weights as a folder outside the artifact."""
    shutil.copytree(base.path / "weights", folder / "outside")
    (folder / "sealed").mkdir()
    reference = Reference(kind="local", source=str(folder / "outside"))
    where, tokenizer = folder / "outside", load_tokenizer(base)
    return seal(folder / "sealed", "base_model", reference, where, tokenizer, has_delta=False)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_peft_folder_is_the_version_on_its_base(
    method: Method, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base("gemma3", tokenizer, tmp_path / "base")
    policy = make_policy(base, method, tmp_path / "policy")
    write_peft(Version("museum", 3, base, policy), tmp_path / "out")
    model, told, facts = load_exported(tmp_path / "out")
    expected = trial_logits(load_policy(base, policy), tokenizer)
    assert torch.equal(trial_logits(model, told), expected)
    assert (facts.format, facts.method) == ("peft", method)
    assert (facts.name, facts.version) == ("museum", 3)
    assert facts.base_fingerprint == base.facts.fingerprint
    assert any(isinstance(part, Linear4bit) for part in model.modules()) == (method == "qlora")
    assert not any(weight.requires_grad for weight in model.parameters())


def test_a_merged_folder_needs_no_base(base: BaseModel, merged: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    merged.rename(elsewhere)
    model, _, facts = load_exported(elsewhere)
    assert (facts.format, facts.base) == ("merged", base.facts.reference)
    assert type(model).__name__ == "LlamaForCausalLM"


@pytest.mark.parametrize("kind", ["peft", "merged"])
def test_a_changed_template_is_refused_with_both_hashes(
    kind: str, base: BaseModel, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(kind)
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8").replace("user", "visitor") + " ")
    recorded = base.facts.template_hash[:12]
    with pytest.raises(
        ValueError, match=rf"exported with chat template {recorded}, and has \w{{12}} now"
    ):
        load_exported(folder)


def test_a_changed_tokenizer_is_refused_with_both_hashes(base: BaseModel, merged: Path) -> None:
    file = merged / "tokenizer.json"
    about = json.loads(file.read_bytes())
    about["model"]["merges"].pop()
    file.write_text(json.dumps(about), encoding="utf-8")
    recorded = base.facts.tokenizer_hash[:12]
    with pytest.raises(ValueError, match=rf"with tokenizer {recorded}, and has \w{{12}} now"):
        load_exported(merged)


def test_changed_weights_are_refused(merged: Path) -> None:
    file = merged / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"changed since it was exported: \['model.safetensors'\]"):
        load_exported(merged)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors.index.json"])
def test_a_file_that_was_added_is_refused(name: str, merged: Path) -> None:
    (merged / name).write_text("{}")
    with pytest.raises(ValueError, match=rf"added or taken away: \['{name}'\]"):
        load_exported(merged)


def test_a_file_that_is_gone_is_refused(peft: Path) -> None:
    (peft / "base" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"taken away: \['base/model.safetensors'\]"):
        load_exported(peft)


def test_what_hubs_and_people_add_is_nobodys_concern(merged: Path) -> None:
    (merged / ".gitattributes").write_text("*.safetensors filter=lfs\n")
    (merged / ".cache").mkdir()
    (merged / ".cache" / "x.json").write_text("{}")
    (merged / "README.md").write_text("mine")
    assert load_exported(merged)[2].version == 3


def test_another_base_is_refused_with_both_fingerprints(base: BaseModel, tmp_path: Path) -> None:
    outside = local_base(base, tmp_path)
    policy = make_policy(outside, "lora", tmp_path / "policy")
    write_peft(Version("museum", 3, outside, policy), tmp_path / "out")
    assert load_exported(tmp_path / "out")[2].base.source == str(tmp_path / "outside")
    assert not (tmp_path / "out" / "base").exists()
    other = make_base("llama", load_tokenizer(base), tmp_path / "other")
    shutil.rmtree(tmp_path / "outside")
    shutil.copytree(other.path / "weights", tmp_path / "outside")
    recorded = outside.facts.fingerprint[:12]
    with pytest.raises(ValueError, match=rf"base fingerprint {recorded}, and .* has \w{{12}}; put"):
        load_exported(tmp_path / "out")
    shutil.rmtree(tmp_path / "outside")
    with pytest.raises(ValueError, match=r"outside is not there; put it back, or export with"):
        load_exported(tmp_path / "out")


def test_any_other_folder_is_refused(tmp_path: Path, merged: Path) -> None:
    with pytest.raises(ValueError, match=r"posttrain.json: no such file; `posttrain export`"):
        read_facts(tmp_path)
    (merged / "posttrain.json").write_text('{"format": "gguf"}')
    with pytest.raises(ValueError, match=r"posttrain.json: not written by `posttrain export`"):
        read_facts(merged)


FROM_THE_HUB = """
import sys
from pathlib import Path

from peft import PeftModel
from transformers import AutoModelForCausalLM

from posttrain.facts import Reference
from posttrain.models.exported import load_exported
from posttrain.models.exporting import Version, trial_logits, write_peft
from posttrain.models.seal import seal, weights_folder_of
from posttrain.models.tokenizer import read_tokenizer
from tests.policies import make_policy

name, commit, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
reference = Reference(kind="hub", source=name, revision=commit)
(folder / "base").mkdir()
weights = weights_folder_of(reference, folder / "base")
tokenizer = read_tokenizer(name, commit)
tokenizer.chat_template = (Path("recipes") / "chatml.jinja").read_text()
base = seal(folder / "base", "base_model", reference, weights, tokenizer, has_delta=False)
policy = make_policy(base, "lora", folder / "policy")
facts, expected = write_peft(Version("museum", 3, base, policy), folder / "out")
assert facts.base == reference and facts.base_fingerprint == base.facts.fingerprint
model, told, _ = load_exported(folder / "out")
assert (trial_logits(model, told) == expected).all()
stock = AutoModelForCausalLM.from_pretrained(name, revision=commit, dtype="float32")
plain = PeftModel.from_pretrained(stock, folder / "out").eval()
assert (trial_logits(plain, told) - expected).abs().max() < 1e-5
print("equal", plain.peft_config["default"].base_model_name_or_path)
"""


@pytest.mark.slow
def test_a_base_of_the_hub_is_loaded_at_the_commit_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_qwen(tmp_path / "files")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(ROOT)
    assert "POSTTRAIN_CACHE" in os.environ
    with serve(tmp_path / "hub") as hub:
        commit = hub.push("models", QWEN, tmp_path / "files")
        (tmp_path / "files" / "README.md").write_text("main has moved on")
        assert hub.push("models", QWEN, tmp_path / "files") != commit
        done = hub.run(tmp_path / "home", FROM_THE_HUB, QWEN, commit, str(tmp_path))
    assert done.stdout.strip() == f"equal {QWEN}", done.stderr
    assert not any("/resolve/main/" in request for request in hub.requests)
