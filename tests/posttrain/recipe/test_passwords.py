"""A password has no place in a recipe, which ZenML and MLflow keep and show."""

from pathlib import Path

import pytest
import yaml

from posttrain.hiding import check_addresses
from posttrain.recipe import Recipe
from tests.faults import Injected

ADDRESSES = (
    "https://kim:hunter2@data.example.org/corpus.jsonl",
    "s3://AKIAEXAMPLE:hunter2@bucket/rows.parquet",
    "postgresql://kim:hunter2@db/rows",
    "https://hunter2@data.example.org/corpus.jsonl",
)


@pytest.mark.fault("Servers", "a password in an address", "in a field of the recipe")
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_a_password_is_refused(address: str, injected: Injected) -> None:
    values = yaml.safe_load(Path("zenml_config.yaml").read_text("utf-8"))["parameters"]["recipe"]
    for place in (("ingest", "corpus", "source"), ("registration", "summary")):
        recipe = yaml.safe_load(yaml.safe_dump(values))
        block = recipe
        for name in place[:-1]:
            block = block[name]
        block[place[-1]] = address
        with pytest.raises(
            ValueError, match=rf"recipe\.{'.'.join(place)} holds a password"
        ) as told:
            Recipe.model_validate(recipe)
        injected.add(lost="hunter2" in str(told.value))
        assert "hunter2" not in str(told.value)


def test_azures_addresses_are_none() -> None:
    check_addresses({"source": ["abfs://rows@account.dfs.core.windows.net/a.jsonl"]}, "recipe")
