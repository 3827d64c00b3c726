"""A recipe of anything is read, or refused in words that name the file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from pydantic import ValidationError

from cli import run_file
from posttrain.recipe.mistakes import sentences
from tests.cli.generated import FILES, FUZZED
from tests.faults import Injected, times

NUM_RECIPES = times(quick=150, few=800, full=8_000)


@pytest.mark.fault("Input", "a recipe of anything", "generated YAML: text and values of any shape")
def test_a_recipe_is_read_or_refused_in_words(tmp_path: Path, injected: Injected) -> None:
    file = tmp_path / "recipe.yaml"

    @settings(FUZZED, max_examples=NUM_RECIPES)
    @given(FILES)
    def check(content: bytes) -> None:
        injected.add()
        file.write_bytes(content)
        try:
            found = run_file.read(file)
        except ValueError as error:
            assert str(file) in str(error)
            assert type(error) is ValueError
            assert len(str(error)) < 50_000
            return
        pipeline = run_file.pipeline_of(found)
        assert all(run_file.unknown_keys(found, pipeline))
        kind = run_file.recipe_class(pipeline)
        try:
            kind.model_validate(found["parameters"]["recipe"])
        except ValidationError as error:
            told = sentences(error, kind)
            assert told
            assert all(one.strip() for one in told)

    check()
