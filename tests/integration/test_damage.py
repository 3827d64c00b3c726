"""Each file of each artifact of a real run, damaged: none is loaded."""

import json
from typing import Any

import pytest

from tests.faults import Injected
from tests.integration.conftest import ROOT, Checkout

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def damaged(checkout: Checkout) -> list[dict[str, Any]]:
    checkout.run("fine_tuning", checkout.config())
    script = checkout.root / "damage_artifacts.py"
    script.write_text((ROOT / "tests" / "integration" / script.name).read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = json.loads(
        checkout.command("python", str(script)).stdout.splitlines()[-1]
    )
    return found


def test_every_output_was_damaged_in_every_file(damaged: list[dict[str, Any]]) -> None:
    outputs = {line["output"] for line in damaged}
    assert {"records", "tokens", "domain", "assistant", "evaluation", "report"} <= outputs
    files = {(line["output"], line["file"]) for line in damaged}
    assert {("tokens", "manifest.json"), ("tokens", "corpus.parquet")} <= files
    assert ("assistant", "adapter/adapter_model.safetensors") in files
    assert len(damaged) > 50


@pytest.mark.fault("State", "an artifact is damaged", "a flipped byte, a cut: each file of a run")
def test_none_is_loaded_and_each_refusal_names_the_file(
    damaged: list[dict[str, Any]], injected: Injected
) -> None:
    unseen = [line for line in damaged if line["file"].split("/")[-1] not in line["said"]]
    injected.add(len(damaged), lost=len(unseen))
    assert not unseen, unseen
