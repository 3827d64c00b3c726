"""Checks across sections that cost seconds here and GPU hours later."""

import difflib
from collections.abc import Collection

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from posttrain.data.chat import encode_conversations, encode_prompts, special_ids
from posttrain.models.bottleneck import places
from posttrain.models.code import code_of_config
from posttrain.models.room import estimates, machine, shortages
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.section import Section
from posttrain.runtime import Runtime

TRIAL = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]

KINDRED = (
    frozenset({"q_proj", "k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv"}),
    frozenset({"o_proj", "out_proj", "attn.c_proj", "dense", "self_attn.o_proj"}),
    frozenset({"gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "w1", "dense_h_to_4h"}),
    frozenset({"down_proj", "mlp.c_proj", "fc2", "w2", "dense_4h_to_h"}),
)
"""Names of one and the same layer in different architectures."""


class Findings(Section):
    """What is wrong, and what may be; each a sentence that says what to change."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def check(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, preflight: Preflight
) -> None:
    """Check lengths, the chat template, the modules to adapt, and memory.

    Raises:
        ValueError: of each problem the section and field, what was found, and what to change.
    """
    memory = check_memory(config, preflight)
    for warning in memory.warnings:
        logging.get_logger(__name__).warning(warning)
    problems = [*find_problems(config, tokenizer, preflight), *memory.problems]
    if len(problems) > 1:
        listed = "".join(f"\n- {problem}" for problem in problems)
        raise ValueError(f"{len(problems)} problems:{listed}")
    if problems:
        raise ValueError(problems[0])


def find_problems(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast, preflight: Preflight
) -> list[str]:
    """What a stage would fail on, whatever the machine."""
    return [
        *length_problems(config, preflight),
        *template_problems(tokenizer, preflight.learn_prompts, preflight.system),
        *module_problems(config, preflight),
    ]


def length_problems(config: PreTrainedConfig, preflight: Preflight) -> list[str]:
    """The longest sequence of the recipe fits the base's positions."""
    positions = config.get_text_config().max_position_embeddings
    if preflight.longest_sequence <= positions:
        return []
    return [
        f"{preflight.longest_fields} asks for {preflight.longest_sequence} tokens; the base has "
        f"{positions} positions: lower it, or choose another base"
    ]


def module_problems(config: PreTrainedConfig, preflight: Preflight) -> list[str]:
    """The layers to adapt are there; names and shapes take no memory."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, **code_of_config(config))
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    problems = []
    for stage, targets in preflight.target_modules.items():
        if targets != "all-linear":
            problems += target_problems(stage, targets, linear)
    if preflight.bottleneck:
        try:
            places(model)
        except ValueError as error:
            problems.append(str(error))
    return problems


def target_problems(stage: str, targets: tuple[str, ...], layers: Collection[str]) -> list[str]:
    """Every target names at least one linear layer.

    PEFT adapts those that match and says nothing of the others.
    """
    present = sorted({name.rsplit(".", 1)[-1] for name in layers})
    return [
        f"{stage}.lora.target_modules: no layer is named {target!r}; did you mean "
        f"{_nearest(target, layers)!r}? (layers: {present})"
        for target in targets
        if not any(f".{name}".endswith(f".{target}") for name in layers)
    ]


def _nearest(target: str, layers: Collection[str]) -> str:
    """The layer that does what the target does elsewhere, else the one spelt most like it."""
    present = sorted({name.rsplit(".", 1)[-1] for name in layers})
    spelt = difflib.get_close_matches(target, present, n=1, cutoff=0.7)
    for kin in KINDRED:
        found = [
            name for name in sorted(kin) if any(f".{one}".endswith(f".{name}") for one in layers)
        ]
        if target in kin and found:
            return found[0]
    return (spelt or difflib.get_close_matches(target, present, n=1, cutoff=0.0))[0]


def template_problems(
    tokenizer: PreTrainedTokenizerFast, learn_prompts: bool, system: str | None = None
) -> list[str]:
    """The template renders, marks what the assistant says, and takes the system message."""
    if tokenizer.chat_template is None:
        return ["the base's tokenizer has no chat template; name one in template.chat_template"]
    try:
        encoded = None if learn_prompts else encode_conversations(tokenizer, [TRIAL])[0]
        prompt = encode_prompts(tokenizer, [TRIAL[:1]])[0]
    except TemplateError as error:
        if system is not None:
            return [
                f"template.system: the chat template refuses a system message ({error}); leave "
                "template.system out, or name a template that takes one in template.chat_template"
            ]
        return [f"template.chat_template: does not render a question and its answer: {error}"]
    except ValueError as error:
        return [f"{error}; or name a template that has them in template.chat_template"]
    problems = []
    if system is not None and not _is_in(system, tokenizer, prompt):
        problems.append(
            "template.system: the chat template drops the system message; leave template.system "
            "out, or name a template that renders it in template.chat_template"
        )
    if encoded is not None:
        learned = zip(encoded.input_ids, encoded.assistant_mask, strict=True)
        if not special_ids(tokenizer) & {token for token, on in learned if on}:
            problems.append(
                "the chat template's {% generation %} marks leave out the end of the assistant's "
                "turn: SFT would never learn to stop; put the end token inside the marks"
            )
    return problems


def _is_in(text: str, tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> bool:
    """Whether a text is part of what was encoded, white space aside."""
    decoded = str(tokenizer.decode(ids, skip_special_tokens=True))
    return "".join(text.split()) in "".join(decoded.split())


def check_memory(config: PreTrainedConfig, preflight: Preflight) -> Findings:
    """What does not fit this machine.

    Only what is known to the byte refuses, and only where stages surely run here: a step of its own
    on a small machine must not refuse what another will train.
    """
    available = machine(Runtime.from_environment(), config.model_type)
    try:
        stages = estimates(config, preflight.workloads, available)
    except Exception as error:  # an architecture may do what the meta device cannot
        return Findings(warnings=(f"memory: no estimate for {config.model_type}: {error}",))
    short, tight = shortages(stages, preflight.workloads, available)
    if available.is_named:
        return Findings(problems=tuple(short), warnings=tuple(tight))
    return Findings(warnings=(*short, *tight))
