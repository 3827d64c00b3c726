"""`posttrain export`: a registered version as a folder that others load and serve."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli import options
from cli.named import check_store, only_model, which_version


def export(
    layout: Annotated[
        Literal["peft", "merged", "mlflow"],
        typer.Option("--format", help="Adapter beside its base, whole weights, MLflow's folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: options.Name = None,
    alias: options.Alias = None,
    version: options.Version = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of merged weights; as the base's are stored where absent."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the folder.")] = False,
) -> None:
    """Write a registered version to a folder, and check it by loading it."""
    which = which_version(alias, version)
    check_store()
    from posttrain.models.device import prepare
    from posttrain.registry.export import export as write
    from posttrain.registry.export_hints import commands, notes

    prepare(seed=0)
    done = write(name or only_model(), which, out, layout, dtype, force)
    facts = done.facts
    print(f"{facts.name} version {facts.version} ({facts.method}) -> {out}, {layout}")
    print(
        f"verified: loaded from the folder; its logits differ from the version's by at most "
        f"{done.largest_difference:.1e} (they spread by {done.spread:.2g})"
    )
    for note in notes(facts):
        print(f"note: {note}", file=sys.stderr)
    print("next:")
    for command in commands(facts, layout, out):
        print(f"  {command}")
