"""Checks across sections that cost seconds here and GPU hours later."""

import difflib

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D

from posttrain.data.chat import encode_conversations, special_ids
from posttrain.models.bottleneck import places
from posttrain.recipe.preflight import Preflight

TRIAL = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]


def check(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, preflight: Preflight
) -> None:
    """Check lengths, the chat template and the modules to adapt.

    Raises:
        ValueError: names the section and field, what was found, and what to change.
    """
    if preflight.longest_sequence > config.max_position_embeddings:
        raise ValueError(
            f"{preflight.longest_fields} asks for {preflight.longest_sequence} tokens; the base "
            f"has {config.max_position_embeddings} positions: lower it, or choose another base"
        )
    check_template(tokenizer, preflight.learn_prompts)
    with torch.device("meta"):  # names and shapes, no memory
        model = AutoModelForCausalLM.from_config(config)
    linear = [
        name.rsplit(".", 1)[-1]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    ]
    for stage, targets in preflight.target_modules.items():
        if targets != "all-linear":
            check_targets(stage, targets, set(linear))
    if preflight.bottleneck:
        places(model)


def check_targets(stage: str, targets: tuple[str, ...], present: set[str]) -> None:
    """Every target names at least one linear layer.

    PEFT adapts those that match and says nothing of the others.
    """
    for target in targets:
        if target not in present:
            near = difflib.get_close_matches(target, sorted(present), n=1, cutoff=0.0)
            raise ValueError(
                f"{stage}.lora.target_modules: no layer is named {target!r}; did you mean "
                f"{near[0]!r}? (layers: {sorted(present)})"
            )


def check_template(tokenizer: PreTrainedTokenizerFast, learn_prompts: bool) -> None:
    """The template renders, and marks what the assistant says, its end token included."""
    if tokenizer.chat_template is None:
        raise ValueError(
            "the base's tokenizer has no chat template; name one in template.chat_template"
        )
    encoded = encode_conversations(tokenizer, [TRIAL])[0] if not learn_prompts else None
    if encoded is None:
        return
    learned = [
        token for token, on in zip(encoded.input_ids, encoded.assistant_mask, strict=True) if on
    ]
    ends = special_ids(tokenizer).intersection(learned)
    if not learned or not ends:
        raise ValueError(
            "the chat template's {% generation %} marks leave out the end of the assistant's turn: "
            "SFT would never learn to stop; put the end token inside the marks"
        )
