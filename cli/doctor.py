"""`posttrain doctor`: what killed runs left behind, put in order, and how each goes on.

A run is marked as failed where it is certain that its process is gone; of any other it says why it
is left alone. `cli.abandoned` judges.
"""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.abandoned import Unfinished


def doctor(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say it, and change nothing.")] = False,
) -> None:
    """Mark killed runs as failed, say how each goes on, send what MLflow was not told yet."""
    from cli import abandoned

    found = abandoned.unfinished()
    for one in found:
        print(one.told)
        if one.fate == "dead":
            if not dry_run:
                abandoned.mark(one.run)
            print(f"  {'would be marked' if dry_run else 'marked'} as failed; go on: {one.go_on}")
    _mlflow(found, dry_run)
    print(_summary(len(found), sum(one.fate == "dead" for one in found)))


def _mlflow(found: "list[Unfinished]", dry_run: bool) -> None:
    """What waits for MLflow, its runs that nobody will end, and its locks."""
    from cli import abandoned
    from posttrain.silence import SILENT, impatient, is_silence

    abandoned.spools(dry_run, print)
    try:
        with impatient():
            abandoned.tracked_runs(found, dry_run, print)
            abandoned.locks(print)
    except SILENT as error:
        if not is_silence(error):
            raise
        print(f"MLflow does not answer, its runs and locks were not looked at: {error}")


def _summary(num: int, num_dead: int) -> str:
    return f"unfinished runs: {num}; of a process that is gone: {num_dead}"
