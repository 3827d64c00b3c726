"""`posttrain sbom` and `posttrain licences`: what is installed, and under which licences."""

import json
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
    from posttrain.reports import Package
    from posttrain.sbom import of_packages

    told = json.loads(packages.read_bytes()) if packages else None
    found = told["python"] if told else python_packages()
    text = of_packages(
        name,
        release or version("posttrain"),
        {one: Package(**package) for one, package in found.items()},
        told["debian"] if told else debian_packages(),
        ComponentType.CONTAINER if told else ComponentType.APPLICATION,
    )
    if out is None:
        print(text, end="")
        return
    out.write_text(text, encoding="utf-8")
    print(f"wrote {out}: {len(found)} Python packages")


def licences(
    rules: Annotated[Path, typer.Option(help="File with the table tool.licences.")] = Path(
        "pyproject.toml"
    ),
) -> None:
    """Check the licence of each installed package against those that pyproject.toml allows."""
    from posttrain.dependency_licences import Rules, refused
    from posttrain.installed import python_packages

    table = tomllib.loads(rules.read_text("utf-8")).get("tool", {}).get("licences")
    if table is None:
        raise ValueError(f"{rules} has no table tool.licences")
    found = python_packages()
    problems = refused({name: one["licence"] for name, one in found.items()}, Rules(**table))
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(found)} packages have no licence that is allowed"
        )
    print(f"licences: {len(found)} packages, all allowed")
