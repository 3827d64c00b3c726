"""An exported folder in MLflow's layout: models from code, and nothing pickled.

`served.py` answers; what it imports of posttrain is copied beside it, so that the folder serves
where posttrain is not installed.
"""

from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, ColSpec, Object, Property
from transformers import PreTrainedModel, PreTrainedTokenizerFast

import posttrain
from posttrain.models.exported import ExportedFacts
from posttrain.recipe.inference import InferenceRecipe
from posttrain.registry import served

ARTIFACTS = "artifacts"
REQUIREMENTS = (
    "mlflow",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "safetensors",
    "jinja2",
    "pydantic",
    "pandas",
)
"""What `served.py` needs, at the versions that are installed here."""


def write_mlflow(model: Path, folder: Path, max_positions: int) -> None:
    """Write MLflow's folder around an exported one, which is moved into it."""
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=served.__file__,
        code_paths=[str(Path(posttrain.__file__).parent)],
        signature=_signature(InferenceRecipe(), max_positions),
        input_example={"messages": [{"role": "user", "content": "What can you tell me?"}]},
        pip_requirements=[f"{name}=={_release(name)}" for name in REQUIREMENTS],
    )
    (folder / ARTIFACTS).mkdir()
    model.rename(folder / ARTIFACTS / served.ARTIFACT)
    # by hand: MLflow would copy the weights through /tmp, and write down where they came from
    described = Model.load(str(folder))
    place = f"{ARTIFACTS}/{served.ARTIFACT}"
    described.flavors["python_function"] |= {
        "artifacts": {served.ARTIFACT: {"path": place, "uri": place}},
        "model_code_path": Path(served.__file__).name,
    }
    described.model_size_bytes = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    described.save(str(folder / MLMODEL_FILE_NAME))


def load_mlflow(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, ExportedFacts]:
    """Load the folder as `mlflow models serve` does; what it answers with."""
    answers = mlflow.pyfunc.load_model(str(folder)).unwrap_python_model()
    return answers.model, answers.tokenizer, answers.facts


def _signature(recipe: InferenceRecipe, max_positions: int) -> ModelSignature:
    """One of two columns in, a message out; parameters as of `posttrain chat`."""
    text = DataType.string
    message = Object([Property("role", text), Property("content", text)])
    longest = min(recipe.max_new_tokens, max(1, max_positions // 2))
    return ModelSignature(
        inputs=Schema(
            [
                ColSpec(Array(message), "messages", required=False),
                ColSpec(text, "prompt", required=False),
            ]
        ),
        outputs=Schema([ColSpec(text, name) for name in ("role", "content", "finish_reason")]),
        params=ParamSchema(
            [
                ParamSpec("temperature", DataType.double, recipe.temperature),
                ParamSpec("max_new_tokens", DataType.long, longest),
                ParamSpec("seed", DataType.long, recipe.seed),
            ]
        ),
    )


def _release(name: str) -> str:
    """A package's version without what says how it was built (`+cpu`): indexes have none such."""
    return version(name).partition("+")[0]
