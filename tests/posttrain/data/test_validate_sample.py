"""The sample data's planted defects: all are found, each for its reason, and nothing else is."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from posttrain.data.ingest import ingest
from posttrain.data.validate import validate
from posttrain.recipe import Recipe


def test_exactly_the_planted_defects_are_quarantined() -> None:
    config = yaml.safe_load(Path("zenml_config.yaml").read_text(encoding="utf-8"))
    recipe = Recipe.model_validate(config["parameters"]["recipe"])
    planted = json.loads(Path("data/defects.json").read_text(encoding="utf-8"))
    validated = validate(ingest(recipe.ingest), recipe.validation)
    for role, num_rows in validated.records.facts.num_rows.items():
        rows = pq.read_table(validated.quarantine.path / f"{role}.parquet").to_pylist()
        assert {row["id"]: row["reason"] for row in rows} == planted.get(role, {}), role
        assert num_rows > 0
    assert validated.failures == ()
