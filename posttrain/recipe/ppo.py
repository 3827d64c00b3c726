"""PPO: the policy learns from the reward model's scores."""

from typing import Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from posttrain.recipe.answering import Answering
from posttrain.recipe.section import Section

Action = Literal["stop", "warn", "ignore"]


class PpoHealth(Section):
    """Signs that the score rises for the wrong reason, and what is done about each.

    `stop` ends the stage with an error and its last good checkpoint, `warn` says so in the report.
    A NaN or an exploding KL (`ppo.max_kl`) stops the stage whatever stands here.
    """

    patience: PositiveInt = 2
    """Iterations in a row that must show a sign before anything is done."""

    entropy_collapse: Action = "warn"
    """The policy has stopped exploring."""

    min_entropy_share: float = Field(0.1, ge=0, lt=1)
    """Share of the first rollout's entropy below which it has collapsed."""

    length_alone: Action = "warn"
    """The score rises, and length explains the rise."""

    max_length_share: PositiveFloat = 0.9
    """Share of the rise that SFT's own slope of score on length explains, above which length alone
    did the work; looked at once the score has risen by half a standard deviation."""

    repetition: Action = "warn"
    """Answers say the same again and again."""

    max_repeated_share: float = Field(0.5, gt=0, le=1)
    """Share of an answer's token pairs that it has used before, above which it repeats itself."""


class PpoRecipe(Answering):
    """Proximal policy optimisation (Schulman et al. 2017; Ziegler et al. 2019)."""

    num_iterations: PositiveInt
    """Rollout batches at most."""

    batch_size: PositiveInt
    """Prompts a rollout."""

    forward_batch_size: PositiveInt = 16
    """Sequences a forward pass, of like lengths; gradients of a minibatch accumulate over them."""

    num_epochs: PositiveInt = 2
    """Passes over each rollout."""

    num_minibatches: PositiveInt = 2
    """Optimizer steps a pass, of policy and of value function."""

    learning_rate: PositiveFloat
    """Peak learning rate of policy and value function."""

    final_lr_share: float = Field(0.2, ge=0, le=1)
    """Share of the learning rate that is left at the last iteration; annealed linearly."""

    warmup_iterations: PositiveInt = 2
    """Iterations over which the learning rate rises."""

    kl_coef: NonNegativeFloat = 0.05
    """Initial weight of the per-token KL penalty against the SFT policy."""

    target_kl: PositiveFloat | None = None
    """KL an answer, in nats, that the adaptive coefficient steers towards; fixed where absent."""

    kl_horizon: PositiveInt = 1_000
    """Samples over which the adaptive coefficient adjusts (Ziegler et al. 2019, section 2.2)."""

    max_kl: PositiveFloat = 20.0
    """KL an answer, in nats, above which the stage stops with an error."""

    max_minibatch_kl: PositiveFloat = 0.5
    """KL a token from the rollout's policy at which a batch's remaining updates are skipped."""

    clip_range: PositiveFloat = 0.2
    """Policy ratio's clip."""

    value_clip_range: PositiveFloat = 0.3
    """Value's clip, in units of the normalised reward."""

    gamma: float = Field(1.0, gt=0, le=1)
    """Discount a token."""

    gae_lambda: float = Field(0.95, ge=0, le=1)
    """GAE's lambda (Schulman et al. 2016)."""

    missing_end_score: float = -2.0
    """Normalised score of a response without an end token."""

    reward_clip: PositiveFloat = 5.0
    """Normalised scores are clipped to this magnitude."""

    value_init: Literal["reward_model", "sft"] = "reward_model"
    """What the value function starts from: the reward model's adapter and head, or SFT's adapter
    with a zero head (where `reward_model.method` is `full`, this alone)."""

    beta2: float = Field(0.95, gt=0, lt=1)
    """Adam's second-moment decay."""

    adam_epsilon: PositiveFloat = 1e-5
    """Adam's epsilon (Huang et al. 2022, detail 3)."""

    max_grad_norm: PositiveFloat = 1.0
    """Gradient norm above which gradients are scaled down."""

    checkpoint_every_iterations: PositiveInt = 1
    """Iterations between two checkpoints; what lies between two is done again after a kill."""

    max_bad_steps: NonNegativeInt = 0
    """Steps of policy and value function with a NaN or infinite loss or gradient that are left out
    before the stage stops."""

    health: PpoHealth = PpoHealth()
    """Signs of a score that rises for the wrong reason."""

    stop_at_gain: PositiveFloat | None = None
    """Stop when the mean score of two iterations is this many standard deviations above SFT's."""

    prompt_set: str = "rollout"
    """`set` of the prompts to answer."""

    num_held_out: PositiveInt = 150
    """Prompts of either set that SFT answers first: its scores on rollout prompts normalise the
    reward, those on held-out prompts are what the gain is measured against."""

    @model_validator(mode="after")
    def every_minibatch_has_a_prompt(self) -> Self:
        if self.num_minibatches > self.batch_size:
            raise ValueError(
                f"ppo.num_minibatches ({self.num_minibatches}) exceeds ppo.batch_size "
                f"({self.batch_size}): a minibatch would be empty"
            )
        return self

    @model_validator(mode="after")
    def the_gain_is_measured_on_prompts_never_rolled_out(self) -> Self:
        if self.held_out_set == self.prompt_set:
            raise ValueError(f"ppo.held_out_set and ppo.prompt_set are both {self.prompt_set!r}")
        return self
