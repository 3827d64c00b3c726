"""Which versions were fed by data that must be withdrawn: from a hash to versions.

A version is fed directly, or through a base that was made from a fed version. Every version of
every registered model is looked at. Those whose record can't be read are named, never passed over,
and so are those that stand on such a one, or on one that was deleted or is another by now.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from posttrain.facts import RegisteredBase
from posttrain.recipe.section import Section
from posttrain.registry.lineage import aliases, origins
from posttrain.registry.versions import CHAMPION, read_evaluation

SHORTEST = 8
"""Characters that a hash is named by at least."""

FULL = (40, 64)
"""Characters of a commit and of a SHA-256: nothing can follow."""

PAGE = 1000

_HASH = re.compile(r"[0-9a-f]+")


class Hit(Section):
    """Where a version's record names the hash."""

    kind: str
    """`file`: bytes of a source file; `rows`: a role's validated rows; `commit`: of a data set."""

    role: str
    where: str
    """The file, the source, or the role's rows in words."""


class Fed(Section):
    """A version that saw the data."""

    name: str
    version: int
    aliases: tuple[str, ...]
    hits: tuple[Hit, ...]
    """In its own run; empty where only its base saw it."""

    through: tuple[str, ...]
    """Versions that its base was made from, the nearest first, to the one whose run read it."""


class Withdrawal(Section):
    """What a hash fed."""

    sha: str
    """In full, where any record has it."""

    versions: tuple[Fed, ...]
    unread: tuple[str, ...]
    """Versions of which nobody can tell, with their aliases.

    Their record lacks its sources, or that of a version they stand on does, or is gone.
    """

    champions: tuple[str, ...]
    """Fed versions that are champion now."""

    unread_champions: tuple[str, ...]


@dataclass(frozen=True)
class _Record:
    """What one version's record says."""

    version: ModelVersion
    aliases: tuple[str, ...]
    hits: dict[str, tuple[Hit, ...]]
    """Hash -> where it stands."""

    base: RegisteredBase | None
    is_whole: bool

    @property
    def key(self) -> tuple[str, int]:
        return self.version.name, int(self.version.version)

    @property
    def content_hash(self) -> str | None:
        return self.version.tags.get("content_hash")

    @property
    def label(self) -> str:
        return f"{self.version.name} version {self.version.version}"


def withdrawal(client: MlflowClient, sha: str) -> Withdrawal:
    """Every version that the data of this hash fed, with its aliases now.

    Args:
        client: of the registry.
        sha: SHA-256 of a source file or of a role's validated rows, or a data set's commit; the
            first characters do where they name one.

    Raises:
        ValueError: it is no hash, too short, fits several, or its beginning fits none.
    """
    sha = sha.lower()
    if not _HASH.fullmatch(sha) or len(sha) < SHORTEST:
        raise ValueError(f"{sha}: a hash of at least {SHORTEST} characters 0-9 and a-f is wanted")
    records = {record.key: record for record in _records(client)}
    full = _in_full(sha, records)
    fed, unread = [], []
    for record in records.values():
        below, is_whole = _stands_on(record, records)
        found = _fed(record, below, full)
        if found is not None:
            fed.append(found)
        elif not is_whole:
            unread.append(record)
    return Withdrawal(
        sha=full,
        versions=tuple(fed),
        unread=tuple(_with_aliases(record) for record in unread),
        champions=tuple(f"{f.name} version {f.version}" for f in fed if CHAMPION in f.aliases),
        unread_champions=tuple(record.label for record in unread if CHAMPION in record.aliases),
    )


def _records(client: MlflowClient) -> Iterator[_Record]:
    for model in _all(client):
        named = aliases(client, model)
        for version in _versions(client, model):
            if "base_version" not in version.tags:  # a base, a line of the history, another's model
                continue
            evaluation = read_evaluation(client, version)
            hits: dict[str, tuple[Hit, ...]] = {}
            found = origins(version, evaluation)
            for role, origin in found.items():
                for kind, sha, where in (
                    *(("file", sha, file) for file, sha in origin.files.items()),
                    ("rows", origin.rows, f"validated rows of {role}"),
                    ("commit", origin.revision, origin.source or ""),
                ):
                    if sha:
                        hits[sha] = (*hits.get(sha, ()), Hit(kind=kind, role=role, where=where))
            whole = bool(found) and all(o.files or o.revision for o in found.values())
            base = evaluation.base_version if evaluation is not None else None
            yield _Record(version, named.get(int(version.version), ()), hits, base, whole)


def _all(client: MlflowClient) -> Iterator[str]:
    token = None
    while True:
        page = client.search_registered_models(max_results=PAGE, page_token=token)
        yield from (model.name for model in page)
        token = page.token
        if not token:
            return


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(f"name='{name}'", max_results=PAGE, page_token=token)
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _in_full(sha: str, records: dict[tuple[str, int], _Record]) -> str:
    """The one recorded hash that begins so; `sha` itself where it is whole and nobody has it."""
    found: dict[str, Hit] = {}
    for record in records.values():
        for whole, hits in record.hits.items():
            if whole.startswith(sha):
                found.setdefault(whole, hits[0])
    if sha in found:
        return sha
    if len(found) > 1:
        named = "; ".join(f"{whole} ({hit.kind} {hit.where})" for whole, hit in found.items())
        raise ValueError(f"{sha} fits {len(found)} hashes, name more of one: {named}")
    if not found and len(sha) not in FULL:
        raise ValueError(
            f"{sha}: no version's record has a hash that begins so; give all 64 characters to know "
            "that it fed none"
        )
    return next(iter(found), sha)


def _stands_on(
    record: _Record, records: dict[tuple[str, int], _Record]
) -> tuple[list[_Record], bool]:
    """The versions that a base was made from, the nearest first; whether all is known of them."""
    below: list[_Record] = []
    at, is_whole, seen = record, record.is_whole, {record.key}
    while at.base is not None:
        found = records.get((at.base.name, at.base.version))
        if found is None or found.key in seen or found.content_hash != at.base.content_hash:
            return below, False  # deleted, or deleted and its number given to another
        below.append(found)
        seen.add(found.key)
        at, is_whole = found, is_whole and found.is_whole
    return below, is_whole


def _fed(record: _Record, below: list[_Record], sha: str) -> Fed | None:
    """How a version saw the data, or None."""
    chain = [record, *below]
    reader = next((place for place, one in enumerate(chain) if sha in one.hits), None)
    if reader is None:
        return None
    name, version = record.key
    return Fed(
        name=name,
        version=version,
        aliases=record.aliases,
        hits=record.hits.get(sha, ()),
        through=tuple(one.label for one in chain[1 : reader + 1]),
    )


def _with_aliases(record: _Record) -> str:
    return f"{record.label} ({', '.join(record.aliases)})" if record.aliases else record.label
