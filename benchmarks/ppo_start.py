"""Where the models of the PPO benchmark lie. Light: each arm imports it, and its memory counts."""

from pathlib import Path

from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.recipe.section import Section


class Models(Section):
    """Artifacts, and the baselines' copies of them."""

    tokens: Path
    domain: Path
    assistant: Path
    reward: Path
    plain_sft: Path
    """Base with the SFT adapter merged in."""

    plain_reward: Path
    """Reward model for sequence classification; its scores are in SFT's standard deviations."""

    @property
    def artifacts(self) -> tuple[Tokens, BaseModel, Policy, RewardModel]:
        """What `ppo.train` takes."""
        return (
            Tokens(self.tokens),
            BaseModel(self.domain),
            Policy(self.assistant),
            RewardModel(self.reward),
        )
