"""Constitutional self-critique: the model criticises and revises its own answers."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from posttrain.recipe.train import TrainRecipe


class SelfCritiqueRecipe(TrainRecipe):
    """Critique, revision and fine-tuning on the revisions (Bai et al. 2022, section 3)."""

    constitution: str
    """Path of the principles: id, principle, critique request, revision request, in YAML."""

    prompt_set: str = "revision"
    """`set` of the prompts whose answers are revised."""

    language: Literal["ko", "en"] = "ko"
    """Language of the principles and requests."""

    critic_kind: str = "critique"
    """`kind` of the held-out instructions that measure the critic's own accuracy."""

    num_samples: PositiveInt = 2
    """Answers drawn a prompt."""

    generation_batch_size: PositiveInt = 64
    """Answers, critiques or revisions written side by side; bounded by memory."""

    max_rounds: PositiveInt = 1
    """Critique-revision rounds an answer; stops when the critique finds nothing."""

    temperature: PositiveFloat = 1.0
    """Of the answers; critiques and revisions are greedy."""

    max_new_tokens: PositiveInt
    """Longest answer, critique or revision, in tokens."""

    no_fault_markers: tuple[str, ...] = Field(min_length=1)
    """A critique that contains one of these found nothing."""

    keep_faultless: bool = True
    """Learn answers in which the critic found nothing, too: without them the model is shown mended
    answers alone."""

    preamble_markers: tuple[str, ...] = ()
    """Openings that mark a revision which talks about itself; such revisions are dropped."""

    min_critic_accuracy: float = Field(0.7, ge=0, le=1)
    """Share of held-out answers that the critic must judge rightly; below it the stage stops."""

    own_answers_share: float = Field(1.0, ge=0)
    """The policy's own answers to ordinary prompts mixed in, relative to the kept samples."""

    own_answers_set: str = "rollout"
    """`set` of these ordinary prompts."""

    own_answers_kinds: tuple[str, ...] = ()
    """Kinds of these prompts; all where empty."""

    instruction_share: float = Field(1.0, ge=0)
    """SFT examples mixed in, relative to the kept samples."""

    instruction_kinds: tuple[str, ...] = ()
    """Kinds of SFT examples to mix in; all where empty."""
