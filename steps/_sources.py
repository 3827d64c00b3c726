"""Functions without arguments whose name is a recipe: what ZenML's `cache_func` can look up.

`steps._sources.digest_<hex>` is the digest of the sources that the ingest section in <hex> names.
The key is computed where the step is about to start, in a scheduled run long after the pipeline was
compiled: a digest taken at compile time would freeze the data.
"""

from collections.abc import Callable

from posttrain.recipe.ingest import IngestRecipe

PREFIX = "digest_"


def __getattr__(name: str) -> Callable[[], str]:
    if not name.startswith(PREFIX):
        raise AttributeError(name)
    recipe = IngestRecipe.model_validate_json(bytes.fromhex(name.removeprefix(PREFIX)))

    def digest_of_sources() -> str:
        from posttrain.data.sources import digest

        return digest(recipe)

    return digest_of_sources
