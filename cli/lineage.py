"""`posttrain lineage`: where a version came from, and which versions data fed."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posttrain.registry.one_line import one_line

if TYPE_CHECKING:
    from posttrain.decisions import HistoryEntry
    from posttrain.registry.lineage import VersionLineage
    from posttrain.registry.withdrawal import Withdrawal

CHAMPION_IS_AFFECTED, CHAMPION_UNKNOWN = 3, 4
"""Exit codes; 0 where no champion saw the data."""


def lineage(
    what: Annotated[
        str,
        typer.Argument(
            help="A version (number, alias, NAME@ALIAS), or data: a file, its SHA-256, a data "
            "set's commit; of a hash the first 8 characters do.",
            metavar="VERSION|SHA|FILE",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="Registered model; the only one where absent.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a version's run, data, base, code and decisions; or every version that data fed.

    For data the exit code is 3 where a champion saw them, and 4 where a champion's record can't
    tell.
    """
    from mlflow import MlflowClient

    from cli.named import check_store, only_model
    from posttrain.hashes import sha256
    from posttrain.registry.lineage import lineage as trace
    from posttrain.registry.withdrawal import withdrawal

    check_store()
    file = Path(what)
    if not file.is_file() and not is_hash(what):
        model, _, version = what.rpartition("@")
        traced = trace(MlflowClient(), model or name or only_model(), version)
        print(traced.model_dump_json(indent=1) if as_json else _shown(version_lines(traced)))
        return
    found = withdrawal(MlflowClient(), sha256(file) if file.is_file() else what)
    print(found.model_dump_json(indent=1) if as_json else _shown(data_lines(found)))
    if found.champions or found.unread_champions:
        raise typer.Exit(CHAMPION_IS_AFFECTED if found.champions else CHAMPION_UNKNOWN)


def _shown(lines: Iterable[str]) -> str:
    """Each on a line of its own, with its indentation, whatever names and reasons hold."""
    return "\n".join(" " * (len(line) - len(line.lstrip(" "))) + one_line(line) for line in lines)


def is_hash(what: str) -> bool:
    """Whether it is meant as a hash: long enough, and hexadecimal."""
    from posttrain.registry.withdrawal import SHORTEST

    return len(what) >= SHORTEST and all(letter in "0123456789abcdefABCDEF" for letter in what)


def version_lines(found: "VersionLineage", indent: str = "") -> Iterator[str]:
    """A version's origin, a fact a line."""
    named = f" ({', '.join(found.aliases)})" if found.aliases else ""
    yield f"{indent}{found.name} version {found.version}{named}"
    at = indent + "  "
    for key, value in found.runs.items():
        yield f"{at}{key}: {value}"
    for role, data in found.data.items():
        commit = f" at {data.revision}" if data.revision else ""
        yield f"{at}data {role}: {data.source or 'source not recorded'}{commit}"
        for file, sha in data.files.items():
            yield f"{at}  file {sha} {file}"
        yield f"{at}  rows {data.rows or 'not recorded'}"
    base = found.base
    yield f"{at}base: {base.source}{f' at {base.revision}' if base.revision else ''}"
    if base.fingerprint:
        yield f"{at}base fingerprint: {base.fingerprint}"
    if base.registered is not None:
        yield f"{at}base was made from:"
        yield from version_lines(base.registered, at + "  ")
    code = found.code
    yield f"{at}code: {code.commit or 'not recorded'}{', with changes' if code.is_dirty else ''}"
    if code.libraries:
        yield f"{at}libraries: {', '.join(f'{k} {v}' for k, v in code.libraries.items())}"
    for step, image in code.images.items():
        yield f"{at}image of {step}: {image}"
    for kind, sha in found.hashes.items():
        yield f"{at}{kind} hash: {sha}"
    yield f"{at}gate: {found.gate or 'not judged'}"
    for reason in found.gate_reasons:
        yield f"{at}  {reason}"
    for entry in found.history:
        yield f"{at}{entry.when} {entry.action} by {entry.who}: {_move(entry)}; {entry.why}"
    for missing in found.missing:
        yield f"{at}not known: {missing}"


def _move(entry: "HistoryEntry") -> str:
    return f"champion {entry.from_version or 'none'} to {entry.to_version or 'none'}"


def data_lines(found: "Withdrawal") -> Iterator[str]:
    """What data fed, champions first."""
    for champion in found.champions:
        yield f"A CHAMPION IS AFFECTED: {champion}"
    yield f"{found.sha} fed {len(found.versions)} version(s)"
    for fed in found.versions:
        named = f" ({', '.join(fed.aliases)})" if fed.aliases else ""
        how = "; ".join(f"{hit.kind} of {hit.role}: {hit.where}" for hit in fed.hits)
        how = how or f"through its base: {', '.join(fed.through)}"
        yield f"  {fed.name} version {fed.version}{named}: {how}"
    for unread in found.unread:
        yield f"  not known, its record or that of a version it stands on lacks sources: {unread}"
