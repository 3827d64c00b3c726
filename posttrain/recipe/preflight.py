"""What must hold across sections before a stage trains; derived, not written in the recipe."""

from typing import TYPE_CHECKING, Literal

from pydantic import PositiveInt

from posttrain.recipe.section import Section
from posttrain.recipe.workload import Workload, workloads

if TYPE_CHECKING:
    from posttrain.recipe import Recipe


class Preflight(Section):
    """Checked by `base_model`, so that a mistake costs seconds and not GPU hours."""

    target_modules: dict[str, Literal["all-linear"] | tuple[str, ...]]
    """Stage -> names of layers to adapt."""

    bottleneck: tuple[str, ...] = ()
    """Stages that train bottleneck adapters."""

    longest_sequence: PositiveInt
    """Longest sequence that any stage will run, in tokens."""

    longest_fields: str
    """Fields of the recipe that ask for it."""

    chat_template: str | None
    """Path of the recipe's template, if it has one."""

    system: str | None
    """The recipe's system message, which becomes part of the template."""

    learn_prompts: bool
    """Whether SFT needs no `{% generation %}` marks."""

    workloads: tuple[Workload, ...] = ()
    """What each stage holds in memory."""


def preflight_of(recipe: "Recipe") -> Preflight:
    """What a run by this recipe asks of its base."""
    fields, longest = recipe.longest_sequence
    with_lora = recipe.sft.method in ("lora", "qlora", "dora")
    targets = {"sft": recipe.sft.lora.target_modules if with_lora else ()}
    if recipe.base_finetune.method == "lora":
        targets["base_finetune"] = recipe.base_finetune.lora.target_modules
    return Preflight(
        target_modules=targets,
        bottleneck=("sft",) if recipe.sft.method == "bottleneck" else (),
        longest_sequence=longest,
        longest_fields=fields,
        chat_template=recipe.template.chat_template,
        system=recipe.template.system,
        learn_prompts=recipe.tokenize.learn_prompts,
        workloads=workloads(recipe, with_alignment=recipe.aligns),
    )
