"""ZenML ignores keys that it does not know; these tests do not. Every run file is loaded."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from zenml.config import DockerSettings, ResourceSettings
from zenml.config.pipeline_run_configuration import PipelineRunConfiguration
from zenml.config.step_configurations import StepConfigurationUpdate
from zenml.integrations.kubernetes.flavors.kubernetes_orchestrator_flavor import (
    KubernetesOrchestratorSettings,
)
from zenml.integrations.mlflow.flavors.mlflow_experiment_tracker_flavor import (
    MLFlowExperimentTrackerSettings,
)

from cli.run_file import pipeline_of
from cli.schema import run_schema
from pipelines.fine_tuning import fine_tuning
from pipelines.post_training import post_training
from posttrain.recipe import PostTrainingRecipe, Recipe

PIPELINES = {
    "post_training": (post_training, PostTrainingRecipe),
    "fine_tuning": (fine_tuning, Recipe),
}
FILES = ("zenml_config.yaml", *sorted(map(str, Path("recipes").glob("*.yaml"))))
SETTINGS: dict[str, type[BaseModel]] = {
    "docker": DockerSettings,
    "resources": ResourceSettings,
    "experiment_tracker.mlflow": MLFlowExperimentTrackerSettings,
    "orchestrator.kubernetes": KubernetesOrchestratorSettings,
}
DEFAULT = Path("zenml_config.yaml").read_text(encoding="utf-8")
COMMAND = (
    r"#   \. \.posttrain/env && zenml pipeline run pipelines\.(\w+)\.(\w+) -c ([\w./]+\.yaml)\n"
)
FILLED_IN = {
    "dialogpt_full_summarization": ("'text' and 'summary'", ("instructions", "probes")),
    "dialogpt_medical_qlora": ("'instruction' and 'response'", ("instructions",)),
    "domain_from_champion": ("'instruction' and 'response'", ("instructions",)),
}
"""Recipe -> the columns of the data that its user brings, and the roles that want them."""


def load(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def unknown(block: dict[str, Any], model: type[BaseModel]) -> set[str]:
    return set(block) - set(model.model_fields)


def unknown_settings(settings: dict[str, Any]) -> set[str]:
    return set(settings) - set(SETTINGS) | {
        f"{name}.{key}"
        for name, block in settings.items()
        if name in SETTINGS
        for key in unknown(block, SETTINGS[name])
    }


def problems(text: str) -> set[str]:
    config = load(text)
    pipeline, kind = PIPELINES[pipeline_of(config)]
    pipeline.prepare(recipe=kind(**config["parameters"]["recipe"]))
    found = unknown(config, PipelineRunConfiguration)
    found |= set(config["steps"]) - set(pipeline.invocations)
    found |= unknown_settings(config.get("settings", {}))
    for block in config["steps"].values():
        found |= unknown(block, StepConfigurationUpdate)
        found |= unknown_settings(block.get("settings", {}))
    return found


def filled_in(file: str) -> str:
    """The file's text, with the sample data where a user's own are wanted."""
    text = Path(file).read_text(encoding="utf-8")
    return text.replace("source: REQUIRED", "source: data/instructions.jsonl")


@pytest.mark.parametrize("file", FILES)
def test_every_key_of_a_run_is_known(file: str) -> None:
    assert problems(filled_in(file)) == set()


@pytest.mark.parametrize("file", FILES)
def test_the_command_in_the_comment_runs_the_file(file: str) -> None:
    text = Path(file).read_text(encoding="utf-8")
    pipeline, found = pipeline_of(load(text)), re.search(COMMAND, text)
    assert found and found.groups() == (pipeline, pipeline, file)


@pytest.mark.parametrize("file", FILES)
def test_editors_find_no_fault_with_it(file: str) -> None:
    config = load(Path(file).read_text(encoding="utf-8"))
    assert list(Draft202012Validator(run_schema()).iter_errors(config)) == []


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_a_run_names_is_there(file: str) -> None:
    recipe = load(Path(file).read_text(encoding="utf-8"))["parameters"]["recipe"]
    named = [recipe.get("template", {}).get("chat_template")]
    named.append(recipe.get("self_critique", {}).get("constitution"))
    for source in recipe["ingest"].values():
        hub = source.get("format") == "hub" or source["source"] == "REQUIRED"
        named.append(None if hub or "*" in source["source"] else source["source"])
    assert [name for name in named if name and not Path(name).is_file()] == []


@pytest.mark.parametrize("file", FILES)
def test_trained_steps_and_the_registry_share_the_tracker(file: str) -> None:
    steps = load(Path(file).read_text(encoding="utf-8"))["steps"]
    assert {"sft", "evaluate", "register", "promote"} <= set(steps)
    tracked = {name for name, step in steps.items() if "experiment_tracker" in step}
    assert set(steps) - tracked <= {"ingest", "validate"}
    assert {steps[name]["experiment_tracker"] for name in tracked} == {"posttrain_mlflow"}


GPU_STEPS = {
    *("base_finetune", "sft", "reward_model", "ppo", "dpo", "self_critique", "evaluate"),
    *("ai_preferences", "rlaif_reward_model", "rlaif_ppo"),
}
REAL = [file for file in FILES if "tiny_" not in file and file != "zenml_config.yaml"]


@pytest.mark.parametrize("file", REAL)
def test_steps_that_load_a_model_take_a_gpu_on_kubernetes(file: str) -> None:
    config = load(Path(file).read_text(encoding="utf-8"))
    gpu = load(Path("k8s/gpu-step.yaml").read_text(encoding="utf-8"))
    handed_on = config["parameters"]["recipe"]["base_finetune"]["method"] == "none"
    wanted = GPU_STEPS - ({"base_finetune"} if handed_on else set())
    for name, block in config["steps"].items():
        found = block.get("settings", {}).get("orchestrator.kubernetes")
        assert found == (gpu if name in wanted else None), name


@pytest.mark.parametrize("file", REAL)
def test_each_step_runs_in_the_image_that_has_its_libraries(file: str) -> None:
    config = load(Path(file).read_text(encoding="utf-8"))
    default = load(Path("recipes/base_ft_korean.yaml").read_text(encoding="utf-8"))
    assert config["settings"] == default["settings"]
    images = {
        name: block["settings"]["docker"]["parent_image"]
        for name, block in config["steps"].items()
        if "docker" in block.get("settings", {})
    }
    assert images == {
        **dict.fromkeys(["ingest", "validate"], "posttrain-data:local"),
        **dict.fromkeys(["register", "promote"], "posttrain-registry:local"),
    }


@pytest.mark.parametrize("file", REAL)
def test_a_recipe_starts_no_step_again_on_a_local_stack(file: str) -> None:
    # ZenML's local orchestrator retries whatever was raised: Ctrl-C and SIGTERM too
    steps = load(Path(file).read_text(encoding="utf-8"))["steps"]
    assert [name for name, step in steps.items() if step.get("retry")] == []


def test_a_gpu_step_is_every_steps_pod_with_a_gpu() -> None:
    pod = load(Path("k8s/step-pod.yaml").read_text(encoding="utf-8"))
    gpu = load(Path("k8s/gpu-step.yaml").read_text(encoding="utf-8"))["pod_settings"]
    shared = {key: value for key, value in gpu.items() if key in pod}
    assert differences(pod, shared) == {
        *("resources.requests.cpu", "resources.requests.memory"),
        *("resources.limits.memory", "resources.limits.nvidia.com/gpu"),
        "volumes",  # more shared memory
    }


def test_every_recipe_that_wants_its_users_data_is_listed() -> None:
    wanting = {Path(file).stem for file in FILES if "REQUIRED" in Path(file).read_text("utf-8")}
    assert wanting == set(FILLED_IN)


@pytest.mark.parametrize(("name", "columns", "roles"), [(n, *v) for n, v in FILLED_IN.items()])
def test_required_data_are_asked_for_before_anything_runs(
    name: str, columns: str, roles: tuple[str, ...]
) -> None:
    text = Path(f"recipes/{name}.yaml").read_text(encoding="utf-8")
    for role in roles:  # filled in from the top, the next one is named
        pipeline, kind = PIPELINES[pipeline_of(load(text))]
        with pytest.raises(ValueError) as error:
            pipeline.prepare(recipe=kind(**load(text)["parameters"]["recipe"]))
        sentence = (
            f"ingest.{role}.source is REQUIRED: these are your own data; write the path of a file "
            "(or a hub id, with `format: hub`) whose rows have the columns"
        )
        assert sentence in str(error.value)
        assert columns in str(error.value)
        text = text.replace("source: REQUIRED", "source: mine.jsonl", 1)
    kind(**load(text)["parameters"]["recipe"])


@pytest.mark.parametrize(
    ("right", "typo", "found"),
    [
        ("\nsettings:", "\nsetings:", {"setings"}),
        ("nested:", "nestd:", {"experiment_tracker.mlflow.nestd"}),
        ("experiment_tracker.mlflow:", "experiment_tracker.mlfow:", {"experiment_tracker.mlfow"}),
        ("  sft: {experiment", "  sftt: {experiment", {"sftt"}),
        ("sft: {experiment_tracker:", "sft: {experiment_traker:", {"experiment_traker"}),
    ],
)
def test_typos_are_caught(right: str, typo: str, found: set[str]) -> None:
    assert right in DEFAULT
    assert problems(DEFAULT.replace(right, typo)) == found


@pytest.mark.parametrize("typo", ["learning_rat", "chat_templat", "at_leas"])
def test_a_misspelt_recipe_field_is_refused(typo: str) -> None:
    right = {"learning_rat": "learning_rate", "chat_templat": "chat_template"}.get(typo, "at_least")
    with pytest.raises(ValueError, match=typo):
        PostTrainingRecipe(**load(DEFAULT.replace(f"{right}:", f"{typo}:"))["parameters"]["recipe"])


def differences(one: Any, other: Any, at: str = "") -> set[str]:
    """Paths at which two trees differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return set() if one == other else {at}
    return {
        path
        for key in one.keys() | other.keys()
        for path in differences(one.get(key), other.get(key), f"{at}.{key}".strip("."))
    }


JUDGED = {"steps.ai_preferences", "steps.rlaif_reward_model", "steps.rlaif_ppo"}
DIFFERENCES = {
    "tiny_dpo": {
        "parameters.recipe.dpo",
        "parameters.recipe.ppo",
        "parameters.recipe.preference_method",
        "parameters.recipe.registration.model_name",
        "steps.dpo",
        "steps.ppo",
    },
    "tiny_rlaif": {
        "parameters.recipe.ingest.instructions.source",
        "parameters.recipe.registration.model_name",
        "parameters.recipe.rlaif",
        *JUDGED,
    },
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_demos_differ_from_the_default_run_only_where_intended(name: str) -> None:
    text = Path(f"recipes/{name}.yaml").read_text(encoding="utf-8")
    assert differences(load(DEFAULT), load(text)) == DIFFERENCES[name]
