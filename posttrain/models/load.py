"""From artifacts to models: weights, delta, adapters; and what must match before they are read."""

import json
import shutil
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel

from posttrain.artifacts import BaseModel, Policy, sha256
from posttrain.contract import check_trained_on
from posttrain.models.device import device, dtype
from posttrain.recipe.train import LoraRecipe
from posttrain.runtime import Runtime


def load_base(base: BaseModel, trainable: bool = False) -> PreTrainedModel:
    """Load a base's weights in eval mode, its delta merged in.

    Args:
        base: the artifact.
        trainable: for full fine-tuning: weights that train, in float32 whatever the device. Else
            they are frozen, at the runtime's precision.

    Raises:
        ValueError: a file differs from its recorded SHA-256.
    """
    runtime = Runtime.from_environment()
    facts = base.verify().facts
    own = facts.reference.kind == "own"
    if facts.outside and facts.outside != weight_hashes(Path(facts.reference.source)):
        raise ValueError(
            f"{facts.reference.source}: its weights have changed since {base.path} was made; run "
            "base_model again, or put the old weights back"
        )
    model = AutoModelForCausalLM.from_pretrained(
        str(base.path / facts.reference.source) if own else facts.reference.source,
        revision=facts.reference.revision or "main",
        dtype=torch.float32 if trainable else dtype(runtime),
        use_safetensors=True,  # never unpickles
    )
    if facts.has_delta:
        # Merged at the precision of the base, 16 bits or more: a 4-bit merge loses the delta.
        model = PeftModel.from_pretrained(model, str(base.path / "delta")).merge_and_unload()
    model.requires_grad_(trainable)
    return _placed(model, runtime)


def _placed(model: torch.nn.Module, runtime: Runtime) -> PreTrainedModel:
    return cast(PreTrainedModel, model.to(device(runtime)).eval())


def load_policy(base: BaseModel, policy: Policy) -> PreTrainedModel:
    """Load a policy for inference, whatever its method."""
    check_trained_on(policy.facts.trained_on, base, policy.path)
    if policy.facts.method == "lora":
        return cast(
            PreTrainedModel, attach(load_base(base), policy, base, "policy", trainable=False).eval()
        )
    policy.verify()
    runtime = Runtime.from_environment()
    model = AutoModelForCausalLM.from_pretrained(
        str(policy.path / "weights"), dtype=dtype(runtime), use_safetensors=True
    )
    model.requires_grad_(False)
    return _placed(model, runtime)


def attach(
    model: PreTrainedModel | PeftModel, policy: Policy, base: BaseModel, name: str, trainable: bool
) -> PeftModel:
    """Add a policy's LoRA adapter under `name`, and make it the active one.

    Raises:
        ValueError: the policy has no adapter, or was trained on something else.
    """
    facts = policy.verify().facts
    check_trained_on(facts.trained_on, base, policy.path)
    if facts.method != "lora":
        raise ValueError(f"{policy.path}: holds {facts.method} weights, and an adapter is wanted")
    return attach_folder(model, policy.path / "adapter", name, trainable)


def attach_folder(
    model: PreTrainedModel | PeftModel, folder: Path, name: str, trainable: bool
) -> PeftModel:
    """Add the LoRA adapter in a folder of PEFT's layout, in float32, every key accounted for.

    Raises:
        ValueError: the file lacks a weight of the model's adapter, or has one too many.
    """
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    learns = {key: p.requires_grad for key, p in model.named_parameters() if "lora_" in key}
    if isinstance(model, PeftModel):
        model.add_adapter(name, config)
        peft = model
    else:
        peft = get_peft_model(model, config, adapter_name=name, autocast_adapter_dtype=True)
    weights = {
        key.replace(".weight", f".{name}.weight"): tensor.float()
        for key, tensor in load_file(folder / "adapter_model.safetensors").items()
    }
    own = adapter_weights(peft, name)
    if wrong := own.keys() ^ weights.keys():
        raise ValueError(
            f"{folder}: its weights differ from the model's adapter in {sorted(wrong)[:4]}"
        )
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.data = weights[key].to(parameter.device)
    peft.set_adapter(name)
    for key, parameter in peft.named_parameters():  # set_adapter changes who learns
        if "lora_" in key:
            parameter.requires_grad_(learns.get(key, trainable))
    return peft


def adapter_weights(model: PeftModel, name: str) -> dict[str, torch.nn.Parameter]:
    """The LoRA parameters of one adapter by their full name."""
    return {
        key: parameter for key, parameter in model.named_parameters() if f".{name}.weight" in key
    }


def new_adapter(model: PreTrainedModel, recipe: LoraRecipe, name: str = "default") -> PeftModel:
    """A fresh LoRA adapter in float32; its up-projection is zero, so that the model is the base."""
    targets = recipe.target_modules
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_rslora=recipe.rslora,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config, adapter_name=name, autocast_adapter_dtype=True)


def save_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Write one adapter in PEFT's layout (`adapter_model.safetensors`, `adapter_config.json`).

    A stock `PeftModel.from_pretrained` reads the folder.
    """
    staging = folder.with_name(folder.name + ".saving")
    model.save_pretrained(str(staging), selected_adapters=[name], save_embedding_layers=False)
    # PEFT puts an adapter that is not called `default` into a folder of its name.
    written = staging / name if (staging / name).is_dir() else staging
    folder.mkdir(parents=True, exist_ok=True)
    (written / "adapter_model.safetensors").replace(folder / "adapter_model.safetensors")
    config = json.loads((written / "adapter_config.json").read_bytes())
    # PEFT writes a set in an order that differs by process: equal adapters would differ in bytes.
    config["target_modules"] = sorted(config["target_modules"])
    # A hub id stays; a folder is this machine's own business. Our manifest names the base.
    if Path(config["base_model_name_or_path"] or "").is_dir():
        config["base_model_name_or_path"] = None
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
    shutil.rmtree(staging)


def count_adapted(model: PeftModel, name: str) -> tuple[int, int]:
    """Adapted modules, and parameters of the adapter."""
    weights = adapter_weights(model, name)
    modules = {key.split(".lora_")[0] for key in weights}
    return len(modules), sum(parameter.numel() for parameter in weights.values())


def weight_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a folder."""
    return {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}


def shapes(folder: Path) -> dict[str, list[int]]:
    """Shapes of the tensors in a folder of safetensors, read from the headers alone."""
    index = folder / "model.safetensors.index.json"
    names = (
        sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    found: dict[str, list[int]] = {}
    for name in names:
        with safe_open(str(folder / name), framework="pt") as tensors:
            found |= {key: list(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
    return found
