"""The same checkout with a ZenML server between it and the runs, as a team has it."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from tests.integration.conftest import Checkout
from tests.zenml_server import ZenMLServer, zenml_server


class Api:
    """ZenML's REST interface, logged in as one of its users."""

    def __init__(self, server: ZenMLServer, user: str = "default", password: str = "") -> None:
        self.url = f"{server.url}/api/v1"
        form = {"username": user, "password": password or server.password}
        login = urllib.request.Request(
            f"{self.url}/login", data=urllib.parse.urlencode(form).encode()
        )
        with urllib.request.urlopen(login) as answer:
            self.token = json.load(answer)["access_token"]

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)

    def waiting(self, name: str) -> dict[str, Any]:
        """The wait condition of that name."""
        _, page = self("GET", f"/run_wait_conditions?name={urllib.parse.quote(name)}&hydrate=true")
        found: dict[str, Any] = page["items"][0]
        return found

    def resolve(self, condition: str, result: dict[str, str]) -> tuple[int, Any]:
        """Answer it."""
        body = {"resolution": "continue", "result": result}
        return self("PUT", f"/run_wait_conditions/{condition}/resolve", body)

    def add_user(self, name: str, password: str) -> None:
        """An account for a second person."""
        body = {"name": name, "password": password, "active": True, "is_admin": False}
        status, told = self("POST", "/users", body)
        assert status == 200, told


@contextmanager
def on_server(checkout: Checkout, folder: Path) -> Iterator[ZenMLServer]:
    """The checkout's commands speak to a server; the stack is registered there too."""
    alone = checkout.environment
    with zenml_server(folder / "server") as server:
        client = server.client(folder / "client")
        named = {key: value for key, value in client.items() if key.startswith("ZENML_")}
        checkout.environment = {**alone, **named, "ZENML_LOCAL_STORES_PATH": str(folder / "stores")}
        try:
            checkout.command("posttrain", "stack", "embedded")
            yield server
        finally:
            checkout.environment = alone
