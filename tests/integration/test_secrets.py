"""Secrets of the environment, in a run on this machine: none is in anything that the run leaves."""

import secrets
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.faults import Injected
from tests.integration.conftest import Checkout

pytestmark = pytest.mark.slow

NAMES = (
    "HF_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "ZENML_STORE_API_KEY",
    "WANDB_API_KEY",
    "POSTTRAIN_REVIEW_TOKEN",
    "POSTTRAIN_SIGNING_PASSWORD",
    "OBJECTS_SECRET_KEY",
    "PIP_INDEX_URL",
)
CANARY = f"canary{secrets.token_hex(8)}"


@pytest.fixture(scope="module")
def planted(checkout: Checkout) -> Checkout:
    checkout.environment |= {name: f"{CANARY}-{name.lower()}" for name in NAMES}
    checkout.environment["PIP_INDEX_URL"] = f"https://reader:{CANARY}@index.example.org/simple"
    return checkout


def holders(folder: Path) -> list[str]:
    """Files below a folder that hold the canary: databases, logs, artifacts, reports, weights."""
    found = subprocess.run(["grep", "-rlaF", CANARY, folder], capture_output=True, check=False)
    return found.stdout.decode().splitlines()


@pytest.mark.fault("Servers", "a secret in the environment", "a run, all that it says and leaves")
def test_a_run_leaves_no_secret_anywhere(planted: Checkout, injected: Injected) -> None:
    config = planted.config()
    done = planted.command(
        "zenml", "pipeline", "run", "pipelines.fine_tuning.fine_tuning", "-c", str(config)
    )
    said = done.stdout + done.stderr + planted.command("posttrain", "report").stdout
    state = planted.root / ".posttrain"
    assert (state / "mlflow.db").exists() and list(state.rglob("*.safetensors"))
    found = holders(planted.root)
    injected.add(len(NAMES), lost=len(found) + (CANARY in said))
    assert CANARY not in said
    assert found == []


@pytest.mark.fault("Servers", "a password in an address", "in the recipe: refused, shown nowhere")
def test_an_address_with_a_password_is_refused_and_not_repeated(
    planted: Checkout, injected: Injected
) -> None:
    config = planted.config()
    values = yaml.safe_load(config.read_text("utf-8"))
    source = f"https://kim:{CANARY}@data.example.org/corpus.jsonl"
    values["parameters"]["recipe"]["ingest"]["corpus"]["source"] = source
    elsewhere = planted.root.parent / "with-a-password.yaml"
    elsewhere.write_text(yaml.safe_dump(values), encoding="utf-8")
    for words in (
        ["zenml", "pipeline", "run", "pipelines.fine_tuning.fine_tuning", "-c", str(elsewhere)],
        ["posttrain", "check", "-c", str(elsewhere)],
    ):
        done = subprocess.run(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            cwd=planted.root,
            env=planted.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        found = holders(planted.root)
        injected.add(lost=len(found) + (CANARY in said))
        assert done.returncode != 0
        assert "holds a password in an address" in " ".join(said.replace("│", " ").split())
        assert CANARY not in said
        assert found == []
