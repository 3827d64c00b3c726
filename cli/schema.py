"""`posttrain schema`: the JSON Schema by which editors complete and check a run's YAML."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer


def schema(
    out: Annotated[
        Path | None, typer.Option(help="File to write; standard output where absent.")
    ] = None,
) -> None:
    """Print the JSON Schema of a run's YAML, the recipe within it.

    In the YAML's first line: `# yaml-language-server: $schema=recipe.schema.json`
    """
    text = json.dumps(run_schema(), indent=1, ensure_ascii=False) + "\n"
    if out is None:
        print(text, end="")
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}")


def run_schema() -> dict[str, Any]:
    """The schema of a whole run configuration; ZenML's own keys are let through."""
    from posttrain.recipe import Recipe

    recipe = Recipe.model_json_schema()
    definitions = recipe.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "posttrain run configuration",
        "type": "object",
        "properties": {
            "parameters": {
                "type": "object",
                "properties": {"recipe": {"$ref": "#/$defs/Recipe"}},
                "required": ["recipe"],
            }
        },
        "required": ["parameters"],
        "$defs": definitions | {"Recipe": recipe},
    }
