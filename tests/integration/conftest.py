"""A checkout of its own for tests that edit files and run pipelines through ZenML's command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
PARTS = (
    "pipelines",
    "steps",
    "posttrain",
    "cli",
    "data",
    "recipes",
    "constraints.txt",
    "zenml_config.yaml",
)


class Checkout:
    """A copy of the code and the sample data with state of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = ""  # of the last run
        for part in PARTS:
            source, target = ROOT / part, root / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        state = root / ".posttrain"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(root),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "ZENML_CONFIG_PATH": str(state / "zenml"),
            "ZENML_ANALYTICS_OPT_IN": "false",
            "ZENML_DISABLE_INTERACTIVE_INPUT": "true",
            "MLFLOW_TRACKING_URI": f"sqlite:///{state / 'mlflow.db'}",
            "POSTTRAIN_WORK": str(state / "work"),
            "POSTTRAIN_CACHE": str(state / "cache"),
            "POSTTRAIN_CHECKPOINTS": str(state / "checkpoints"),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.command("posttrain", "stack", "embedded")

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment's in the checkout; fails the test if it fails."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        # the log without the frames of ZenML's own stack that rich draws
        said = [line for line in (done.stdout + done.stderr).splitlines() if "│" not in line]
        assert done.returncode == 0, "\n".join(said[-60:])
        return done

    def run(self, pipeline: str, config: Path) -> dict[str, str]:
        """Run a pipeline by ZenML's command; step -> `cached` or `completed`."""
        target = f"pipelines.{pipeline}.{pipeline}"
        done = self.command("zenml", "pipeline", "run", target, "-c", str(config))
        self.log = done.stdout + done.stderr
        return self.statuses()

    def statuses(self) -> dict[str, str]:
        code = (
            "import json; from zenml.client import Client; "
            "run = Client().list_pipeline_runs(sort_by='desc:created', size=1).items[0]; "
            "print(json.dumps({n: s.status.value for n, s in run.steps.items()}))"
        )
        script = self.root / "statuses.py"
        script.write_text(code)
        found: dict[str, str] = json.loads(
            self.command("python", str(script)).stdout.splitlines()[-1]
        )
        return found

    def report(self) -> dict[str, Any]:
        """What `posttrain report --json` prints."""
        found: dict[str, Any] = json.loads(self.command("posttrain", "report", "--json").stdout)
        return found

    def config(self, **changes: Any) -> Path:
        """The default run, cut down to seconds; `section__field=value` changes the recipe."""
        values = yaml.safe_load((self.root / "zenml_config.yaml").read_text(encoding="utf-8"))
        recipe = values["parameters"]["recipe"]
        for path, value in {**TINY, **changes}.items():
            *sections, field = path.split("__")
            block = recipe
            for section in sections:
                block = block[section]
            block[field] = value
        file = self.root / "tiny.yaml"
        file.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
        return file


TINY = {
    "ingest__corpus__limit": 400,
    "ingest__instructions__limit": 300,
    "base_model__from_config__hidden_size": 32,
    "base_model__from_config__intermediate_size": 64,
    "base_model__from_config__num_layers": 2,
    "base_finetune__max_steps": 8,
    "sft__max_steps": 4,
    "evaluation__max_new_tokens": 8,
    "evaluation__num_bootstrap": 20,
    "promotion__limits": [{"figure": "perplexity_domain", "at_most": 1e9}],
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))
