"""What must hold across sections before a stage trains; derived, not written in the recipe."""

from typing import Literal

from pydantic import PositiveInt

from posttrain.recipe.section import Section
from posttrain.recipe.workload import Workload


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
