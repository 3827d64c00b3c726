"""`posttrain registry approve` and `reject`: a person's word on a version.

Where a run of the pipeline `promotion` waits for it, the run is answered and carries it out; where
none waits, it is done at once.
"""

import getpass
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cli import options
from cli.named import check_store, only_model

if TYPE_CHECKING:
    from posttrain.reports import HistoryEntry

Version = Annotated[str, typer.Argument(help="Number of the version, or an alias.")]
Why = Annotated[str, typer.Option(help="Your reason; the promotion history keeps it.")]
Who = Annotated[str | None, typer.Option(help="Your name; your login name where absent.")]


def approve(
    version: Version,
    why: Why,
    who: Who = None,
    name: options.Name = None,
    overrule: Annotated[
        bool, typer.Option("--overrule", help="Approve although the gate refuses.")
    ] = False,
) -> None:
    """Make a version the champion."""
    _say("approve", version, why, who, name, overrule)


def reject(version: Version, why: Why, who: Who = None, name: options.Name = None) -> None:
    """Write down that a version is not wanted; it is the challenger no more."""
    _say("reject", version, why, who, name)


def _say(
    decision: Literal["approve", "reject"],
    version: str,
    why: str,
    who: str | None,
    name: str | None,
    overrules: bool = False,
) -> None:
    check_store()
    from mlflow import MlflowClient

    from cli.waiting import say
    from posttrain.registry.versions import resolve

    name = name or only_model()
    number = int(resolve(MlflowClient(), name, version).version)
    entry = say(name, number, decision, who=who or getpass.getuser(), why=why, overrules=overrules)
    print(_told(name, entry))
    if entry.action == "approve" and entry.from_version is not None:
        print("to take it back: posttrain registry rollback --why ...", file=sys.stderr)


def _told(name: str, entry: "HistoryEntry") -> str:
    what = (
        f"version {entry.version} is the champion, in place of "
        f"{f'version {entry.from_version}' if entry.from_version else 'none'}"
        if entry.action == "approve"
        else f"version {entry.version} is rejected"
    )
    return f"{name}: {what}; by {entry.who}: {entry.why} (line {entry.number} of the history)"
