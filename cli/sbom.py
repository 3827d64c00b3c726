"""`posttrain sbom` and `posttrain licences`: what is installed, and under which licences."""

import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer


def sbom(
    packages: Annotated[
        Path | None, typer.Option(help="What an image said of itself; this environment if absent.")
    ] = None,
    name: Annotated[str, typer.Option(help="What the bill is of.")] = "posttrain",
    release: Annotated[str | None, typer.Option(help="Its release; ours if absent.")] = None,
    out: Annotated[Path | None, typer.Option(help="File; standard output if absent.")] = None,
) -> None:
    """Write a bill of materials (CycloneDX 1.6, JSON) of this environment or of an image."""
    from importlib.metadata import version

    from cyclonedx.model.component import ComponentType

    from posttrain.installed import debian_packages, python_packages
    from posttrain.sbom import Installed, of_packages
    from posttrain.settings_file import read_text

    if packages:
        installed = Installed.model_validate_json(read_text(packages))
    else:
        here = {"python": python_packages(), "debian": debian_packages()}
        installed = Installed.model_validate(here)
    text = of_packages(
        name,
        release or version("posttrain"),
        installed.python,
        installed.debian,
        ComponentType.CONTAINER if packages else ComponentType.APPLICATION,
    )
    if out is None:
        print(text, end="")
        return
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}: {len(installed.python)} Python packages")


def licences(
    rules: Annotated[Path, typer.Option(help="File with the table tool.licences.")] = Path(
        "pyproject.toml"
    ),
) -> None:
    """Check the licence of each installed package against those that pyproject.toml allows."""
    from posttrain.dependency_licences import Rules, refused
    from posttrain.installed import python_packages
    from posttrain.settings_file import read_text

    tool = tomllib.loads(read_text(rules)).get("tool")
    table = tool.get("licences") if isinstance(tool, dict) else None
    if table is None:
        raise ValueError(f"{rules} has no table tool.licences")
    allowed = Rules.model_validate(table)
    found = python_packages()
    problems = refused({name: one["licence"] for name, one in found.items()}, allowed)
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(found)} packages have no licence that is allowed"
        )
    print(f"licences: {len(found)} packages, all allowed")
