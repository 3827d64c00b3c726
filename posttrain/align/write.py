"""How a stage of alignment hands its policy over."""

from pathlib import Path

from peft import PeftModel

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import trained_on
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import count_adapted, method_of, save_adapter
from posttrain.models.quantize import quantization_of
from posttrain.recipe.section import Section


def write_policy(
    folder: Path,
    stage: str,
    domain: BaseModel,
    model: PeftModel,
    adapter: str,
    recipe: Section,
    figures: dict[str, float],
    warnings: tuple[str, ...] = (),
) -> Policy:
    """Write one adapter of several on a base, with what it was trained on and by."""
    save_adapter(model, adapter, folder / "adapter")
    num_modules, num_trainable = count_adapted(model, adapter)
    facts = PolicyFacts(
        trained_on=trained_on(domain),
        method=method_of(model, adapter),
        quantization=quantization_of(model),
        num_trainable=num_trainable,
        num_adapted_modules=num_modules,
        recipe=recipe.model_dump(),
        figures=figures,
        warnings=warnings,
    )
    return Policy.write(folder, stage, facts)
