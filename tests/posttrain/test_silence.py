"""A step that cannot go on without MLflow waits for it, and then says by which command to go on."""

import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from posttrain.silence import ServerSilent, impatient, is_silence, outlast
from tests.faults import Injected, times
from tests.mlflow_server import MlflowServer, free_port, mlflow_server
from tests.store import migrated_store

__all__ = ["migrated_store"]

GO_ON = "cd /demo && zenml pipeline run pipelines.fine_tuning.fine_tuning -c tiny.yaml"


@pytest.fixture
def asked_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("POSTTRAIN_PATIENCE_SECONDS", "2")
    with impatient():
        yield


@pytest.fixture(scope="module")
def server(
    migrated_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow") / "server", migrated_store) as running:
        yield running


@pytest.mark.usefixtures("asked_once")
def test_who_waited_in_vain_is_told_the_command() -> None:
    client = MlflowClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ServerSilent, match=r"did not answer for 2 s .* go on: cd /demo && zenml"):
        outlast(GO_ON, client.create_registered_model, "ferries")


@pytest.mark.usefixtures("asked_once")
def test_a_refusal_is_no_silence() -> None:
    def refuse() -> None:
        raise MlflowException("no such model", error_code=5)

    with pytest.raises(MlflowException, match="no such model"):
        outlast(GO_ON, refuse)
    assert not is_silence(ValueError("a file is missing"))


@pytest.mark.usefixtures("asked_once")
@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_password_is_no_silence(status: int) -> None:
    """Refused in plain text, as MLflow's servers do it."""

    class Refusal(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusal) as refusing:
        threading.Thread(target=refusing.serve_forever, daemon=True).start()
        client = MlflowClient(f"http://127.0.0.1:{refusing.server_port}")
        with pytest.raises(MlflowException, match=f"error code {status}"):
            outlast(GO_ON, client.create_registered_model, "ferries")
        refusing.shutdown()


def test_impatience_ends_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_TIMEOUT", raising=False)
    with impatient():
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "4"
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


@pytest.mark.slow
@pytest.mark.fault(
    "State", "the registry is away", "server killed, started again while a step waits"
)
def test_who_waits_goes_on_when_the_registry_is_back(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch, injected: Injected
) -> None:
    monkeypatch.setenv("POSTTRAIN_PATIENCE_SECONDS", "300")
    client = MlflowClient(server.uri)
    for number in range(times(quick=1, few=1, full=5)):
        server.kill()
        back = threading.Thread(target=lambda: (time.sleep(2), server.start()))
        back.start()
        with impatient():
            outlast(GO_ON, client.create_registered_model, f"ferries-{number}")
        back.join()
        found = [model.name for model in client.search_registered_models()]
        injected.add(lost=f"ferries-{number}" not in found)
        assert f"ferries-{number}" in found
