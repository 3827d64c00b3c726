"""A pipeline of the right name that hands out trained folders: run in a process of its own."""

import sys
from pathlib import Path
from typing import Annotated

from zenml import pipeline, step

from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.reports import Evaluation
from steps._folders import FolderMaterializer
from tests import samples


@step(output_materializers={"tokens": FolderMaterializer})
def tokenize(folder: str) -> Annotated[Tokens, "tokens"]:
    """What the run trained and measured on."""
    return Tokens(Path(folder))


@step(output_materializers={"domain": FolderMaterializer})
def base_finetune(folder: str) -> Annotated[BaseModel, "domain"]:
    """The base."""
    return BaseModel(Path(folder))


@step(output_materializers={"assistant": FolderMaterializer})
def sft(folder: str) -> Annotated[Policy, "assistant"]:
    """The only policy."""
    return Policy(Path(folder))


@step
def evaluate() -> Annotated[Evaluation, "evaluation"]:
    """The samples' figures."""
    return samples.evaluation(last="sft")


@pipeline(name="fine_tuning", enable_cache=False)
def trained(tokens: str, domain: str, assistant: str) -> None:
    """A run as `posttrain preferences` finds it."""
    tokenize(tokens)
    base_finetune(domain)
    sft(assistant)
    evaluate()


if __name__ == "__main__":
    trained(*sys.argv[1:])
