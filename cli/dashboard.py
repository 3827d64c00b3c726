"""`posttrain dashboard`: ZenML's dashboard, MLflow's UI and the review page, until Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

HOST = "127.0.0.1"
OFF = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Of MLflow's server, whatever the environment says."""

START_SECONDS = 90  # all import for long on a slow machine


def dashboard(
    zenml_port: Annotated[int, typer.Option(help="Port of ZenML's dashboard.")] = 8237,
    mlflow_port: Annotated[int, typer.Option(help="Port of MLflow's UI.")] = 5000,
    review_port: Annotated[int, typer.Option(help="Port of the review page.")] = 8238,
    log: Annotated[Path, typer.Option(help="Folder of the servers' logs.")] = Path(".posttrain"),
) -> None:
    """Serve ZenML's dashboard, MLflow's UI and the review page on loopback; Ctrl-C ends all."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        raise ValueError("MLFLOW_TRACKING_URI is not set; run `. .posttrain/env` first")
    addresses = {
        "ZenML": f"http://{HOST}:{zenml_port}",
        "MLflow": f"http://{HOST}:{mlflow_port}",
        "Review": f"http://{HOST}:{review_port}",
    }
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    started: list[subprocess.Popen[bytes]] = []
    try:
        for (name, address), command in zip(
            addresses.items(), _commands(uri, addresses), strict=True
        ):
            with (log / f"{name.lower()}.log").open("ab") as output:
                started.append(
                    subprocess.Popen(
                        command,
                        start_new_session=True,
                        stdout=output,
                        stderr=output,
                        env=os.environ | OFF,
                    )
                )
            _wait(name, address, started[-1])
            print(f"{name:7} {address}", flush=True)
        if not _has_runs(addresses["MLflow"]):
            print("No run yet: `make demo` first.", flush=True)
        print("ZenML's user is `default`, without a password. Ctrl-C ends all.", flush=True)
        while all(server.poll() is None for server in started):
            time.sleep(1)
    except KeyboardInterrupt:
        pass
    finally:
        for server in started:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)  # its workers too


def _commands(uri: str, addresses: Mapping[str, str]) -> tuple[list[str], ...]:
    """Of the three, in the order of their addresses."""
    zenml, mlflow, review = (address.rpartition(":")[2] for address in addresses.values())
    links = ["--zenml-url", addresses["ZenML"], "--mlflow-url", addresses["MLflow"]]
    return (
        ["zenml", "login", "--local", "--blocking", "--ip-address", HOST, "--port", zenml],
        [
            *("mlflow", "server", "--backend-store-uri", uri, "--host", HOST, "--port", mlflow),
            *("--workers", "1"),
        ],
        ["posttrain", "review", "--host", HOST, "--port", review, *links],
    )


def _has_runs(mlflow_address: str) -> bool:
    """Whether anything was tracked; asked of the server, since a client would make a database."""
    from mlflow import MlflowClient

    client = MlflowClient(mlflow_address)
    experiments = [one.experiment_id for one in client.search_experiments()]
    return bool(client.search_runs(experiments, max_results=1))


def _wait(name: str, address: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(START_SECONDS):
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=1).close()  # noqa: S310 -- its own, on loopback
            return
        except OSError:
            time.sleep(1)
    raise ValueError(f"{name} did not answer at {address}; is the port taken? See its log")
