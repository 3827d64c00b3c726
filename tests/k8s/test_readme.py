"""What k8s/README.md tells a newcomer to type.

That the shell parses, the files are there, and the Secrets are what the manifests read; the stack,
the run and the job of several nodes are tests/integration/test_kubernetes.py's.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_commands import FENCE

TEXT = Path("k8s/README.md").read_text(encoding="utf-8")
BLOCKS = [block for block in FENCE.findall(TEXT) if "import " not in block]
SECRETS = next(block for block in BLOCKS if "create secret generic" in block)

DRY = """#!/bin/sh
# the real one, and nothing is sent: what is applied from a file is another test's
[ "$1" = apply ] && exit 0
exec {kubectl} "$@" --dry-run=client --output json
"""

needs_kubectl = pytest.mark.skipif(
    shutil.which("kubectl") is None, reason="THE README'S SECRETS WERE NOT MADE: no kubectl"
)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:40])
def test_every_block_is_shell(block: str) -> None:
    done = subprocess.run(["bash", "-n"], input=block, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"(?<![\w/.])(?:\./)?((?:k8s|docker|recipes|docs)/[\w./-]+\w)", TEXT))
    named |= set(re.findall(r"`((?:(?:base|overlays)/)?[\w./-]+\.(?:yaml|sh|toml))`", TEXT))
    assert {"k8s/base/namespace.yaml", "k8s/stack.sh", "gpu-step.yaml"} <= named
    assert [name for name in sorted(named) if not at(name)] == []


def at(name: str) -> bool:
    """Whether it is there: named from the checkout's folder, or from k8s/."""
    return Path(name).exists() or Path("k8s", name).exists()


@needs_kubectl
def test_its_secrets_have_the_keys_that_the_manifests_read(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text(DRY.format(kubectl=shutil.which("kubectl")), encoding="utf-8")
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", SECRETS],
        env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "HF_TOKEN": "planted"},
        capture_output=True,
        text=True,
        check=True,
    )
    made = {found["metadata"]["name"]: set(found["data"]) for found in documents(done.stdout)}
    assert made == {
        "mlflow-database": {"password", "uri"},
        "mlflow-auth": {"session", "auth.ini"},
        "posttrain-step": {"HF_TOKEN"},
    }
    wanted = set()
    for file in Path("k8s/base").glob("*.yaml"):
        for manifest in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            wanted |= set(references(manifest))
    assert wanted
    assert {(name, key) for name, key in wanted if key not in made[name]} == set()


def documents(text: str) -> list[dict[str, Any]]:
    found = yaml.safe_load_all(re.sub(r"^\}\n\{", "}\n---\n{", text, flags=re.M))
    return [document for document in found if document]


def references(value: Any) -> list[tuple[str, str]]:
    """Secret and key of each that a manifest names, in its environment or as a file."""
    found = []
    if isinstance(value, list):
        for one in value:
            found += references(one)
    elif isinstance(value, dict):
        if "secretKeyRef" in value:
            found.append((value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]))
        elif "secretName" in value:
            items = value.get("items", [])
            found += [(value["secretName"], item["key"]) for item in items]
        for one in value.values():
            found += references(one)
    return found
