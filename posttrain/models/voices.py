"""Who answers: a policy, the base that its adapter stands on, or both; and how what they say reads.

The base answers through the policy's own tokenizer and chat template.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Literal

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import check_trained_on
from posttrain.data.chat import end_tokens
from posttrain.models.generate import Sampling
from posttrain.models.load import load_base_of, load_policy
from posttrain.models.stream import stream
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.inference import InferenceRecipe

Adapter = Literal["on", "off", "both"]
"""Whether the adapter is used; `both` is the base first, then the policy."""


@dataclass(frozen=True)
class Voice:
    """One of those who answer."""

    label: Literal["base", "adapter"]
    model: PreTrainedModel | PeftModel
    silenced: PeftModel | None = None
    """The model whose adapter is off while this one computes a token."""

    def tokens(self, prompt: Sequence[int], sampling: Sampling) -> Iterator[int]:
        """Answer one prompt, a token at a time; two voices of one model may take turns."""
        with closing(stream(self.model, prompt, sampling)) as tokens:
            while True:
                with self._alone():
                    token = next(tokens, None)
                if token is None:
                    return
                yield token

    def _alone(self) -> AbstractContextManager[None]:
        return self.silenced.disable_adapter() if self.silenced is not None else nullcontext()


@dataclass(frozen=True)
class Source:
    """What a person named: its tokenizer is at hand, its weights are loaded when asked for."""

    title: str
    tokenizer: PreTrainedTokenizerFast
    max_positions: int
    load: Callable[[Adapter], tuple[Voice, ...]]

    def sampling(self, recipe: InferenceRecipe) -> Sampling:
        """The recipe's draws, with the end tokens of the template."""
        ends = end_tokens(self.tokenizer)
        return Sampling(
            max_new_tokens=recipe.max_new_tokens,
            temperature=recipe.temperature,
            end_ids=ends,
            pad_id=ends[0],  # masked by length: any id may pad
            batch_size=recipe.batch_size,
            seed=recipe.seed,
        )


def of_artifacts(base: BaseModel, policy: Policy, title: str) -> Source:
    """A policy on its base, as steps hand them over or the registry gives them back.

    Raises:
        ValueError: the policy was trained on another base, tokenizer or template.
    """
    check_trained_on(policy.facts.trained_on, base, policy.path)
    return Source(
        title=title,
        tokenizer=load_tokenizer(base),
        max_positions=base.facts.max_positions,
        load=lambda adapter: _voices(base, policy, adapter),
    )


def _voices(base: BaseModel, policy: Policy, adapter: Adapter) -> tuple[Voice, ...]:
    if adapter == "off":
        return (Voice("base", load_base_of(base, policy)),)
    return with_base(load_policy(base, policy), lambda: load_base_of(base, policy), adapter)


def with_base(
    policy: PreTrainedModel | PeftModel, base: Callable[[], PreTrainedModel], adapter: Adapter
) -> tuple[Voice, ...]:
    """The policy's voice, and before it its base's where both are wanted.

    One model serves as both where the adapter can be switched off.
    """
    spoken = Voice("adapter", policy)
    if adapter == "on":
        return (spoken,)
    if isinstance(policy, PeftModel):
        return Voice("base", policy, silenced=policy), spoken
    return Voice("base", base()), spoken
