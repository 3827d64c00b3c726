"""The registry's fixtures, and a registered version that speaks Korean."""

import pytest
from mlflow import MlflowClient
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from tests.cli.registered import make_policy, register_museum
from tests.greeter import make_greeter
from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]


@pytest.fixture(scope="session")
def greeter(
    tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory
) -> BaseModel:
    """A base that greets in Korean, whatever it is asked."""
    return make_greeter(tokenizer, tmp_path_factory.mktemp("greeter") / "base")


@pytest.fixture(scope="session")
def mumbler(greeter: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy on it that no longer does."""
    return make_policy(greeter, tmp_path_factory.mktemp("mumbler"))


@pytest.fixture
def museum(registry: MlflowClient, greeter: BaseModel, mumbler: Policy) -> MlflowClient:
    """Version 1 of `museum`, without a champion."""
    return register_museum(registry, greeter, mumbler)
