"""The `posttrain` command. Each command's module imports what it needs when it runs."""

import io
import sys

import typer

from cli.chat import chat
from cli.check import check
from cli.dashboard import dashboard
from cli.doctor import doctor
from cli.export import export
from cli.generate import generate
from cli.init import init
from cli.lineage import lineage
from cli.pin import pin
from cli.pin_images import pin_images
from cli.preferences import preferences
from cli.registry import registry
from cli.report import report
from cli.review.command import review
from cli.sbom import licences, sbom
from cli.schedule import schedule
from cli.schema import schema
from cli.stack import stack
from posttrain.hiding import hide

app = typer.Typer(
    help="Raw records to a promoted adapter: what a run made, and what it says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
BEFORE_A_RUN = (init, check, pin, pin_images, schema, sbom, licences)
AFTER_A_RUN = (report, doctor, lineage, review, dashboard, chat, generate, export)
for command in (*BEFORE_A_RUN, *AFTER_A_RUN):
    app.command()(command)
app.add_typer(preferences, name="preferences")
app.add_typer(registry, name="registry")
app.add_typer(schedule, name="schedule")
app.add_typer(stack, name="stack")


def main() -> None:
    """Run the command; what a person can mend is one line on stderr, and exit code 1."""
    for stream in (sys.stdout, sys.stderr):  # a name of bytes that are no UTF-8 is shown escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except _mendable() as error:
        print(f"posttrain: {hide(' '.join(in_words(error).split()))}", file=sys.stderr)
        raise SystemExit(1) from None


def _mendable() -> tuple[type[Exception], ...]:
    """What a person can mend; MLflow's errors too, once a command has imported it."""
    mlflow = sys.modules.get("mlflow.exceptions")
    mine: tuple[type[Exception], ...] = (ValueError, OSError, ModuleNotFoundError)
    return (*mine, mlflow.MlflowException) if mlflow else mine


def in_words(error: Exception) -> str:
    """An error without its number; a file or a package that is wanting is named."""
    if isinstance(error, ModuleNotFoundError):
        return f"{error}: this command needs a package that is not installed here; `make setup`"
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    file = f"{error.filename}: " if error.filename is not None else ""
    return f"{file}cannot be read or written: {error.strerror}"
