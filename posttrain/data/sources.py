"""Which files or which commit a recipe's sources are; cheap to import.

ZenML's cache key takes `digest`, so that an edited file runs `ingest` again.
"""

import re
from pathlib import Path

from posttrain import hub, roots
from posttrain.facts import SourceFacts, sources_digest
from posttrain.hashes import sha256
from posttrain.recipe.ingest import COLUMNS, IngestRecipe, Source

FIELD = "ingest"


def digest(recipe: IngestRecipe) -> str:
    """SHA-256 over the bytes of all local sources and the commits of all hub data sets, in hex."""
    sources = {role: getattr(recipe, role) for role in COLUMNS}
    return sources_digest(
        {role: facts(source) for role, source in sources.items() if source is not None}
    )


def facts(source: Source) -> SourceFacts:
    """What a source is right now: its files' hashes, or its commit."""
    if source.format == "hub":
        return SourceFacts(source=source.name, revision=commit(source), files={})
    files = {file.as_posix(): sha256(file) for file in files_of(source)}
    return SourceFacts(source=source.name, revision=None, files=files)


def files_of(source: Source) -> list[Path]:
    """The files that a source's paths and globs name, each once, in the order of the source.

    Raises:
        ValueError: one of them names none, or a folder.
    """
    return list(named_files(source))


def named_files(source: Source) -> dict[Path, str]:
    """Each file of a source, with the path or glob that names it first."""
    found: dict[Path, str] = {}
    for name in source.names:
        for file in _files(name):
            found.setdefault(file, name)
    return found


def _files(name: str) -> list[Path]:
    """The files of one path or glob, sorted."""
    path = Path(name)
    if roots.is_there(path):
        roots.check(path, FIELD)
        if path.is_file():
            return [path]
        if path.is_dir():
            raise ValueError(
                f"{path}: is a folder; name its files with a glob such as {path}/*.jsonl"
            )
        raise ValueError(f"{path}: is a device, a pipe or a socket; name a file")
    if files := list(roots.matches(name, FIELD)):
        return files
    raise ValueError(
        f"{roots.shown(name)}: no such file (looked from {Path.cwd()}); give a path or glob, "
        "or `format: hub` for a data set on the Hugging Face hub"
    )


def commit(source: Source) -> str:
    """The commit that a hub data set's revision stands for; a full commit needs no network.

    Raises:
        ValueError: the hub does not know it or cannot be reached, or a local path hides it.
    """
    if roots.is_there(Path(source.name)):
        raise ValueError(
            f"{source.name}: is also a path here, which `datasets` would read in its place; "
            "run from another folder, or leave `format: hub` out to read the path"
        )
    if re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    return hub.find("dataset", source.name, source.revision, "ingest").commit
