"""A ZenML server of a test's own on loopback, with a password, as a team's would have."""

import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

APP = "zenml.zen_server.zen_server_api:app"
PATIENCE_SECONDS = 120


class ZenMLServer:
    """Where it is, and the password of its one user, `default`."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.password = secrets.token_hex(16)

    def client(self, folder: Path) -> dict[str, str]:
        """The environment of a client who is logged in, with state of its own in `folder`."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ZENML_CONFIG_PATH": str(folder),
            "ZENML_STORE_URL": self.url,
            "ZENML_STORE_USERNAME": "default",
            "ZENML_STORE_PASSWORD": self.password,
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_DISABLE_INTERACTIVE_INPUT": "true",
        }


@contextmanager
def zenml_server(folder: Path) -> Iterator[ZenMLServer]:
    """A server whose state lies in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = ZenMLServer(port)
    folder.mkdir(parents=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ZENML_STORE")},
        "ZENML_CONFIG_PATH": str(folder),
        "ZENML_ANALYTICS_OPT_IN": "false",
        "ZENML_SERVER": "true",
        "ZENML_SERVER_AUTH_SCHEME": "OAUTH2_PASSWORD_BEARER",
        "ZENML_SERVER_AUTO_ACTIVATE": "true",
        "ZENML_SERVER_JWT_SECRET_KEY": secrets.token_hex(32),
        "ZENML_DEFAULT_USER_PASSWORD": server.password,
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", APP, "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        _wait(server, process, folder / "server.log")
        yield server
    finally:
        process.terminate()
        process.wait(30)


def _wait(server: ZenMLServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{server.url}/health"):
                return
        except URLError:
            time.sleep(0.5)
    raise RuntimeError(f"ZenML's server did not start: {log.read_text('utf-8')[-2000:]}")
