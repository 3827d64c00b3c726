"""Pydantic's refusals as sentences."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from posttrain.recipe import PostTrainingRecipe
from posttrain.recipe.mistakes import sentences


@pytest.fixture
def values() -> dict[str, Any]:
    file = Path(__file__).parents[3] / "zenml_config.yaml"
    found: dict[str, Any] = yaml.safe_load(file.read_text())["parameters"]["recipe"]
    return found


def told(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as raised:
        PostTrainingRecipe.model_validate(values)
    return sentences(raised.value, PostTrainingRecipe)


def test_a_misspelt_section_and_a_misspelt_field(values: dict[str, Any]) -> None:
    values["tokenise"] = values.pop("tokenize")
    values["ppo"]["kl_coeff"] = 1
    assert told(values) == [
        "tokenize: is missing; add it (Lengths and packing.)",
        "ppo.kl_coeff: there is no such field; did you mean 'kl_coef'?",
        "tokenise: there is no such field; did you mean 'tokenize'?",
    ]


def test_a_value_of_the_wrong_kind(values: dict[str, Any]) -> None:
    values["sft"] |= {"learning_rate": "fast", "num_epochs": -1}
    values["tokenize"] = 12
    assert told(values) == [
        "tokenize: found 12; fields and their values are wanted, one a line",
        "sft.learning_rate: found 'fast'; it must be a valid number, unable to parse string as a "
        "number",
        "sft.num_epochs: found -1; it must be greater than 0",
    ]


def test_an_item_of_a_list_is_named_by_its_number(values: dict[str, Any]) -> None:
    values["evaluation"]["probes"][1]["kind"] = "exact"
    del values["promotion"]["limits"][0]["figure"]
    assert told(values) == [
        "evaluation.probes.1.kind: found 'exact'; write 'exact_match', 'cloze', 'markers' or "
        "'rouge'",
        "promotion.limits.0.figure: is missing; add it (`perplexity_domain`, "
        "`perplexity_answers`, `bits_per_byte_domain`, a probe's name, `probe.set` "
        "(`fact_accuracy.A`), or a benchmark's `harness.<task>.<metric>`, which is measured of "
        "`untrained` and `final` alone.)",
    ]


def test_alternatives_of_a_type_are_no_part_of_the_path(values: dict[str, Any]) -> None:
    values["sft"]["lora"]["target_modules"] = 3
    assert {sentence.split(":")[0] for sentence in told(values)} == {"sft.lora.target_modules"}


def test_a_rule_across_fields_speaks_for_itself(values: dict[str, Any]) -> None:
    values["evaluation"]["stride"] = 400
    assert told(values) == [
        "evaluation.stride (400) must be below evaluation.window (256): a window's first token has "
        "no context and is not scored in it"
    ]


def test_long_values_are_cut(values: dict[str, Any]) -> None:
    values["seed"] = "x" * 500
    (sentence,) = [one for one in told(values) if one.startswith("seed")]
    assert len(sentence) < 200
