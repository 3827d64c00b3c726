"""What a person is asked before a version becomes the champion."""

from pydantic import PositiveFloat, PositiveInt

from posttrain.recipe.promotion import PromotionRecipe
from posttrain.recipe.section import Section


class ApprovalRecipe(Section):
    """A run of the pipeline `promotion`."""

    model_name: str
    """Registered model."""

    version: PositiveInt | str = "challenger"
    """Version number, or alias. An alias is looked up once, when the run starts."""

    gate: PromotionRecipe | None = None
    """Rules that the version is judged by anew; where absent, those of the run that registered it.
    `automatic` is passed over: here a person decides."""

    wait_minutes: PositiveFloat = 60.0
    """How long the process waits for the answer. Then the run is paused, the process ends well, and
    an answer may still be given."""

    poll_seconds: PositiveInt = 5
    """How often the process looks for the answer."""
