"""The stack of docs/docker.md on a ZenML server, by the page's own commands."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_commands import FENCE
from tests.zenml_server import zenml_server

PAGE = Path("docs/docker.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(Path("compose.yaml").read_text(encoding="utf-8"))
BLOCK = next(block for block in FENCE.findall(PAGE) if "zenml stack register team" in block)
SECRETS = ("MLFLOW_ADMIN_PASSWORD", "OBJECTS_ACCESS_KEY", "OBJECTS_SECRET_KEY")

LOOK = """
import json
from zenml.client import Client
stack = Client().get_stack("team")
print(json.dumps({kind.value: one[0].configuration for kind, one in stack.components.items()}))
print(json.dumps({one.name: one.secret_values for one in map(
    lambda s: Client().get_secret(s.id), Client().list_secrets().items)}))
"""


@pytest.mark.slow
def test_the_pages_commands_register_it(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("".join(f"{name}=planted-{name}\n" for name in SECRETS), "utf-8")
    with zenml_server(tmp_path / "server") as server:
        environment = server.client(tmp_path / "client")

        def shell(*words: str) -> str:
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
            return done.stdout

        shell("bash", "-euo", "pipefail", "-c", BLOCK)
        components, secrets = map(json.loads, shell("python", "-c", LOOK).splitlines()[-2:])
    check(components, tmp_path)
    assert secrets["objects"]["aws_secret_access_key"] == "planted-OBJECTS_SECRET_KEY"
    assert secrets["mlflow"]["password"] == "planted-MLFLOW_ADMIN_PASSWORD"
    assert "planted" not in json.dumps(components)


def check(components: dict[str, Any], folder: Path) -> None:
    """What is registered leads to the services of compose.yaml."""
    steps = components["orchestrator"]["run_args"]
    assert steps["network"] == COMPOSE["networks"]["default"]["name"]
    assert steps["user"] == f"{os.getuid()}:{os.getgid()}"
    assert str(folder / ".posttrain" / "team") in steps["volumes"]
    store = components["artifact_store"]
    assert store["authentication_secret"] == "objects"
    for address, port in (
        (components["experiment_tracker"]["tracking_uri"], 5000),
        (store["client_kwargs"]["endpoint_url"], 8333),
    ):
        name = address.removeprefix("http://").removesuffix(f":{port}")
        assert "default" in COMPOSE["services"][name]["networks"]
        assert COMPOSE["services"][name]["ports"] == [f"127.0.0.1:{port}:{port}"]
        assert name in PAGE.partition("/etc/hosts")[0].rpartition('echo "')[2]
