"""What a base model's source stands for right now, for the cache key.

Loads no weight and no library of models: a run that finds everything in the cache needs neither.
"""

import re

from mlflow import MlflowClient

from posttrain import hub, roots
from posttrain.hashes import sha256_of
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.registry.versions import resolve

COMMIT = re.compile(r"[0-9a-f]{40}")

PREFIX = "registry:"


def split(source: str) -> tuple[str, str]:
    """Model name, and alias or version number, of a `registry:` source.

    Raises:
        ValueError: it names no alias or version.
    """
    name, _, version = source.removeprefix(PREFIX).partition("@")
    if not name or not version:
        raise ValueError(
            f"base_model.source: {source}: write registry:NAME@ALIAS or registry:NAME@VERSION, "
            "as in registry:ferry-guide@champion"
        )
    return name, version


def digest(recipe: BaseModelRecipe) -> str:
    """SHA-256 over what the source resolves to: commit, registered content, or files.

    A local folder counts by names, sizes and times of change: hashing its bytes would read every
    weight on every run.
    """
    source = recipe.source
    if source == "from_config":
        return sha256_of(source)
    if source.startswith(PREFIX):
        version = resolve(MlflowClient(), *split(source))
        return sha256_of([source, version.tags.get("content_hash", version.version)])
    if (folder := roots.folder(source, "base_model.source")) is not None:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        return sha256_of([(str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
    if COMMIT.fullmatch(recipe.revision):
        return sha256_of([source, recipe.revision])
    found = hub.find("model", source, recipe.revision, "base_model.source")
    return sha256_of([source, found.commit])
