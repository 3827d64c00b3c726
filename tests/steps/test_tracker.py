"""MLflow's tracker is ours, whenever ZenML loaded the stack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys

sys.modules["torch"] = None  # as in the images of the steps that train nothing

from zenml.client import Client
from zenml.enums import StackComponentType

tracker = StackComponentType.EXPERIMENT_TRACKER
options = {{"tracking_uri": "sqlite:///{folder}/mlflow.db"}}
Client().create_stack_component("tracked", "mlflow", tracker, options)
components = {{StackComponentType.ORCHESTRATOR: "default", tracker: "tracked"}}
components[StackComponentType.ARTIFACT_STORE] = "default"
Client().create_stack("tracked", components)
Client().activate_stack("tracked")
if {loaded}:
    held = Client().active_stack  # as `zenml pipeline run` does before it imports the pipeline
    print(type(held.experiment_tracker).__name__)
import steps

print(type((held if {loaded} else Client().active_stack).experiment_tracker).__name__)
print(type(Client().active_stack.experiment_tracker).__name__)
"""


@pytest.mark.parametrize("loaded", [False, True])
def test_a_stack_that_was_loaded_before_the_steps_has_it_too(loaded: bool, tmp_path: Path) -> None:
    variables = {"ZENML_CONFIG_PATH": str(tmp_path / "zenml"), "ZENML_ANALYTICS_OPT_IN": "false"}
    file = tmp_path / "script.py"
    file.write_text(SCRIPT.format(folder=tmp_path, loaded=loaded), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file)],
        cwd=ROOT,
        env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [line for line in done.stdout.splitlines() if line.endswith("Tracker")]
    assert found == [*(["MLFlowExperimentTracker"] if loaded else []), *["PatientTracker"] * 2]
