"""`posttrain pin`: write commits and the base's fingerprint into a run's YAML."""

from pathlib import Path
from typing import Annotated

import typer

from cli.run_file import Pipeline


def pin(
    config: Annotated[Path, typer.Option("--config", "-c", help="The run's YAML.")],
    pipeline: Annotated[
        Pipeline | None,
        typer.Option(help="Which pipeline; goes by the recipe's sections where absent."),
    ] = None,
) -> None:
    """Write what branches, tags and aliases stand for now into the file, comments kept."""
    from pydantic import ValidationError

    from cli import run_file
    from posttrain import pin as library
    from posttrain.recipe.mistakes import sentences

    content = run_file.read(config)
    kind = run_file.recipe_class(pipeline or run_file.pipeline_of(content))
    try:
        recipe = kind.model_validate(content["parameters"]["recipe"])
    except ValidationError as error:
        raise ValueError(f"{config}: {'; '.join(sentences(error, kind))}") from error
    text = config.read_bytes().decode("utf-8")
    pinned, changes = library.write(text, library.pins_of(recipe))
    for change in changes:
        print(change)
    if changes:
        config.write_bytes(pinned.encode("utf-8"))
        print(f"wrote {config}")
    else:
        print(f"{config}: nothing to pin")
