"""The servers, really started on loopback, and ended by a signal."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def assert_loopback_alone(pid: int, ports: set[int]) -> None:
    """What the servers really listen on, by the kernel's own list; and MLflow's switches."""
    family = psutil.Process(pid).children(recursive=True)
    sockets = [one for child in family for one in child.net_connections() if one.status == "LISTEN"]
    assert {one.laddr.port for one in sockets} >= ports
    assert {one.laddr.ip for one in sockets} <= {"127.0.0.1", "::1"}
    (mlflow, *_) = (one for one in family if "mlflow" in " ".join(one.cmdline()))
    environment = mlflow.environ()
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def test_dashboard_serves_all_and_ends_all(tmp_path: Path) -> None:
    ports = free_port(), free_port(), free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ZENML_CONFIG_PATH": str(tmp_path / "zenml"),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}",
    }
    command = ["posttrain", "dashboard", "--log", str(tmp_path)]
    command += ["--zenml-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    command += ["--review-port", str(ports[2])]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0].split() == ["ZenML", f"http://127.0.0.1:{ports[0]}"]
        assert lines[1].split() == ["MLflow", f"http://127.0.0.1:{ports[1]}"]
        assert lines[2].split() == ["Review", f"http://127.0.0.1:{ports[2]}"]
        assert lines[3].split() == ["No", "run", "yet:", "`make", "demo`", "first."]
        assert_loopback_alone(process.pid, set(ports))
        for port in ports:
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=20).status == 200
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    for port in ports:  # nothing listens any more
        for _ in range(50):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    break
            time.sleep(0.2)
        else:
            pytest.fail(f"port {port} is still served")
