"""The common parent of all recipe sections and of all small results."""

import pydantic

REQUIRED = "REQUIRED"
"""What a recipe file writes where only its user can: a run with it is refused."""


class Section(pydantic.BaseModel):
    """One block of the recipe: immutable, and intolerant of keys it does not know."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )
