"""The registry's fixtures."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from posttrain.artifacts import BaseModel
from tests.policies import register_policy
from tests.store import migrated_store, registry

__all__ = ["migrated_store", "registry"]


@pytest.fixture
def museum(registry: MlflowClient, base: BaseModel, tmp_path: Path) -> MlflowClient:
    """Version 1 is LoRA and champion, version 2 a bottleneck adapter."""
    register_policy(base, "lora", tmp_path / "one", "museum")
    register_policy(base, "bottleneck", tmp_path / "two", "museum")
    registry.set_registered_model_alias("museum", "champion", "1")
    return registry
