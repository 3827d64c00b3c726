"""The active adapter inside the base's weights for a while: a layer is one product, not three.

What an adapter adds to a layer's cost does not shrink with the model: of a small one it takes more
time than the layer. So whoever only reads (sampling, scoring) merges it first. The weights that
were there are put back themselves, not by subtraction: no bit of the base changes.

Only float32 is merged. At 16 bits the sum would be rounded, and answers would come from another
policy than the one whose log-probabilities are read; 4 bits cannot hold it at all. Beside a layer
in bfloat16 the adapter's weights, which each pass casts, are cast once instead: no output changes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from transformers import PreTrainedModel

from posttrain.models.fused_lora import FusedLora

MAX_BYTES = 2**30
"""Of the merged copies; of a larger model the layers cost more than what is added to them."""


@contextmanager
def merged(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Merge the active adapter where that may be, or cast it; it must not train meanwhile.

    Raises:
        RuntimeError: the model trains, and the adapter's dropout would be lost.
    """
    layers = _layers(model)
    kept: list[tuple[nn.Parameter, Tensor]] = []
    try:
        with torch.no_grad():
            for layer in layers:
                weight = _weight(layer)
                kept.append((weight, weight.data))
                weight.data = weight.data.clone()
                layer.merge()
            for layer in [] if layers else _fused(model):
                for weight in layer.weights_to_cast():
                    kept.append((weight, weight.data))
                    weight.data = weight.data.to(_weight(layer).dtype)
        yield
    finally:
        for weight, original in kept:
            weight.data = original
        for layer in layers:
            layer.merged_adapters.clear()


def _fused(model: PreTrainedModel | PeftModel) -> list[FusedLora]:
    return [module for module in model.modules() if isinstance(module, FusedLora)]


def _layers(model: PreTrainedModel | PeftModel) -> list[Linear]:
    """Layers to merge: all that are adapted, or none."""
    if not isinstance(model, PeftModel):
        return []
    found = [module for module in model.modules() if isinstance(module, Linear)]
    if found and model.training:
        raise RuntimeError("the model trains: call eval() before its adapter is merged")
    layers = [one for one in found if not one.disable_adapters and not one.merged]
    weights = [_weight(layer) for layer in layers]
    tied = model.get_input_embeddings().weight  # merged into the output, it would change the input
    if any(weight is tied or weight.dtype != torch.float32 for weight in weights):
        return []
    if any(on for layer in layers for on in layer.lora_bias.values()):
        return []
    return layers if sum(weight.nbytes for weight in weights) <= MAX_BYTES else []


def _weight(layer: Linear) -> nn.Parameter:
    return cast(nn.Parameter, layer.get_base_layer().weight)
