"""Write a policy as others load it: PEFT's layout, or whole weights.

Adapters are merged in float32 and rounded once, into 16 bits or more: a 4-bit merge loses them.
Each writer gives back the logits that what it wrote must reproduce.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel, Policy
from posttrain.contract import check_trained_on
from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.facts import Reference
from posttrain.models.adapters import attach_folder
from posttrain.models.code import code_of
from posttrain.models.exported import BASE, ExportedFacts, weights_of_base, write_facts
from posttrain.models.load import load_base, load_policy, load_weights
from posttrain.models.seal import fingerprint_in, weights_folder
from posttrain.models.tokenizer import load_tokenizer

TRIAL = [{"role": "user", "content": "Tell me in two or three words what you are, and then stop."}]


@dataclass(frozen=True)
class Version:
    """A registered version to be written."""

    name: str
    number: int
    base: BaseModel
    policy: Policy


def write_peft(version: Version, folder: Path) -> tuple[ExportedFacts, Tensor]:
    """Write an adapter as PEFT and servers read it, its base beside it where nobody else has it.

    Returns:
        What the folder says of itself, and the logits of base and adapter.

    Raises:
        ValueError: the policy has no adapter, or was trained on something else.
    """
    base, policy = version.base, version.policy
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "full":
        raise ValueError(
            "full fine-tuning changed every weight, and there is no adapter to export; use "
            "--format merged"
        )
    shutil.copytree(policy.path / "adapter", folder)
    _copy_tokenizer(base, folder)
    reference = _base_for(base, folder)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_bytes())
    config |= {"base_model_name_or_path": reference.source, "revision": reference.revision}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    weights = weights_of_base(reference, folder)
    written = _facts(version, "peft").model_copy(
        update={
            "quantization": facts.quantization,
            "base": reference,
            "base_fingerprint": fingerprint_in(weights, reference, base.facts.tokenizer_hash),
        }
    )
    logits = trial_logits(load_policy(base, policy), load_tokenizer(base))
    return write_facts(folder, written), logits


def write_merged(
    version: Version, folder: Path, precision: torch.dtype
) -> tuple[ExportedFacts, Tensor]:
    """Write whole weights that any loader of transformers' layout reads.

    Returns:
        What the folder says of itself, and the logits of base and adapter, unmerged, in float32.

    Raises:
        ValueError: the policy is a bottleneck adapter, or was trained on something else.
    """
    base, policy = version.base, version.policy
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method == "bottleneck":
        raise ValueError(
            "a bottleneck adapter is not linear and no weights can hold it; use --format peft, "
            "which posttrain loads, or --format mlflow"
        )
    tokenizer = load_tokenizer(base)
    if facts.method == "full":
        model = _exact(load_weights(policy.path / "weights", precision=torch.float32))
        logits = trial_logits(model, tokenizer)
    else:
        adapted = attach_folder(_in_float32(base), policy.path / "adapter", "policy", False)
        logits = trial_logits(cast(PreTrainedModel, adapted.eval()), tokenizer)
        model = cast(PreTrainedModel, adapted.merge_and_unload())
    _save(model, tokenizer, folder, precision)
    _copy_tokenizer(base, folder)
    return write_facts(folder, _facts(version, "merged")), logits


def stored_precision(base: BaseModel) -> torch.dtype:
    """What a base's weights are stored in; bfloat16 where that is any other 16 bits."""
    stored = AutoConfig.from_pretrained(
        str(weights_folder(base)), **code_of(base.facts.reference)
    ).dtype
    return torch.float32 if stored in (None, torch.float32) else torch.bfloat16


def trial_logits(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast) -> Tensor:
    """Logits of every position of a short prompt, in float32 on the CPU."""
    ids = torch.tensor(encode_prompts(tokenizer, [TRIAL]), device=model.device)
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float().cpu()


def _facts(version: Version, layout: Literal["peft", "merged"]) -> ExportedFacts:
    """What holds of either layout; a peft folder's base may be another."""
    base = version.base.facts
    return ExportedFacts(
        format=layout,
        method=version.policy.facts.method,
        name=version.name,
        version=version.number,
        architecture=base.architecture,
        base=base.reference,
        base_fingerprint=base.fingerprint,
        tokenizer_hash=base.tokenizer_hash,
        template_hash=base.template_hash,
        files={},
    )


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
    model = _exact(load_base(base, trainable=True))
    model.requires_grad_(False)
    return model


def _exact(model: PreTrainedModel) -> PreTrainedModel:
    """PyTorch's attention in place of FlashAttention, which computes in 16 bits alone."""
    model.set_attn_implementation("sdpa")
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
    config.bos_token_id, config.eos_token_id = tokenizer.bos_token_id, list(ends)
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
