"""The gate's rules, kept with each version: who looks at it later judges by the same."""

import pydantic
from mlflow import MlflowClient

from posttrain.recipe.promotion import PromotionRecipe
from posttrain.registry.versions import resolve

RULES = "gate_rules"
"""Tag that holds them, as JSON."""


def keep_rules(client: MlflowClient, name: str, version: int, rules: PromotionRecipe) -> None:
    """Write the rules that a version was judged by on it."""
    text = rules.model_dump_json(exclude_defaults=True)
    client.set_model_version_tag(name, str(version), RULES, text)


def kept_rules(client: MlflowClient, name: str, version: int) -> PromotionRecipe:
    """The rules that a version was judged by.

    Raises:
        ValueError: it has none, or another release of ours wrote them.
    """
    text = resolve(client, name, str(version)).tags.get(RULES)
    wanted = "name rules: `gate` of the pipeline promotion's recipe"
    if text is None:
        raise ValueError(f"{name} version {version}: no gate has judged it; {wanted}")
    try:
        return PromotionRecipe.model_validate_json(text)
    except pydantic.ValidationError as error:
        raise ValueError(
            f"{name} version {version}: its rules are of another release ({error}); {wanted}"
        ) from error
