"""`posttrain schedule`: a run by the clock, on this machine or where the stack has schedules."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from cli.run_file import Pipeline

schedule = typer.Typer(
    help="Runs by the clock: `run` on this machine; the others for schedules that ZenML keeps.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Argument(help="Name or id of the schedule.")]


@schedule.command("list")
def list_schedules() -> None:
    """Show ZenML's schedules: name, cron, whether it is active, where it runs."""
    from zenml.client import Client

    client = Client()
    found = client.list_schedules(size=1000, hydrate=True).items
    orchestrators = client.list_stack_components(type="orchestrator", size=1000).items
    names: dict[UUID | None, str] = {one.id: one.name for one in orchestrators}
    for one in found:
        state = "active" if one.active else "paused"
        where = names.get(one.orchestrator_id, "nothing: deleted")
        print(f"{one.name}  {one.cron_expression}  {state}  on {where}")
    if not found:
        print("ZenML keeps no schedule; a clock of `posttrain schedule run` is none of ZenML's")


@schedule.command()
def pause(name: Name) -> None:
    """No run starts until `resume`; one that runs goes on."""
    _set_active(name, False)


@schedule.command()
def resume(name: Name) -> None:
    """Runs start by the clock again."""
    _set_active(name, True)


@schedule.command()
def delete(name: Name) -> None:
    """Remove a schedule, and what the orchestrator made of it; its runs stay."""
    from zenml.client import Client

    Client().delete_schedule(_id(name))
    print(f"{name}: deleted")


@schedule.command()
def run(
    cron: Annotated[
        str,
        typer.Option(help="When: five fields as in crontab, or six with the seconds first."),
    ],
    config: Annotated[Path, typer.Option("--config", "-c", help="The run's YAML.")],
    pipeline: Annotated[Pipeline, typer.Option(help="Which pipeline.")] = "post_training",
    attempts: Annotated[
        int, typer.Option(min=1, help="How often a run is started before it counts as failed.")
    ] = 3,
    pause: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds before the second attempt; twice as many before the next."
        ),
    ] = 10,
    state: Annotated[
        Path, typer.Option(help="Folder of the clock's state and of the runs' logs.")
    ] = Path(".posttrain/schedule"),
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Another command to run, after `--`.", show_default=False),
    ] = None,
) -> None:
    """Start `zenml pipeline run` by the clock, one run at a time, until SIGTERM.

    What was missed while this was down, or while a run took longer, is made up for by one run. A
    failed run is started again and goes on where it failed. SIGTERM and Ctrl-C wait for the run in
    progress; a second one is handed on to it.
    """
    from cli.scheduler import Plan, keep

    if command:
        _check_command(config, command)
    else:
        _check_recipe(config, pipeline)
    target = f"pipelines.{pipeline}.{pipeline}"
    default = ["zenml", "pipeline", "run", target, "-c", str(config)]
    keep(
        Plan(
            cron=cron,
            command=tuple(command or default),
            attempts=attempts,
            pause_seconds=pause,
            folder=state / config.stem,
            tells_of_cache=not command,
        )
    )


def _check_command(config: Path, command: list[str]) -> None:
    """Refuse what would fail at the first tick.

    Raises:
        ValueError: there is no such file or no such command.
    """
    import shutil

    if not config.is_file():
        raise ValueError(f"-c {config}: there is no such file")
    if shutil.which(command[0]) is None:
        raise ValueError(f"{command[0]}: there is no such command; it comes after `--`")


def _check_recipe(config: Path, pipeline: Pipeline) -> None:
    """Refuse a file that the pipeline would not take: at night nobody sees it fail.

    Raises:
        ValueError: it is none, has a key that nobody reads, or a recipe with a mistake.
    """
    from pydantic import ValidationError

    from cli import run_file
    from posttrain.recipe.mistakes import sentences

    content = run_file.read(config)
    told = run_file.unknown_keys(content, pipeline)
    kind = run_file.recipe_class(pipeline)
    try:
        kind.model_validate(content["parameters"]["recipe"])
    except ValidationError as error:
        told += sentences(error, kind)
    if told:
        raise ValueError(f"{config}, as the pipeline {pipeline} would read it: {'; '.join(told)}")


def _id(name: str) -> str:
    """The id of a schedule.

    Raises:
        ValueError: there is none of that name.
    """
    from zenml.client import Client

    found = Client().list_schedules(size=1000).items
    for one in found:
        if name in (one.name, str(one.id)):
            return str(one.id)
    known = ", ".join(one.name for one in found) or "none"
    raise ValueError(f"no schedule {name!r} (there are: {known})")


def _set_active(name: str, active: bool) -> None:
    from zenml.client import Client

    changed = Client().update_schedule(_id(name), active=active)
    if changed.active != active:
        raise ValueError(f"{name}: the orchestrator of its stack cannot pause or resume schedules")
    print(f"{name}: {'active' if active else 'paused'}")
