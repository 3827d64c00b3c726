"""What the tests of measuring share: a tiny run and its quarantine."""

from pathlib import Path

import pytest

from posttrain.artifacts import BaseModel, Quarantine, Records
from posttrain.evaluate.stages import Stages
from posttrain.facts import QuarantineFacts, SourceFacts
from tests.tiny_run import trained


@pytest.fixture
def stages(records: Records, base: BaseModel) -> Stages:
    return trained(records, base)


@pytest.fixture
def quarantine(tmp_path: Path) -> Quarantine:
    folder = tmp_path / "quarantine"
    folder.mkdir()
    source = SourceFacts(source="acme/skies", revision="4be1d2", files={})
    facts = QuarantineFacts(num_rows={"corpus": {"near_duplicate": 7}}, sources={"corpus": source})
    return Quarantine.write(folder, "validate", facts)
