"""Functions without arguments whose name is a recipe: what ZenML's `cache_func` can look up.

`steps._sources.data_<hex>` is the digest of the data sources that the ingest section in <hex>
names, `champion_<hex>` that of the champion's data where it has others than these, `base_<hex>`
that of a base model and its template, `file_<hex>` that of a file, and `folder_<hex>` that of the
files in a folder. The key is computed where the step is about to start,
in a scheduled run long after the pipeline was compiled: a digest taken at compile time would freeze
what the run looks at.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from posttrain import roots
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.ingest import IngestRecipe
from steps._registry import find_registry


def __getattr__(name: str) -> Callable[[], str]:
    prefix, _, encoded = name.partition("_")
    if prefix not in ("data", "champion", "base", "file", "folder") or not encoded:
        raise AttributeError(name)
    values: dict[str, Any] = json.loads(bytes.fromhex(encoded))
    recipe, file = values["recipe"], values["file"]
    if prefix == "data":
        return lambda: _data(IngestRecipe.model_validate(recipe))
    if prefix == "champion":
        return lambda: _champion(IngestRecipe.model_validate(recipe), file)
    if prefix == "base":
        return lambda: _base(BaseModelRecipe.model_validate(recipe)) + _file(file)
    return lambda: _folder(file) if prefix == "folder" else _file(file)


def _data(recipe: IngestRecipe) -> str:
    from posttrain.data.sources import digest

    return digest(recipe)


def _champion(recipe: IngestRecipe, model_name: str) -> str:
    from posttrain.registry.champion import digest

    find_registry()
    return digest(model_name, _data(recipe))


def _base(recipe: BaseModelRecipe) -> str:
    from posttrain.models.source import digest

    return digest(recipe)


def _file(name: str | None) -> str:
    """One that is not there, or not to be read, is the step's to name: it knows the field."""
    try:
        file = roots.file(name or "", "recipe")
    except ValueError:
        return "absent"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _folder(name: str) -> str:
    """Names and bytes of the files in it, less what Python compiles there."""
    try:
        folder = roots.folder(name, "recipe")
    except ValueError:
        return "absent"
    files = sorted(folder.rglob("*")) if folder is not None else []
    found = {
        file.relative_to(name).as_posix(): _file(str(file))
        for file in files
        if file.suffix != ".pyc"
    }
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()
