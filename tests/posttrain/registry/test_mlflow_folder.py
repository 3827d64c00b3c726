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
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_policy
from posttrain.models.tokenizer import load_tokenizer
from posttrain.registry.export import export
from posttrain.registry.load import download
from posttrain.registry.served import conversation

ASKED = [{"role": "user", "content": "what colour is red ?"}]


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
