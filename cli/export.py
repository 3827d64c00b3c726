"""`posttrain export`: a registered version as a folder that others load and serve."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.named import CHAMPION, check_store, only_model


def export(
    layout: Annotated[
        Literal["peft", "merged", "mlflow"],
        typer.Option("--format", help="Adapter beside its base, whole weights, MLflow's folder."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    name: Annotated[
        str | None, typer.Option(help="Registered model; may be absent where there is one.")
    ] = None,
    alias: Annotated[
        str | None, typer.Option(help="Alias or number of the version; the champion if absent.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=1, help="Number of the version.")] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of merged weights; as the base's are stored where absent."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in the folder.")] = False,
) -> None:
    """Write a registered version to a folder, and check it by loading it."""
    if alias and version:
        raise ValueError(f"--alias {alias} and --version {version} name two; leave one out")
    check_store()
    from posttrain.models.device import prepare
    from posttrain.registry.export import export as write
    from posttrain.registry.export_hints import commands, notes

    prepare(seed=0)
    which = str(version) if version else alias or CHAMPION
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
