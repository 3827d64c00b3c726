"""What an MLflow folder runs (models from code): chat answers of the exported folder within it.

MLflow copies this file into its folder and executes it there; nothing is pickled. What it imports
of posttrain lies beside it in `code/`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel

from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.models.exported import load_exported
from posttrain.models.generate import Sampling, generate
from posttrain.recipe.inference import InferenceRecipe

ARTIFACT = "model"

Conversation = list[dict[str, str]]


class Answers(PythonModel):
    """Rows with `messages` or a `prompt` in, an assistant's message a row out."""

    def load_context(self, context: Any) -> None:
        """Load the exported folder; refused where its tokenizer, template or weights changed."""
        folder = Path(context.artifacts[ARTIFACT])
        self.model, self.tokenizer, self.facts = load_exported(folder)
        self.end_ids = end_tokens(self.tokenizer)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> list[dict[str, str]]:
        """Answer each row.

        Raises:
            MlflowException: a row holds neither or both, or is too long for the model.
        """
        try:
            conversations = [conversation(row) for row in model_input.to_dict("records")]
            prompts = encode_prompts(self.tokenizer, conversations)
            recipe = InferenceRecipe.model_validate(params or {})
            sampling = Sampling(**recipe.model_dump(), end_ids=self.end_ids, pad_id=self.end_ids[0])
            responses = generate(self.model, prompts, sampling)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        return [
            {
                "role": "assistant",
                "content": str(self.tokenizer.decode(response, skip_special_tokens=True)).strip(),
                "finish_reason": "stop" if response[-1] in self.end_ids else "length",
            }
            for response in responses
        ]


def conversation(row: Mapping[Any, Any]) -> Conversation:
    """A row as a conversation that the model is to answer.

    Raises:
        ValueError: says what a row holds and what it may hold.
    """
    messages, prompt = row.get("messages"), row.get("prompt")
    if isinstance(prompt, str) and not isinstance(messages, list):
        return [{"role": "user", "content": prompt}]
    if isinstance(messages, list) and not isinstance(prompt, str):
        if messages and messages[-1]["role"] == "user":
            return messages
        raise ValueError("messages: the last one must be the user's, for the model to answer it")
    given = {name: type(value).__name__ for name, value in row.items()}
    raise ValueError(
        "a row holds either `messages`, a list of objects with role and content, or `prompt`, a "
        f"text; found {given or 'neither'}"
    )


mlflow.models.set_model(Answers())
