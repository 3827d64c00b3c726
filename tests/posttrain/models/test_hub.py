"""Bases from a hub: resolved once, read at that commit ever after, and adapters that stand on them.

In processes of their own, as a run's steps in containers are.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from posttrain.artifacts import Records
from tests.hub import Hub, serve
from tests.on_hub import PROMPT
from tests.stand_ins import (
    DIALOGPT,
    GEMMA,
    LLAMA,
    QWEN,
    SAFETENSORS_OF_DIALOGPT,
    TOKEN,
    make_all,
    push_all,
)

REVISIONS = {GEMMA: "main", LLAMA: "main", DIALOGPT: SAFETENSORS_OF_DIALOGPT, QWEN: "main"}
ARCHITECTURES = {
    GEMMA: "Gemma3ForCausalLM",
    LLAMA: "LlamaForCausalLM",
    DIALOGPT: "GPT2LMHeadModel",
    QWEN: "Qwen3ForCausalLM",
}
TEMPLATE = (
    "{% for turn in messages %}{% if turn['role'] == 'assistant' %}"
    "{% generation %}{{ turn['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ turn['content'] + eos_token }}{% endif %}{% endfor %}"
)
ON_HUB = "from tests.on_hub import main; main()"
STOCK = f"""
import json, sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
for id, (revision, adapter, file) in json.loads(sys.argv[1]).items():
    base = AutoModelForCausalLM.from_pretrained(id, revision=revision, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter).eval()
    with torch.no_grad():
        save_file({{"logits": model(torch.tensor({PROMPT})).logits.contiguous()}}, file)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with serve(tmp_path / "served") as hub:
        make_all(tmp_path / "made")
        push_all(hub, tmp_path / "made")
        yield hub


@pytest.fixture
def chat_template(tmp_path: Path) -> str:
    file = tmp_path / "chat.jinja"
    file.write_text(TEMPLATE)
    return str(file)


def last_line(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def move_main(hub: Hub, made: Path) -> None:
    """Someone pushes other weights to every model."""
    for name in REVISIONS:
        for file in (made / name).glob("*.safetensors"):
            tensors = load_file(file)
            save_file({key: tensor * 2 for key, tensor in tensors.items()}, file, {"format": "pt"})
        hub.push("models", name, made / name)


@pytest.mark.slow
def test_every_load_is_of_the_resolved_commit_and_stock_peft_reads_the_adapter(
    hub: Hub, records: Records, chat_template: str, tmp_path: Path
) -> None:
    def run(home: str, *words: str) -> Any:
        return hub.run(tmp_path / home, ON_HUB, *words, token=TOKEN)

    commits = {name: hub.repositories["models", name].refs[REVISIONS[name]] for name in REVISIONS}
    words = ("resolve", str(records.path), chat_template, json.dumps(REVISIONS))
    bases = last_line(run("first", *words))
    for name, base in bases.items():
        reference = {"kind": "hub", "source": name, "revision": commits[name], "trusts_code": False}
        assert base["facts"]["reference"] == reference
        assert base["facts"]["architecture"] == ARCHITECTURES[name]
        assert not list(Path(base["path"]).rglob("*.safetensors"))

    move_main(hub, tmp_path / "made")
    hub.requests.clear()
    paths = json.dumps({name: base["path"] for name, base in bases.items()})
    adapters = last_line(run("second", "train", str(records.path), paths, str(tmp_path)))
    assert hub.requests
    assert [r for r in hub.requests if not any(commit in r for commit in commits.values())] == []

    files = {name: str(tmp_path / f"stock-{name.replace('/', '-')}") for name in REVISIONS}
    asked = {name: (commits[name], adapters[name], files[name]) for name in REVISIONS}
    done = hub.run(tmp_path / "third", STOCK, json.dumps(asked), token=TOKEN)
    assert done.returncode == 0, done.stderr
    for name in REVISIONS:
        ours = load_file(tmp_path / name.replace("/", "-"))["logits"]
        torch.testing.assert_close(load_file(files[name])["logits"], ours, rtol=0, atol=1e-5)
        config = json.loads((Path(adapters[name]) / "adapter_config.json").read_bytes())
        assert config["base_model_name_or_path"] == name


def test_what_cannot_be_a_base_is_refused(
    hub: Hub, records: Records, chat_template: str, tmp_path: Path
) -> None:
    revisions = json.dumps({DIALOGPT: "main", GEMMA: "main", "me/none": "main", QWEN: "v9"})
    words = (ON_HUB, "resolve", str(records.path), chat_template, revisions)
    found = {name: base["refused"] for name, base in last_line(hub.run(tmp_path, *words)).items()}
    assert f"{DIALOGPT}@main holds no safetensors" in found[DIALOGPT]
    assert "gated" in found[GEMMA]
    assert "me/none" in found["me/none"]
    assert "v9" in found[QWEN]
