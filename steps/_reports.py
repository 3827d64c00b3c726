"""Store small results and HTML pages with their SHA-256: ZenML compares no hash on loading."""

import hashlib
from typing import Any, ClassVar

from zenml.materializers.base_materializer import BaseMaterializer
from zenml.materializers.materializer_registry import materializer_registry
from zenml.materializers.pydantic_materializer import PydanticMaterializer
from zenml.materializers.structured_string_materializer import StructuredStringMaterializer
from zenml.types import HTMLString

from posttrain.recipe.section import Section

SUMS = "SHA256SUMS"
"""As `sha256sum --check` reads it."""


class Sealed(BaseMaterializer):
    """Writes hashes beside what is saved, and compares them before it is loaded."""

    SKIP_REGISTRATION: ClassVar[bool] = True

    def save(self, data: Any) -> None:
        """Write the files and their hashes."""
        super().save(data)
        _seal(self)

    def load(self, data_type: type[Any]) -> Any:
        """What was saved.

        Raises:
            ValueError: a file was changed since, or is missing.
        """
        _check(self)
        return super().load(data_type)


class ReportMaterializer(Sealed, PydanticMaterializer):
    """A small model of ours as JSON."""

    ASSOCIATED_TYPES: ClassVar[tuple[type[Any], ...]] = (Section,)


class PageMaterializer(Sealed, StructuredStringMaterializer):
    """An HTML page, as the dashboard shows it."""


# ZenML has one of its own for pages, and keeps whichever came first
materializer_registry.register_and_overwrite_type(HTMLString, PageMaterializer)


def _seal(artifact: BaseMaterializer) -> None:
    with artifact.artifact_store.open(f"{artifact.uri}/{SUMS}", "w") as stream:
        stream.write(_text(_hashes(artifact)))


def _text(hashes: dict[str, str]) -> str:
    return "".join(f"{sha}  {name}\n" for name, sha in hashes.items())


def _check(artifact: BaseMaterializer) -> None:
    found = _hashes(artifact)
    try:
        with artifact.artifact_store.open(f"{artifact.uri}/{SUMS}", "r") as stream:
            text = stream.read()
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise ValueError(f"{artifact.uri}/{SUMS}: {error}; run the step again") from error
    expected = {name: sha for sha, _, name in (line.partition("  ") for line in text.splitlines())}
    names = sorted(expected.keys() | found.keys())
    bad = [name for name in names if expected.get(name) != found.get(name)]
    if bad or text != _text(found):  # a line's end cut off is a change too
        raise ValueError(f"{artifact.uri}: differs from {SUMS} in {bad}; run the step again")


def _hashes(artifact: BaseMaterializer) -> dict[str, str]:
    store = artifact.artifact_store
    hashes = {}
    for listed in sorted(map(str, store.listdir(artifact.uri))):
        name = listed.rstrip("/").rpartition("/")[2]  # some stores list whole paths
        if name != SUMS and not store.isdir(f"{artifact.uri}/{name}"):
            with store.open(f"{artifact.uri}/{name}", "rb") as stream:
                hashes[name] = hashlib.sha256(stream.read()).hexdigest()
    return hashes
