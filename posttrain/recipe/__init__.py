"""Everything a run can be told. Imports pydantic alone, so any image can read it."""

from typing import Any, Self

from pydantic import model_validator

from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.ingest import IngestRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.section import Section
from posttrain.recipe.self_critique import SelfCritiqueRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.validation import ValidationRecipe

SEEDED = (
    "base_model",
    "base_finetune",
    "sft",
    "reward_model",
    "ppo",
    "self_critique",
    "evaluation",
)


class Recipe(Section):
    """A whole run, stage by stage, in the order of the DAG."""

    seed: int = 0
    """Seed of every section that names none of its own."""

    ingest: IngestRecipe
    """Sources of the raw records."""

    validation: ValidationRecipe = ValidationRecipe()
    """What a row must satisfy."""

    base_model: BaseModelRecipe
    """Where everything starts."""

    template: TemplateRecipe = TemplateRecipe()
    """How a conversation becomes text."""

    tokenize: TokenizeRecipe
    """Lengths and packing."""

    base_finetune: BaseFinetuneRecipe
    """Continued pretraining."""

    sft: SftRecipe
    """Supervised fine-tuning."""

    reward_model: RewardModelRecipe | None = None
    """Score from preference pairs; the pipeline `post_training` alone uses it."""

    ppo: PpoRecipe | None = None
    """Reinforcement learning; the pipeline `post_training` alone uses it."""

    self_critique: SelfCritiqueRecipe | None = None
    """Critique and revision; the pipeline `post_training` alone uses it."""

    evaluation: EvaluationRecipe
    """What is measured."""

    registration: RegistrationRecipe
    """How the result is registered."""

    promotion: PromotionRecipe
    """When it becomes the champion."""

    @model_validator(mode="before")
    @classmethod
    def sections_inherit_the_seed(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "seed" not in data:
            return data
        seeded = {
            name: {"seed": data["seed"], **data[name]}
            for name in SEEDED
            if isinstance(data.get(name), dict)
        }
        return {**data, **seeded}

    @model_validator(mode="after")
    def responses_fit_the_context(self) -> Self:
        for name in ("reward_model", "ppo", "self_critique"):
            stage: RewardModelRecipe | PpoRecipe | SelfCritiqueRecipe | None = getattr(self, name)
            if stage is not None and stage.max_new_tokens >= self.tokenize.max_length:
                raise ValueError(
                    f"{name}.max_new_tokens ({stage.max_new_tokens}) must leave room for a prompt "
                    f"in tokenize.max_length ({self.tokenize.max_length})"
                )
        return self

    @model_validator(mode="after")
    def sequences_fit_the_positions(self) -> Self:
        sizes = self.base_model.from_config
        longest = max(self.tokenize.max_length, self.tokenize.block_size, self.evaluation.window)
        if sizes is not None and longest > sizes.max_positions:
            raise ValueError(
                f"tokenize.max_length, tokenize.block_size or evaluation.window ({longest}) "
                f"exceeds base_model.from_config.max_positions ({sizes.max_positions})"
            )
        return self

    @model_validator(mode="after")
    def the_gate_names_measured_figures(self) -> Self:
        known = {
            "perplexity_domain",
            "perplexity_answers",
            "mean_score",
            "kl_to_sft",
            "ended_share",
        }
        known |= {probe.name for probe in self.evaluation.probes}
        named = [limit.figure for limit in self.promotion.limits]
        named += [comparison.figure for comparison in self.promotion.against_champion]
        for figure in named:
            if figure.split(".")[0] not in known:
                raise ValueError(
                    f"promotion names the figure {figure!r}, which is neither built in nor a probe "
                    f"(known: {sorted(known)})"
                )
        return self

    @property
    def preflight(self) -> Preflight:
        """What must hold of the base model before any stage trains."""
        targets = {"sft": self.sft.lora.target_modules if self.sft.method == "lora" else ()}
        if self.base_finetune.method == "lora":
            targets["base_finetune"] = self.base_finetune.lora.target_modules
        return Preflight(
            target_modules=targets,
            longest_sequence=max(
                self.tokenize.max_length,
                self.tokenize.block_size if self.base_finetune.method != "none" else 1,
                self.evaluation.window,
            ),
            chat_template=self.template.chat_template,
            system=self.template.system,
            learn_prompts=self.tokenize.learn_prompts,
        )


class PostTrainingRecipe(Recipe):
    """A run with alignment: the three sections that `fine_tuning` can do without are required."""

    reward_model: RewardModelRecipe
    """Score from preference pairs."""

    ppo: PpoRecipe
    """Reinforcement learning from the score."""

    self_critique: SelfCritiqueRecipe
    """Critique and revision by a constitution."""
