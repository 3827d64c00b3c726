"""Who answers: a policy, the base that its adapter stands on, or both; and how what they say reads.

The base answers through the policy's own tokenizer and chat template.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import check_trained_on
from posttrain.data.chat import end_tokens
from posttrain.models.exported import load_exported
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
    silenced: tuple[BaseTunerLayer, ...] = ()
    """Layers whose adapter is off while this one computes a token."""

    def tokens(self, prompt: Sequence[int], sampling: Sampling) -> Generator[int]:
        """Answer one prompt, a token at a time; two voices of one model may take turns."""
        with closing(stream(self.model, prompt, sampling)) as tokens:
            while True:
                with self._alone():
                    token = next(tokens, None)
                if token is None:
                    return
                yield token

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # PEFT's own switch also sets who learns, and takes longer than a token: 40 ms for 36 blocks
        for layer in self.silenced:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in self.silenced:
                layer._disable_adapters = False


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


def of_folder(folder: Path) -> Source:
    """What `posttrain export` wrote, its weights in memory from here on.

    Raises:
        ValueError: the folder is none of ours, or has changed since it was exported.
    """
    model, tokenizer, facts = load_exported(folder)
    return Source(
        title=f"{facts.name} version {facts.version} in {folder}",
        tokenizer=tokenizer,
        max_positions=model.config.get_text_config().max_position_embeddings,
        load=lambda adapter: _exported_voices(model, folder, adapter),
    )


def _voices(base: BaseModel, policy: Policy, adapter: Adapter) -> tuple[Voice, ...]:
    if adapter == "off":
        return (Voice("base", load_base_of(base, policy)),)
    spoken = load_policy(base, policy)
    if adapter == "on":
        return (Voice("adapter", spoken),)
    if isinstance(spoken, PeftModel):
        return _both(spoken)
    return Voice("base", load_base_of(base, policy)), Voice("adapter", spoken)


def _exported_voices(
    model: PreTrainedModel | PeftModel, folder: Path, adapter: Adapter
) -> tuple[Voice, ...]:
    if adapter == "on":
        return (Voice("adapter", model),)
    if not isinstance(model, PeftModel):
        raise ValueError(
            f"{folder}: holds whole weights, and its base cannot be told apart; leave --adapter "
            f"out, or name an export of --format peft or the registered version for {adapter!r}"
        )
    return _both(model) if adapter == "both" else (Voice("base", model.unload()),)


def _both(model: PeftModel) -> tuple[Voice, ...]:
    """One model in memory for base and policy: its adapter is switched off for the one."""
    layers = tuple(layer for layer in model.modules() if isinstance(layer, BaseTunerLayer))
    return Voice("base", model, silenced=layers), Voice("adapter", model)
