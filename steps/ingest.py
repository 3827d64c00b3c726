"""Raw records into canonical Parquet."""

from typing import Annotated

from zenml import step

from posttrain.artifacts import Records
from posttrain.recipe.ingest import IngestRecipe
from steps._caching import depends_on


@step(cache_policy=depends_on("posttrain.data.ingest"))
def ingest(recipe: IngestRecipe) -> Annotated[Records, "raw_records"]:
    """Read every role's source into canonical columns."""
    from posttrain.cost import measured
    from posttrain.data.ingest import ingest

    return measured(ingest, recipe)
