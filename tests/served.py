"""The servers of compose.yaml and k8s/, by the command lines and variables that are named there.

What a test replaces: the address (loopback, a free port), the databases (SQLite in a folder) and
the store of artifacts (a folder). All else is read from the files, so that it can't drift.
"""

import os
import re
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

import yaml

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PATIENCE_SECONDS = 300
SECRETS = re.compile(r"\$\{(\w+)(?::\?[^}]*|:-([^}]*))?\}")
FOREIGN = ("MLFLOW_", "ZENML_", "AWS_", "POSTTRAIN_")  # of this process, none of the servers'


@dataclass(frozen=True)
class Started:
    """A server that answers, and the name by which it is called."""

    url: str
    host: str
    environment: dict[str, str]

    def ask(
        self, method: str, path: str, content: bytes = b"{}", **headers: str
    ) -> tuple[int, str]:
        """Status and beginning of the answer; redirects are not followed."""
        body = content if method in ("POST", "PUT", "PATCH", "DELETE") else None
        request = urllib.request.Request(
            self.url + path,
            data=body,
            method=method,
            headers={"Host": self.host, "Content-Type": "application/json", **headers},
        )
        try:
            with OPENER.open(request, timeout=60) as answer:
                return answer.status, answer.read(2000).decode(errors="replace")
        except HTTPError as error:
            with error:
                return error.code, error.read(2000).decode(errors="replace")


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer: where it leads is asked on its own."""

    def redirect_request(self, *_: Any) -> None:
        return None


OPENER = urllib.request.build_opener(Stay, urllib.request.ProxyHandler({}))


def compose_environment(service: str) -> dict[str, str]:
    """A service's variables in compose.yaml, with a secret of its own for each that it wants."""
    found = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    given: dict[str, str] = {}

    def filled(match: re.Match[str]) -> str:
        name, default = match[1], match[2]
        return default if default is not None else given.setdefault(name, secrets.token_hex(16))

    variables = found["services"][service]["environment"]
    return {name: SECRETS.sub(filled, str(value)) for name, value in variables.items()}


def image_environment(file: str) -> dict[str, str]:
    """What a Dockerfile's last stage sets by ENV."""
    text = (ROOT / "docker" / file).read_text("utf-8").rpartition("\nFROM ")[2]
    blocks = re.findall(r"^ENV ((?:.*\\\n)*.*)$", text, re.M)
    pairs = [pair for block in blocks for pair in block.replace("\\\n", " ").split()]
    return dict(pair.split("=", 1) for pair in pairs if not pair.startswith("PATH="))


def image_command(file: str) -> list[str]:
    """A Dockerfile's ENTRYPOINT, one program and its words."""
    (found,) = re.findall(
        r"^ENTRYPOINT (\[.*\])$", (ROOT / "docker" / file).read_text("utf-8"), re.M
    )
    words: list[str] = yaml.safe_load(found)
    return words


def pod_of(name: str) -> dict[str, Any]:
    """The one container of a Deployment of k8s/base."""
    documents = yaml.safe_load_all((ROOT / f"k8s/base/{name}.yaml").read_text("utf-8"))
    (found,) = (one for one in documents if one["kind"] == "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def compose_mlflow(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Command and variables of compose.yaml's MLflow, its stores below `folder`."""
    command = image_command("mlflow.Dockerfile")
    environment = image_environment("mlflow.Dockerfile") | compose_environment("mlflow")
    environment["MLFLOW_AUTH_CONFIG_PATH"] = users(folder)
    environment["MLFLOW_ARTIFACTS_DESTINATION"] = str(folder / "artifacts")
    environment["MLFLOW_BACKEND_STORE_URI"] = f"sqlite:///{folder}/mlflow.db"
    return command, environment


def k8s_mlflow(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The same of the cluster's, with what k8s/README.md puts into its Secrets."""
    container = pod_of("mlflow")
    environment = {one["name"]: one.get("value", "") for one in container["env"]}
    environment |= {
        "MLFLOW_AUTH_CONFIG_PATH": users(folder, secrets.token_hex(16)),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "ARTIFACTS": str(folder / "artifacts"),
    }
    words = [*container["command"], *container["args"]]
    names = re.compile(r"\$\((\w+)\)")
    return [names.sub(lambda match: environment[match[1]], word) for word in words], environment


def users(folder: Path, password: str = "") -> str:
    """docker/mlflow-auth.ini with its database in `folder`; a cluster's names its admin too."""
    text = (ROOT / "docker/mlflow-auth.ini").read_text("utf-8")
    text = text.replace("sqlite:////users/users.db", f"sqlite:///{folder}/users.db")
    assert str(folder) in text
    if password:
        text += f"admin_username = admin\nadmin_password = {password}\n"
    file = folder / "auth.ini"
    file.write_text(text, encoding="utf-8")
    return str(file)


def on_loopback(command: list[str], port: int) -> list[str]:
    """A command line with another address: this machine alone, on a free port."""
    words = " ".join(command)
    assert re.search(r"--host[ =]0\.0\.0\.0", words), "it names the address that it listens on"
    words = re.sub(r"--host([ =])\S+", r"--host\g<1>127.0.0.1", words)
    return re.sub(r"--port([ =])\S+", rf"--port\g<1>{port}", words).split()


@contextmanager
def started(
    command: list[str], environment: dict[str, str], folder: Path, host: str, answers: str
) -> Iterator[Started]:
    """The server while it runs; `answers` is a path that it gives to anybody."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
    ours["MLFLOW_WORKERS"] = "1"  # each takes seconds to start; a command line may say otherwise
    words = on_loopback(command, port)
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(BIN / words[0]), *words[1:]],
            env={**ours, "PATH": f"{BIN}{os.pathsep}{ours['PATH']}", **environment},
            cwd=folder,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Started(f"http://127.0.0.1:{port}", host, environment)
    try:
        _wait(server, process, log, answers)
        yield server
    finally:
        os.killpg(process.pid, 15)  # its workers too
        process.wait(60)


def _wait(server: Started, process: "subprocess.Popen[bytes]", log: Path, path: str) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            if server.ask("GET", path)[0] == 200:
                return
        except (URLError, OSError):
            pass
        time.sleep(0.5)
    raise RuntimeError(f"it did not start: {log.read_text('utf-8')[-3000:]}")
