"""An MLflow server of a test's own on loopback, that can be killed, stopped and started again."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError

PATIENCE_SECONDS = 120
LENGTH = re.compile(rb"(?im)^content-length: *(\d+)")


class MlflowServer:
    """A server on SQLite, with one worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        store = f"sqlite:///{self.folder / 'mlflow.db'}"
        artifacts = str(self.folder / "artifacts")
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store),
                    *("--artifacts-destination", artifacts, "--host", "127.0.0.1"),
                    *("--port", str(self.port), "--workers", "1"),
                ],
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            log_of = (self.folder / "server.log").read_text("utf-8")[-2000:]
            assert time.monotonic() < until and self.process.poll() is None, log_of
            time.sleep(0.2)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                return True
        except (URLError, OSError):
            return False

    def signal(self, number: int) -> None:
        """Send a signal to the server and its worker."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


@contextmanager
def mlflow_server(folder: Path, migrated: Path) -> Iterator[MlflowServer]:
    """A running server whose state lies in `folder`; it begins with a copy of a database."""
    folder.mkdir(parents=True)
    shutil.copy(migrated, folder / "mlflow.db")
    server = MlflowServer(folder)
    try:
        server.start()
        yield server
    finally:
        server.kill()


class Proxy:
    """Stands before a server: hands requests on after a while, or does something with an answer."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay_seconds = 0.0
        self.on_answer: Callable[[bytes, bytes], None] = lambda asked, answered: None
        """Called with the request and the answer, before that is handed on."""

        self.listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self.listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            asked = _message(client)
            while asked:
                time.sleep(self.delay_seconds)
                with socket.create_connection(("127.0.0.1", self.target)) as server:
                    server.sendall(asked)
                    answered = _message(server)
                if not answered:
                    return
                self.on_answer(asked, answered)
                client.sendall(answered)
                asked = _message(client)


def _message(stream: socket.socket) -> bytes:
    """An HTTP message with a length, or none: its head and body; empty where none began.

    Raises:
        ConnectionError: the other side was gone before its end, as a server that was killed.
    """
    text = stream.recv(65536)
    while text and b"\r\n\r\n" not in text:
        text += _more(stream)
    head = text.partition(b"\r\n\r\n")[0]
    length = LENGTH.search(head)
    whole = len(head) + 4 + int(length[1] if length else 0)
    while text and len(text) < whole:
        text += _more(stream)
    return text


def _more(stream: socket.socket) -> bytes:
    part = stream.recv(65536)
    if not part:
        raise ConnectionError("closed within a message")
    return part


@contextmanager
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    """A proxy before a server."""
    found = Proxy(server.port)
    try:
        yield found
    finally:
        found.listener.close()


def free_port() -> int:
    """One that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
