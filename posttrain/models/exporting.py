"""Write a policy as others load it: PEFT's layout, or whole weights.

Adapters are merged in float32 and rounded once, into 16 bits or more: a 4-bit merge loses them.
Each writer gives back the logits that what it wrote must reproduce.
"""

import json
import shutil
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy, Reference
from posttrain.contract import check_trained_on
from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.models.adapters import attach_folder
from posttrain.models.exported import BASE
from posttrain.models.load import load_base, load_policy, load_weights
from posttrain.models.seal import weights_folder
from posttrain.models.tokenizer import load_tokenizer

TRIAL = [{"role": "user", "content": "Tell me in two or three words what you are, and then stop."}]


def write_peft(base: BaseModel, policy: Policy, folder: Path) -> tuple[Reference, Tensor]:
    """Write an adapter as PEFT and servers read it, its base beside it where nobody else has it.

    Returns:
        Where the base is, seen from `folder`; and the logits of base and adapter.

    Raises:
        ValueError: the policy has no adapter, or was trained on something else.
    """
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "full":
        raise ValueError(
            "full fine-tuning changed every weight, and there is no adapter to export; use "
            "--format merged"
        )
    shutil.copytree(policy.path / "adapter", folder, dirs_exist_ok=True)
    _copy_tokenizer(base, folder)
    reference = _base_for(base, folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_bytes())
    config |= {"base_model_name_or_path": reference.source, "revision": reference.revision}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return reference, trial_logits(load_policy(base, policy), load_tokenizer(base))


def write_merged(base: BaseModel, policy: Policy, folder: Path, precision: torch.dtype) -> Tensor:
    """Write whole weights that any loader of transformers' layout reads.

    Returns:
        The logits of base and adapter, unmerged, in float32.

    Raises:
        ValueError: the policy is a bottleneck adapter, or was trained on something else.
    """
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "bottleneck":
        raise ValueError(
            "a bottleneck adapter is not linear and no weights can hold it; use --format peft, "
            "which posttrain loads, or --format mlflow"
        )
    tokenizer = load_tokenizer(base)
    if facts.method == "full":
        model = load_weights(policy.path / "weights", precision=torch.float32)
        logits = trial_logits(model, tokenizer)
    else:
        adapted = attach_folder(_in_float32(base), policy.path / "adapter", "policy", False)
        logits = trial_logits(cast(PreTrainedModel, adapted.eval()), tokenizer)
        model = cast(PreTrainedModel, adapted.merge_and_unload())
    _save(model, tokenizer, folder, precision)
    _copy_tokenizer(base, folder)
    return logits


def stored_precision(base: BaseModel) -> torch.dtype:
    """What a base's weights are stored in; bfloat16 where that is any other 16 bits."""
    stored = AutoConfig.from_pretrained(str(weights_folder(base))).dtype
    return torch.float32 if stored in (None, torch.float32) else torch.bfloat16


def trial_logits(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Logits of every position of a short prompt, in float32 on the CPU."""
    ids = torch.tensor(encode_prompts(tokenizer, [TRIAL]), device=model.device)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float().cpu()


def _base_for(base: BaseModel, folder: Path) -> Reference:
    """Where an adapter's base is found; one of our own is written beside the adapter."""
    facts = base.verify().facts
    reference = facts.reference
    if facts.has_delta:
        tokenizer = load_tokenizer(base)
        _save(_in_float32(base), tokenizer, folder / BASE, stored_precision(base))
    elif reference.kind == "own":
        shutil.copytree(weights_folder(base), folder / BASE)
    elif reference.kind == "local":
        return reference.model_copy(update={"source": str(Path(reference.source).resolve())})
    else:
        return reference
    _copy_tokenizer(base, folder / BASE)
    return Reference(kind="own", source=BASE)


def _in_float32(base: BaseModel) -> PreTrainedModel:
    """The base's weights in float32, its delta merged in, whatever the device."""
    model = load_base(base, trainable=True)
    model.requires_grad_(False)
    return model


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    precision: torch.dtype,
) -> None:
    """Write weights, configuration, and how `generate` ends: where our own sampling does."""
    config = model.generation_config
    ends = end_tokens(tokenizer)
    config.eos_token_id = list(ends)
    config.pad_token_id = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    config._from_model_config = False  # else `generate` may ask the model's own configuration
    try:
        config.validate(strict=True)
    except ValueError:  # a temperature without sampling: bases are published so, and not written
        config.do_sample = True
    cast(torch.nn.Module, model).to(precision)
    model.save_pretrained(str(folder))


def _copy_tokenizer(base: BaseModel, folder: Path) -> None:
    """The tokenizer's files with the chat template, byte for byte."""
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
