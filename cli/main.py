"""The `posttrain` command. Each command's module imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.chat import chat
from cli.dashboard import dashboard
from cli.export import export
from cli.generate import generate
from cli.init import init
from cli.preferences import preferences
from cli.report import report
from cli.schema import schema
from cli.stack import embedded

app = typer.Typer(
    help="Raw records to a promoted adapter: what a run made, and what it says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (report, chat, generate, export, dashboard, init, schema):
    app.command()(command)
app.add_typer(preferences, name="preferences")


@app.command()
def stack(
    kind: Annotated[Literal["embedded"], typer.Argument(help="Which stack.")],
    state: Annotated[Path, typer.Option(help="Folder of its state.")] = Path(".posttrain"),
) -> None:
    """Register and activate a stack; `make` runs this once."""
    assert kind == "embedded"
    embedded(state)


def main() -> None:
    """Run the command; the user's mistake is one line on stderr, and exit code 1."""
    try:
        app()
    except ValueError as error:
        print(f"posttrain: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(1) from None
