"""Adapters of a model by name: made, read from a folder, written to one.

Several stand on one base. All are PEFT's (bottlenecks are made known to it), and in float32.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from posttrain.models.bottleneck import BottleneckConfig, bottleneck_config
from posttrain.models.fused_lora import fuse_adapters
from posttrain.models.quantize import quantization_of
from posttrain.recipe.train import BottleneckRecipe, LoraRecipe, Method


def attach_folder(
    model: PreTrainedModel | PeftModel, folder: Path, name: str, trainable: bool
) -> PeftModel:
    """Add the adapter in a folder of PEFT's layout, in float32, every key accounted for.

    Raises:
        ValueError: the file lacks a weight of the model's adapter, or has one too many.
    """
    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = not trainable
    others = model.peft_config if isinstance(model, PeftModel) else {}
    learns = [
        (weight, weight.requires_grad)
        for other in others
        for weight in adapter_weights(cast(PeftModel, model), other).values()
    ]
    if isinstance(model, PeftModel):
        model.add_adapter(name, config)
        peft = model
    else:
        peft = get_peft_model(model, config, adapter_name=name, autocast_adapter_dtype=True)
    fuse_adapters(peft)
    fill_adapter(peft, name, folder)
    peft.set_adapter(name)
    for weight, learned in learns:  # set_adapter changes who learns
        weight.requires_grad_(learned)
    for weight in adapter_weights(peft, name).values():
        weight.requires_grad_(trainable)
    return peft


def fill_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Give an adapter that is attached already the weights of a folder in PEFT's layout.

    Raises:
        ValueError: the file's weights are not exactly the adapter's.
    """
    found = load_file(folder / "adapter_model.safetensors")
    own = {stored: weight for _, stored, weight in _weights(model, name)}
    differing = own.keys() ^ found.keys()
    differing |= {key for key in own.keys() & found.keys() if own[key].shape != found[key].shape}
    if differing:
        raise ValueError(
            f"{folder}: its weights differ from the model's adapter in {sorted(differing)[:4]}"
        )
    with torch.no_grad():
        for key, weight in own.items():
            weight.copy_(found[key])


def adapter_weights(model: PeftModel, name: str) -> dict[str, nn.Parameter]:
    """The parameters of one adapter by their full name."""
    return {key: weight for key, _, weight in _weights(model, name)}


def _weights(model: PeftModel, name: str) -> Iterator[tuple[str, str, nn.Parameter]]:
    """Name in the model, name in a file, and parameter.

    Read off the layers, whatever the method: biases and DoRA's magnitudes have names of their own.
    """
    for path, layer in model.named_modules():
        for part in layer.adapter_layer_names if isinstance(layer, BaseTunerLayer) else ():
            held = getattr(layer, part)
            for key, weight in held[name].named_parameters() if name in held else ():
                # PEFT stores the magnitudes without the name of the module that computes them
                bare = part == "lora_magnitude_vector"
                stored = f"{path}.{part}" if bare else f"{path}.{part}.{key}"
                yield f"{path}.{part}.{name}.{key}", stored, weight


def new_adapter(
    model: PreTrainedModel,
    recipe: LoraRecipe | BottleneckRecipe,
    name: str = "default",
    dora: bool = False,
) -> PeftModel:
    """A fresh adapter in float32; its up-projection is zero, so that the model is the base."""
    if isinstance(recipe, BottleneckRecipe):
        config: PeftConfig = bottleneck_config(model, recipe)
    else:
        targets = recipe.target_modules
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            use_rslora=recipe.rslora,
            use_dora=dora,
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
            task_type="CAUSAL_LM",
        )
    peft = get_peft_model(model, config, adapter_name=name, autocast_adapter_dtype=True)
    fuse_adapters(peft)
    return peft


def method_of(model: PeftModel, name: str) -> Method:
    """By which method an adapter in memory is trained."""
    config = model.peft_config[name]
    if isinstance(config, BottleneckConfig):
        return "bottleneck"
    if isinstance(config, LoraConfig) and config.use_dora:
        return "dora"
    return "lora" if quantization_of(model) is None else "qlora"


def save_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Write one adapter in PEFT's layout (`adapter_model.safetensors`, `adapter_config.json`).

    A stock `PeftModel.from_pretrained` reads the folder; that of a bottleneck adapter only where
    `posttrain.models.bottleneck` is imported.
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
    layers = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer)]
    adapted = sum(
        any(name in getattr(layer, part) for part in layer.adapter_layer_names) for layer in layers
    )
    return adapted, sum(weight.numel() for weight in adapter_weights(model, name).values())
