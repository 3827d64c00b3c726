import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from mlflow import MlflowClient
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.exported import load_exported, read_facts
from posttrain.models.exporting import trial_logits
from posttrain.registry.export import FAR_IN_FLOAT32, _compare, export
from posttrain.registry.export_hints import commands, notes
from tests.architectures import make_base
from tests.policies import register_policy


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    _, header, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), body


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.usefixtures("museum")
def test_a_version_is_written_compared_and_named(tmp_path: Path) -> None:
    done = export("museum", "champion", tmp_path / "out" / "peft", "peft")
    assert (done.facts.name, done.facts.version, done.largest_difference) == ("museum", 1, 0)
    assert done.spread > 0.1
    assert names_in(tmp_path / "out") == ["peft"]
    assert read_facts(tmp_path / "out" / "peft") == done.facts
    number = export("museum", "1", tmp_path / "out" / "again", "peft")
    assert number.facts == done.facts


@pytest.mark.usefixtures("museum")
def test_the_precision_is_the_bases_own_unless_another_is_asked_for(tmp_path: Path) -> None:
    plain = export("museum", "1", tmp_path / "plain", "merged")
    assert 0 < plain.largest_difference < 1e-5
    half = export("museum", "1", tmp_path / "half", "merged", "bfloat16")
    assert 1e-4 < half.largest_difference < 0.1
    stored = (tmp_path / name / "config.json" for name in ("plain", "half"))
    assert [json.loads(file.read_text())["dtype"] for file in stored] == ["float32", "bfloat16"]
    with pytest.raises(ValueError, match="--dtype is of merged weights"):
        export("museum", "1", tmp_path / "out", "peft", "float32")
    with pytest.raises(ValueError, match="no weights hold a bottleneck adapter"):
        export("museum", "2", tmp_path / "out", "mlflow", "float32")


@pytest.mark.usefixtures("museum")
def test_what_computing_in_16_bits_adds_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    done = export("museum", "1", tmp_path / "out", "merged", "float32")
    assert 1e-3 < done.largest_difference < 0.2


@pytest.mark.usefixtures("museum")
def test_a_folder_with_something_in_it_is_kept_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export("museum", "1", out, "peft")  # an empty one is as good as none
    (out / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="out: not empty; name another folder by --out"):
        export("museum", "1", out, "merged")
    assert (out / "mine.txt").exists()
    export("museum", "1", out, "merged", force=True)
    assert (out / "model.safetensors").exists()
    assert not (out / "mine.txt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file: is a file; name a folder by --out"):
        export("museum", "1", tmp_path / "file", "peft", force=True)


@pytest.mark.usefixtures("museum")
def test_a_refused_export_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "outer" / "out"
    export("museum", "1", out, "merged")
    with pytest.raises(ValueError, match="is not linear"):
        export("museum", "2", out, "merged", force=True)
    assert names_in(tmp_path / "outer") == ["out"]
    assert load_exported(out)[2].version == 1
    with pytest.raises(ValueError, match=r"museum@7: no such version or alias \(versions: \[1, 2"):
        export("museum", "7", tmp_path / "none", "peft")


@pytest.mark.usefixtures("museum")
def test_a_folder_that_answers_otherwise_is_refused(base: BaseModel, tmp_path: Path) -> None:
    export("museum", "1", tmp_path / "out", "merged")
    model, tokenizer, _ = load_exported(tmp_path / "out")
    expected = trial_logits(model, tokenizer)
    assert _compare(tmp_path / "out", "merged", expected, torch.float32) == 0
    far = expected * (1 + 2 * FAR_IN_FLOAT32)
    with pytest.raises(ValueError, match="does not answer as the registered version does"):
        _compare(tmp_path / "out", "merged", far, torch.float32)
    with pytest.raises(ValueError, match="differ by nan"):
        _compare(tmp_path / "out", "merged", expected * float("nan"), torch.float32)


@pytest.mark.usefixtures("museum")
@pytest.mark.parametrize(
    ("layout", "library", "loading"),
    [
        ("peft", "peft", 'PeftModel.from_pretrained(base, "FOLDER")'),
        ("merged", "transformers", 'AutoModelForCausalLM.from_pretrained("FOLDER"'),
        ("mlflow", "mlflow", "mlflow models serve -m FOLDER --env-manager local"),
    ],
)
def test_the_card_says_how_this_folder_is_loaded(
    layout: Any, library: str, loading: str, tmp_path: Path
) -> None:
    export("museum", "1", tmp_path / "out", layout)
    header, body = card_of(tmp_path / "out")
    assert header["library_name"] == library
    assert header["language"] == ["ko"]
    assert loading in body
    assert "registry.load import download" not in body  # the registered version's own way
    assert "\n## Lineage\n" in body
    assert "| git_commit | `3d46a12` |" in body
    assert "Perplexity, domain text" in body


@pytest.mark.usefixtures("museum")
def test_a_bottleneck_is_exported_for_posttrain_alone(tmp_path: Path) -> None:
    done = export("museum", "2", tmp_path / "out", "peft")
    header, body = card_of(tmp_path / "out")
    assert header["library_name"] == "posttrain"
    assert "posttrain alone loads this folder" in body
    assert any("posttrain alone" in note for note in notes(done.facts))
    assert commands(done.facts, "peft", tmp_path / "out") == (
        f"posttrain chat --folder {tmp_path}/out",
    )


def test_the_commands_name_base_template_and_rank(
    registry: MlflowClient, base: BaseModel, tmp_path: Path
) -> None:
    register_policy(base, "qlora", tmp_path / "one", "museum")
    done = export("museum", "1", tmp_path / "a b", "peft")
    serve, chat = commands(done.facts, "peft", Path("a b"))
    assert serve == (
        "vllm serve 'a b/base' --tokenizer 'a b' --chat-template 'a b/chat_template.jinja' "
        "--enable-lora --max-lora-rank 8 --lora-modules 'museum=a b'"
    )
    assert chat == "posttrain chat --folder 'a b'"
    assert any("in 4 bits" in note for note in notes(done.facts))
    merged = export("museum", "1", tmp_path / "merged", "merged")
    assert commands(merged.facts, "merged", Path("m"))[0] == "vllm serve m"
    assert any("merged into the base at 16 bits or more" in note for note in notes(merged.facts))


def test_vllm_is_not_offered_a_dora_adapter(
    registry: MlflowClient, base: BaseModel, tmp_path: Path
) -> None:
    register_policy(base, "dora", tmp_path / "one", "museum")
    done = export("museum", "1", tmp_path / "out", "peft")
    assert commands(done.facts, "peft", Path("out")) == ("posttrain chat --folder out",)
    assert any("vLLM refuses DoRA adapters" in note for note in notes(done.facts))


def test_vllm_is_not_offered_an_adapter_of_gpt2(
    registry: MlflowClient, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base("gpt2", tokenizer, tmp_path / "base")
    register_policy(base, "lora", tmp_path / "one", "museum")
    done = export("museum", "1", tmp_path / "out", "peft")
    assert commands(done.facts, "peft", Path("out")) == ("posttrain chat --folder out",)
    assert any("no adapters for this architecture" in note for note in notes(done.facts))
