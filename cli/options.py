"""Options of `posttrain chat`, `generate` and `export`: which version, and how it answers."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[
    str | None, typer.Option(help="Registered model; may be absent where there is one.")
]
Alias = Annotated[
    str | None, typer.Option(help="Alias of the version, or its number; the champion if absent.")
]
Version = Annotated[int | None, typer.Option(min=1, help="Number of the version.")]
Folder = Annotated[
    Path | None, typer.Option(help="A folder that `posttrain export` wrote, in its place.")
]
Temperature = Annotated[float | None, typer.Option(min=0.0, help="Of sampling; greedy if absent.")]
MaxNewTokens = Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")]
Seed = Annotated[int | None, typer.Option(help="Of sampling.")]
System = Annotated[str | None, typer.Option(help="System message where there is none.")]
