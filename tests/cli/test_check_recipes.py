"""`posttrain check` on every recipe for real models, against stand-ins of their models and data."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.hub import serve
from tests.stand_ins import TOKEN, make_all, push_all

ROOT = Path(__file__).parents[2]
RECIPES = sorted(
    file
    for file in (ROOT / "recipes").glob("*.yaml")
    if not file.stem.startswith("tiny_") and file.stem != "domain_from_champion"
)
OWN = {
    "dialogpt_full_summarization": ({"text": "a b c", "summary": "a"}, ("instructions", "probes")),
    "dialogpt_medical_qlora": ({"instruction": "a ?", "response": "b"}, ("instructions",)),
}
"""Recipe -> a row of data that it leaves to its reader, and the roles that it is for."""

CHECK = """
import json, os, sys
from zenml.utils import source_utils
source_utils.set_custom_source_root(os.getcwd())  # as an entry point's file does
from typer.testing import CliRunner
from cli.main import app
told = {}
for file in sys.argv[1:]:
    done = CliRunner().invoke(app, ["check", "-c", file, "--gpu-gib", "80"])
    told[file] = [done.exit_code, done.output, repr(done.exception)]
print(json.dumps(told))
"""


def filled_in(file: Path, folder: Path) -> Path:
    """The recipe's file, with data of its reader's own where it asks for it."""
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    row, roles = OWN.get(file.stem, ({}, ()))
    for role in roles:
        data = folder / f"{file.stem}-{role}.jsonl"
        data.write_text(json.dumps(row) + "\n", encoding="utf-8")
        content["parameters"]["recipe"]["ingest"][role]["source"] = str(data)
    written = folder / file.name
    written.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return written


@pytest.mark.slow
def test_every_recipe_passes_and_no_weight_is_downloaded(tmp_path: Path) -> None:
    files = [filled_in(file, tmp_path) for file in RECIPES]
    home = tmp_path / "home"
    with serve(tmp_path / "served") as hub:
        make_all(tmp_path / "made")
        push_all(hub, tmp_path / "made")
        done = subprocess.run(
            [sys.executable, "-c", CHECK, *map(str, files)],
            cwd=ROOT,
            env={**os.environ, **hub.environment(home, TOKEN)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    failed = {file: text for file, (code, *text) in told.items() if code}
    assert failed == {}
    assert len(told) == len(RECIPES) >= 9
    assert list(home.rglob("*.safetensors")) == []
