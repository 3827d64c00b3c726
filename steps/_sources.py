"""Functions without arguments whose name is a recipe: what ZenML's `cache_func` can look up.

`steps._sources.data_<hex>` is the digest of the data sources that the ingest section in <hex>
names, `base_<hex>` that of a base model. The key is computed where the step is about to start, in a
scheduled run long after the pipeline was compiled: a digest taken at compile time would freeze
what the run looks at.
"""

from collections.abc import Callable

from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.ingest import IngestRecipe

DATA, BASE = "data_", "base_"


def __getattr__(name: str) -> Callable[[], str]:
    if name.startswith(DATA):
        return lambda: _data(IngestRecipe.model_validate_json(_json(name, DATA)))
    if name.startswith(BASE):
        return lambda: _base(BaseModelRecipe.model_validate_json(_json(name, BASE)))
    raise AttributeError(name)


def _json(name: str, prefix: str) -> bytes:
    return bytes.fromhex(name.removeprefix(prefix))


def _data(recipe: IngestRecipe) -> str:
    from posttrain.data.sources import digest

    return digest(recipe)


def _base(recipe: BaseModelRecipe) -> str:
    from posttrain.models.source import digest

    return digest(recipe)
