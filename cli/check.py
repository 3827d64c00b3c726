"""`posttrain check`: what would stop a run, all of it, before a GPU is held."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.run_file import Pipeline

if TYPE_CHECKING:
    from posttrain.checks import Check
    from posttrain.recipe import Recipe


def check(
    config: Annotated[Path, typer.Option("--config", "-c", help="The run's YAML.")],
    pipeline: Annotated[
        Pipeline | None,
        typer.Option(help="Which pipeline; goes by the recipe's sections where absent."),
    ] = None,
    gpu_gib: Annotated[
        float | None,
        typer.Option(min=0.1, help="Check for a GPU of this many GiB, not for this machine."),
    ] = None,
) -> None:
    """Find what would stop a run: data, base, template, memory. Nothing trains."""
    from pydantic import ValidationError

    from cli import run_file
    from posttrain.recipe.mistakes import sentences

    content = run_file.read(config)
    chosen = pipeline or run_file.pipeline_of(content)
    print(f"{config}, as the pipeline {chosen} would read it\n")
    keys = run_file.unknown_keys(content, chosen)
    others = [
        f"steps.{name}: {chosen} has no such step, and passes over it"
        for name in run_file.passed_over(content, chosen)
    ]
    show("keys of the file", keys, others, "all known")
    kind = run_file.recipe_class(chosen)
    try:
        recipe = kind.model_validate(content["parameters"]["recipe"])
    except ValidationError as error:
        show("recipe", sentences(error, kind), [], "")
        print("\nThe rest is checked once the recipe can be read.")
        raise typer.Exit(1) from None
    show("recipe", [], [], "complete")

    is_well = _check_run(recipe, gpu_gib)
    if keys or not is_well:
        raise typer.Exit(1)


def _check_run(recipe: "Recipe", gpu_gib: float | None) -> bool:
    """What needs the libraries, which take seconds to load; whether nothing would stop the run."""
    import logging

    from posttrain.checks import check_run

    logging.disable(logging.WARNING)  # what libraries remark, the report says in words of its own
    try:
        report = check_run(recipe, gpu_gib)
    finally:
        logging.disable(logging.NOTSET)
    for one in report.checks:
        _show(one)
    if report.memory:
        print(f"\n{report.memory}")
    return report.is_well


def _show(one: "Check") -> None:
    show(one.name, list(one.problems), list(one.warnings), one.found)


def show(name: str, problems: list[str], warnings: list[str], found: str) -> None:
    """A line a check, and one below it for each thing that is wrong."""
    print(f"{'FAILED' if problems else 'ok':8}{name}{f': {found}' if not problems else ''}")
    for problem in problems:
        print(f"        - {problem}")
    for warning in warnings:
        print(f"        note: {warning}")
