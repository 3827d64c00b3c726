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
    """Where it is, and the password of its one user, `default`; it can be killed and come back."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.password = secrets.token_hex(16)
        self.key = secrets.token_hex(32)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("ZENML_STORE")}
        environment = {
            **inherited,
            "ZENML_CONFIG_PATH": str(self.folder),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_SERVER": "true",
            "ZENML_SERVER_AUTH_SCHEME": "OAUTH2_PASSWORD_BEARER",
            "ZENML_SERVER_AUTO_ACTIVATE": "true",
            "ZENML_SERVER_JWT_SECRET_KEY": self.key,
            "ZENML_DEFAULT_USER_PASSWORD": self.password,
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", APP, "--port", str(self.port)],
                env=environment,
                stdout=log,
                stderr=log,
            )
        _wait(self, self.process, self.folder / "server.log")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

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
    folder.mkdir(parents=True)
    server = ZenMLServer(folder)
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.process.terminate()
            server.process.wait(30)


def _wait(server: ZenMLServer, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"{server.url}/health"):
                return
        except URLError:
            time.sleep(0.5)
    raise RuntimeError(f"ZenML's server did not start: {log.read_text('utf-8')[-2000:]}")
