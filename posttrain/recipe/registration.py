"""How the result is entered in the registry."""

from pydantic import Field

from posttrain.recipe.section import Section


class RegistrationRecipe(Section):
    """The registered model and what its card says."""

    model_name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Registered model in MLflow; its base goes to `<model_name>-base`."""

    licence: str = "unknown"
    """SPDX identifier of the weights' licence, for the model card."""

    summary: str = ""
    """One paragraph for the model card: what the model is for, and what not."""

    languages: tuple[str, ...] = ()
    """ISO 639-1 codes, for the model card."""
