"""compose.yaml by Compose itself where it is installed, and what it must never hold."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

FILE = Path("compose.yaml")
TEXT = FILE.read_text(encoding="utf-8")
REQUIRED = set(re.findall(r"\$\{(\w+):\?", TEXT))


def installed() -> list[str] | None:
    """Compose's command: the plugin, or the older program."""
    if shutil.which("docker"):
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False)
        if asked.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


COMPOSE = installed()
needs_compose = pytest.mark.skipif(COMPOSE is None, reason="Compose is not installed")


def compose(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    assert COMPOSE is not None
    bare = {name: value for name, value in os.environ.items() if name not in REQUIRED}
    return subprocess.run(
        [*COMPOSE, "--file", str(FILE), "config"],
        env=bare | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compose
def test_it_is_valid() -> None:
    done = compose(dict.fromkeys(REQUIRED, "given"))
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"mlflow", "mlflow-db", "objects", "zenml", "zenml-db"}


@needs_compose
@pytest.mark.parametrize("missing", sorted(REQUIRED))
def test_a_missing_secret_ends_it_by_name(missing: str) -> None:
    done = compose(dict.fromkeys(REQUIRED - {missing}, "given"))
    assert done.returncode != 0
    assert missing in done.stderr


def test_every_secret_comes_from_the_environment() -> None:
    services = yaml.safe_load(TEXT)["services"]
    secret = re.compile(r"PASSWORD|SECRET|_KEY")
    for service in services.values():
        for name, value in service.get("environment", {}).items():
            if secret.search(name):
                assert re.fullmatch(r"\$\{\w+:\?[^}]+\}", value), f"{name} holds a value"


def test_only_loopback_is_published() -> None:
    for service in yaml.safe_load(TEXT)["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
