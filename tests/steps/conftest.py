from collections.abc import Iterator
from pathlib import Path

import pytest
from zenml.utils import source_utils

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def source_root() -> Iterator[None]:
    """ZenML takes it from the main module's file, which a worker of pytest-xdist has not."""
    source_utils.set_custom_source_root(str(ROOT))
    yield
    source_utils.set_custom_source_root(None)
