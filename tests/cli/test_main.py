"""The command as a whole: quick help, errors in one line, the schema."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from cli.main import app
from cli.schema import run_schema
from tests.mlflow_server import free_port

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from cli.main import main; main()"]
HEAVY = ("torch", "zenml", "mlflow", "matplotlib", "transformers", "pandas", "pydantic")


def posttrain(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom cli.main import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    done = posttrain("init", "--from", str(tmp_path / "absent.csv"))
    assert done.returncode == 1
    assert done.stderr == f"posttrain: {tmp_path}/absent.csv: no such file\n"


def test_a_server_that_is_away_is_one_line() -> None:
    done = subprocess.run(
        [*COMMAND, "registry", "list"],
        cwd=ROOT,
        env=os.environ
        | {
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{free_port()}",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"^posttrain: API request to .* failed with exception", done.stderr, re.M)


def test_the_schema_accepts_the_default_run_and_refuses_a_typo() -> None:
    run = yaml.safe_load((ROOT / "zenml_config.yaml").read_text())
    validator = Draft202012Validator(run_schema())
    assert list(validator.iter_errors(run)) == []
    run["parameters"]["recipe"]["sft"]["lerning_rate"] = 1e-3
    assert [error.validator for error in validator.iter_errors(run)] == ["additionalProperties"]


def test_the_schema_explains_fields(tmp_path: Path) -> None:
    out = tmp_path / "sub" / "recipe.schema.json"
    assert CliRunner().invoke(app, ["schema", "--out", str(out)]).exit_code == 0
    schema = json.loads(out.read_text())
    field = schema["$defs"]["SftRecipe"]["properties"]["learning_rate"]
    assert field["description"] == "Peak learning rate."
