"""Everything a run can be told. Imports pydantic alone, so any image can read it."""

from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from posttrain.hiding import check_addresses
from posttrain.recipe.answering import Answering
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.recipe.base_model import BaseModelRecipe
from posttrain.recipe.dpo import DpoRecipe
from posttrain.recipe.evaluation import EvaluationRecipe
from posttrain.recipe.figures import Measuring, check_figures
from posttrain.recipe.ingest import IngestRecipe
from posttrain.recipe.ppo import PpoRecipe
from posttrain.recipe.preflight import Preflight, preflight_of
from posttrain.recipe.promotion import PromotionRecipe
from posttrain.recipe.registration import RegistrationRecipe
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.rlaif import RlaifRecipe
from posttrain.recipe.section import REQUIRED, Section
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
    "dpo",
    "self_critique",
    "rlaif",
    "evaluation",
)


class Recipe(Section):
    """A whole run, stage by stage, in the order of the DAG."""

    aligns: ClassVar[bool] = False
    """Whether the pipeline that takes it has the stages of alignment."""

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

    dpo: DpoRecipe | None = None
    """The alternative to PPO; the pipeline `post_training` alone uses it."""

    preference_method: Literal["ppo", "dpo"] = "ppo"
    """Which of the two makes the policy; the section of the other may stand beside it, unused."""

    self_critique: SelfCritiqueRecipe | None = None
    """Critique and revision; the pipeline `post_training` alone uses it."""

    rlaif: RlaifRecipe | None = None
    """AI preferences and a second round of PPO; the pipeline `post_training` alone uses it."""

    evaluation: EvaluationRecipe
    """What is measured."""

    registration: RegistrationRecipe
    """How the result is registered."""

    promotion: PromotionRecipe
    """When it becomes the champion."""

    @model_validator(mode="before")
    @classmethod
    def addresses_hold_no_passwords(cls, given: Any) -> Any:
        """ZenML and MLflow keep a recipe's values for good, and show them."""
        check_addresses(given, "recipe")
        return given

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
    def everything_is_filled_in(self) -> Self:
        for name, model in self:
            for field, value in model if isinstance(model, Section) else ():
                if isinstance(value, str) and REQUIRED in value.split("@")[0].split(":"):
                    about = " ".join((type(model).model_fields[field].description or "").split())
                    raise ValueError(
                        f"{name}.{field} is {value!r}: it has no value until you write one. "
                        f"What it is: {about}"
                    )
        return self

    @model_validator(mode="after")
    def responses_fit_the_context(self) -> Self:
        for name, stage in self._aligning.items():
            if stage.max_new_tokens >= self.tokenize.max_length:
                raise ValueError(
                    f"{name}.max_new_tokens ({stage.max_new_tokens}) must leave room for a prompt "
                    f"in tokenize.max_length ({self.tokenize.max_length})"
                )
        return self

    @model_validator(mode="after")
    def sequences_fit_the_positions(self) -> Self:
        sizes = self.base_model.from_config
        fields, longest = self.longest_sequence
        if sizes is not None and longest > sizes.max_positions:
            raise ValueError(
                f"{fields} ({longest}) exceeds base_model.from_config.max_positions "
                f"({sizes.max_positions}); lower the one or raise the other"
            )
        return self

    @model_validator(mode="after")
    def stages_have_their_data(self) -> Self:
        if self.base_finetune.method != "none":
            self._require("corpus", f"base_finetune.method is {self.base_finetune.method!r}")
        if self.base_model.from_config is not None:
            self._require("corpus", "base_model.from_config trains a tokenizer")
        if self.evaluation.probes:
            self._require("probes", f"evaluation.probes names {len(self.evaluation.probes)}")
        return self

    @model_validator(mode="after")
    def the_gate_names_measured_figures(self) -> Self:
        measuring = Measuring(
            stages=self.reported_stages,
            roles=frozenset(role for role, source in self.ingest if source is not None),
            aligns=self.aligns,
            has_second_round=self.aligns and self.has_second_round,
            evaluation=self.evaluation,
        )
        check_figures(self.promotion, measuring)
        return self

    def _require(self, role: str, why: str) -> None:
        if getattr(self.ingest, role) is None:
            raise ValueError(f"ingest.{role} is absent, and {why}; name a source for it")

    @property
    def _aligning(self) -> dict[str, RewardModelRecipe | Answering | SelfCritiqueRecipe]:
        """The sections of alignment that a run answers prompts by."""
        found = {
            "reward_model": self.reward_model,
            self.preference_method: self.answering,
            "self_critique": self.self_critique,
        }
        return {name: section for name, section in found.items() if section is not None}

    @property
    def answering(self) -> PpoRecipe | DpoRecipe | None:
        """The section of the method that makes the policy."""
        return self.ppo if self.preference_method == "ppo" else self.dpo

    @property
    def has_second_round(self) -> bool:
        """Whether RLAIF follows self-critique."""
        return self.rlaif is not None and self.rlaif.enabled

    @property
    def reported_stages(self) -> tuple[str, ...]:
        """The models that evaluation measures, in the order of training."""
        trained = () if self.base_finetune.method == "none" else ("base_finetune",)
        found = ("untrained", *trained, "sft")
        if not self.aligns:
            return found
        second = ("rlaif",) if self.has_second_round else ()
        return (*found, self.preference_method, "self_critique", *second)

    @property
    def longest_sequence(self) -> tuple[str, int]:
        """The fields that ask for the longest sequence, and its length in tokens."""
        probed = {"evaluation": self.evaluation} if self.evaluation.probes else {}
        generating = {**probed, **self._aligning}
        longest = self.tokenize.max_length  # of a conversation, and all but one token of a prompt
        lengths = {"tokenize.max_length": longest, "evaluation.window": self.evaluation.window}
        harness = self.evaluation.harness
        if harness is not None and harness.max_length is not None:
            lengths["evaluation.harness.max_length"] = harness.max_length
        lengths |= {
            f"tokenize.max_length + {name}.max_new_tokens": longest + section.max_new_tokens
            for name, section in generating.items()
        }
        if self.base_finetune.method != "none":
            lengths["tokenize.block_size"] = self.tokenize.block_size
        return max(lengths.items(), key=lambda item: item[1])

    @property
    def preflight(self) -> Preflight:
        """What must hold of the base model before any stage trains.

        Raises:
            ValueError: SFT has no data. A recipe may be written without, but not run.
        """
        self._require("instructions", "sft trains on it")
        return preflight_of(self)


class PostTrainingRecipe(Recipe):
    """A run with alignment: what `fine_tuning` can do without is required."""

    aligns: ClassVar[bool] = True

    reward_model: RewardModelRecipe
    """Score from preference pairs."""

    self_critique: SelfCritiqueRecipe
    """Critique and revision by a constitution."""

    @model_validator(mode="after")
    def the_chosen_method_has_its_section(self) -> Self:
        if self.answering is None:
            raise ValueError(
                f"{self.preference_method} is absent, and preference_method is "
                f"{self.preference_method!r}; add the section or choose the other method"
            )
        return self

    @model_validator(mode="after")
    def a_second_round_is_of_ppo(self) -> Self:
        if self.has_second_round and self.preference_method != "ppo":
            raise ValueError(
                "rlaif.enabled is true and preference_method is 'dpo': the second round is PPO on "
                "the AI's preferences; set preference_method to 'ppo', or rlaif.enabled to false"
            )
        return self

    @model_validator(mode="after")
    def alignment_trains_adapters(self) -> Self:
        if self.sft.method == "full":
            raise ValueError(
                "sft.method is 'full'; set it to 'lora', 'qlora', 'dora' or 'bottleneck': the "
                "stages of alignment are adapters on one base, and of full models PPO would hold "
                "four copies (the pipeline fine_tuning takes 'full')"
            )
        return self

    @model_validator(mode="after")
    def a_reward_model_of_its_own_has_sft_merged_in_and_lends_no_adapter(self) -> Self:
        if self.reward_model.method != "full":
            return self
        if self.sft.method == "bottleneck":
            raise ValueError(
                "reward_model.method is 'full' and sft.method is 'bottleneck', which cannot be "
                "merged into weights; set reward_model.method to 'adapter', or sft.method to 'lora'"
            )
        if isinstance(self.answering, PpoRecipe) and self.answering.value_init != "sft":
            raise ValueError(
                "ppo.value_init is 'reward_model' and reward_model.method is 'full', which makes "
                "no adapter to start from; set ppo.value_init to 'sft'"
            )
        return self

    @model_validator(mode="after")
    def alignment_has_its_data(self) -> Self:
        self._require("preferences", "reward_model trains on it")
        self._require("prompts", f"{self.preference_method} and self_critique answer them")
        return self
