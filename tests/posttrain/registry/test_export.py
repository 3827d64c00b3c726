import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.models.exported import load_exported, read_facts
from posttrain.models.exporting import trial_logits
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.registry.export import FAR_IN_FLOAT32, _compare, export
from posttrain.registry.export_hints import commands, notes
from posttrain.registry.load import download
from posttrain.registry.served import conversation
from tests.architectures import make_base
from tests.policies import register_policy

ASKED = [{"role": "user", "content": "what colour is red ?"}]


@pytest.fixture
def museum(registry: MlflowClient, base: BaseModel, tmp_path: Path) -> MlflowClient:
    """Version 1 is LoRA and champion, version 2 a bottleneck adapter."""
    register_policy(base, "lora", tmp_path / "one", "museum")
    register_policy(base, "bottleneck", tmp_path / "two", "museum")
    registry.set_registered_model_alias("museum", "champion", "1")
    return registry


def ours(version: str, messages: list[dict[str, str]], **changes: Any) -> tuple[str, str]:
    """What the registered version answers by itself, and how it ended."""
    base, policy = download("museum", version, Path("cache/registry"))
    tokenizer = load_tokenizer(base)
    ends = end_tokens(tokenizer)
    chosen = {"temperature": 0, "max_new_tokens": 12, "seed": 0} | changes
    sampling = Sampling(**chosen, end_ids=ends, pad_id=ends[0], batch_size=1)
    prompts = encode_prompts(tokenizer, [messages])
    answer = generate(load_policy(base, policy), prompts, sampling)[0]
    text = str(tokenizer.decode(answer, skip_special_tokens=True)).strip()
    return text, "stop" if answer[-1] in ends else "length"


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


@pytest.fixture
def served(museum: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """MLflow's folder of version 1; pickles are forbidden."""
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    export("museum", "1", tmp_path / "mlflow", "mlflow")
    return tmp_path / "mlflow"


def test_nothing_in_mlflows_folder_is_pickled_or_names_this_machine(
    served: Path, tmp_path: Path
) -> None:
    suffixes = {file.suffix for file in served.rglob("*") if file.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".bin", ".pt", ".pth", ".joblib", ".cloudpickle"}
    described = (served / "MLmodel").read_text(encoding="utf-8")
    assert str(tmp_path) not in described
    assert str(Path(__file__).parents[3]) not in described
    assert "python_model" not in yaml.safe_load(described)["flavors"]["python_function"]
    pinned = (served / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in pinned)


def test_mlflow_answers_messages_and_prompts_as_ours(served: Path) -> None:
    model = mlflow.pyfunc.load_model(str(served))
    few = {"max_new_tokens": 12}
    text, reason = ours("1", ASKED)
    expected = {"role": "assistant", "content": text, "finish_reason": reason}
    assert text
    assert model.predict({"messages": ASKED}, params=few) == [expected]
    assert model.predict({"prompt": ASKED[0]["content"]}, params=few) == [expected]
    asked = [[{"role": "user", "content": f"{i} ?"}] for i in range(3)]
    rows = model.predict(pd.DataFrame({"messages": asked}), params=few)
    assert [row["content"] for row in rows] == [ours("1", one)[0] for one in asked]
    drawn = {"temperature": 1.0, "seed": 4, "max_new_tokens": 12}
    assert (
        model.predict({"messages": ASKED}, params=drawn)[0]["content"]
        == ours("1", ASKED, **drawn)[0]
    )


def test_a_bottleneck_answers_through_mlflow_too(museum: MlflowClient, tmp_path: Path) -> None:
    export("museum", "2", tmp_path / "mlflow", "mlflow")
    model = mlflow.pyfunc.load_model(str(tmp_path / "mlflow"))
    found = model.predict({"messages": ASKED}, params={"max_new_tokens": 12})
    assert found[0]["content"] == ours("2", ASKED)[0]


def test_mlflow_refuses_what_it_cannot_answer(served: Path) -> None:
    model = mlflow.pyfunc.load_model(str(served))
    for asked, why in (
        ({"messages": ASKED, "prompt": "hi"}, "holds either `messages`"),
        ({"messages": [*ASKED, {"role": "assistant", "content": "red"}]}, "must be the user's"),
        ({"messages": []}, "must be the user's"),
        ({"prompt": "red " * 300}, "exceed the model's 256 positions"),
    ):
        with pytest.raises(MlflowException, match=why):
            model.predict(asked)
    with pytest.raises(MlflowException, match="temperature"):
        model.predict({"prompt": "hi"}, params={"temperature": -1.0})
    with pytest.raises(ValueError, match=r"found \{'prompt': 'list'\}"):
        conversation({"prompt": ["hi"]})


def test_mlflow_refuses_a_changed_template(served: Path) -> None:
    file = served / "artifacts" / "model" / "chat_template.jinja"
    file.write_text(file.read_text(encoding="utf-8") + "!")
    with pytest.raises(ValueError, match=r"was exported with chat template \w{12}, and has \w{12}"):
        mlflow.pyfunc.load_model(str(served))


@pytest.mark.slow
def test_mlflow_models_serve_answers_on_loopback(
    served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # as elsewhere: not where posttrain's sources are, nor where it was exported
    moved = shutil.move(served, tmp_path / "elsewhere")
    words = ["models", "serve", "-m", moved, "--env-manager", "local", "--host", "127.0.0.1"]
    command = [sys.executable, "-m", "mlflow", *words, "--port", str(port)]
    log = (tmp_path / "serve.log").open("w")
    search = os.environ.get("PATH", "")
    paths = {"PATH": f"{Path(sys.executable).parent}:{search}", "PYTHONPATH": ""}
    paths["PYTHONDONTWRITEBYTECODE"] = ""
    server = subprocess.Popen(
        command,
        env={**os.environ, **paths},
        cwd=tmp_path,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/ping", server, tmp_path / "serve.log")
        text, reason = ours("1", ASKED)
        expected = {"role": "assistant", "content": text, "finish_reason": reason}
        body = {"messages": ASKED, "max_new_tokens": 12}
        assert _post(address, body) == [expected]
        prompt = {"prompt": ASKED[0]["content"], "max_new_tokens": 12}
        assert _post(address, prompt) == [expected]
        rows = {"dataframe_records": [{"prompt": "a"}, {"prompt": "b"}]}
        several = _post(address, rows | {"params": {"max_new_tokens": 12}})
        single = [ours("1", [{"role": "user", "content": one}])[0] for one in "ab"]
        assert [row["content"] for row in several["predictions"]] == single
        with pytest.raises(urllib.error.HTTPError) as refused:
            _post(address, {"messages": []})
        assert refused.value.code == 400
        assert "must be the user's" in refused.value.read().decode()
        assert list(Path(moved, "code", "posttrain").rglob("*.pyc"))  # it ran its own copy of us
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)
        log.close()


def _wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text())


def _post(address: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{address}/invocations",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)
