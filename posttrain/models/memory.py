"""How much memory each stage will take, before a weight is downloaded.

Weights, adapters, gradients and the optimizer's state are the bytes of the tensors that the stage
will make, found on torch's meta device by the code that makes them. Activations and the cache of
keys and values are an estimate, of the longest rows that the recipe allows. What CUDA itself, a
kernel's workspace and fragmentation take is not in it: about a GiB. Its error on a GPU is not
measured until a run on a GPU measures it.

Shapes: B sequences, T positions, V vocabulary.
"""

import copy
from collections.abc import Iterable
from typing import Any, cast

import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.integrations.bitsandbytes import replace_with_bnb_linear
from transformers.quantizers.base import get_keys_to_not_convert

from posttrain.align.forward import MAX_LOGITS, log_probs
from posttrain.align.frozen_head import chunk_size
from posttrain.evaluate import perplexity
from posttrain.models.activations import ATTENTION, Kept, kept, precision
from posttrain.models.adapters import adapter_weights, new_adapter
from posttrain.models.code import code_of_config
from posttrain.models.quantize import FLOAT, nf4, nf4_bytes
from posttrain.recipe.section import Section
from posttrain.recipe.train import QuantizationRecipe
from posttrain.recipe.workload import Part, Workload

GIB = 2**30

PARTS: tuple[Part, ...] = (
    *("weights", "adapters", "gradients", "optimizer"),
    *("activations", "cache"),
)


class StageMemory(Section):
    """Bytes of one stage, by what they are for."""

    stage: str
    weights: int
    adapters: int
    """Score and value heads included."""

    gradients: int
    optimizer: int
    """AdamW's two moments and its count of steps, a tensor."""

    activations: int
    """What a forward pass keeps for the backward pass, and the gradient of logits."""

    cache: int
    """Keys and values of the answers that are written side by side."""

    prefill: int
    """Activations of the prompts of these answers."""

    @property
    def exact(self) -> int:
        """Bytes of tensors that are known to the byte."""
        return self.weights + self.adapters + self.gradients + self.optimizer

    @property
    def total(self) -> int:
        """At its highest: a stage either trains or generates, and has gradients in the former."""
        held = self.exact - self.gradients
        return held + max(self.gradients + self.activations, self.cache + self.prefill)

    def in_gib(self, part: str) -> str:
        """A part, or `exact` or `total`, in words."""
        return f"{getattr(self, part) / GIB:.1f} GiB"

    def largest_of(self, *parts: Part) -> Part:
        """The part that takes most among these."""
        return max(parts, key=lambda part: int(getattr(self, part)))


def estimate(
    config: PreTrainedConfig,
    work: Workload,
    compute: torch.dtype,
    flat: bool = False,
    on_cpu: bool = False,
) -> StageMemory:
    """What one stage takes on a base of these sizes.

    Args:
        config: of the base.
        work: the stage.
        compute: the machine's precision, of frozen weights and of what is computed.
        flat: FlashAttention's way with packed rows, which needs no mask.
        on_cpu: where attention is computed in float32 whatever the rest is: earlier tokens' keys
            and values are held so. What it keeps for a backward pass is counted in `compute`.
    """
    model = _on_meta(config, torch.float32 if work.trains_weights else compute)
    held = _backbone(model) if work.is_backbone else model
    weights = weight_bytes(held, work.quantization)
    if work.has_second_model:
        weights += weight_bytes(_backbone(_on_meta(config, compute)), None)
    head = FLOAT * (config.get_text_config().hidden_size + 1)  # weight and bias
    sizes: list[int] = []
    if work.trains_weights:
        learned = [weight.nbytes for weight in held.parameters()]
    else:
        model.requires_grad_(False)
        adapted = _adapted(model, work)
        sizes = [weight.nbytes for weight in adapted]
        learned = sizes * min(1, work.num_learning)
    own_head = [head - FLOAT, FLOAT] if work.num_heads and learned else []
    stepped = learned * max(1, work.num_learning) + own_head
    return StageMemory(
        stage=work.stage,
        weights=weights,
        adapters=work.num_adapters * sum(sizes) + work.num_heads * head,
        gradients=sum(learned) + sum(own_head),
        optimizer=sum(2 * size + FLOAT for size in stepped),
        activations=_activations(config, model, work, compute, flat, on_cpu),
        cache=cache_bytes(config, work.generated_rows, work.generated_length, compute, on_cpu),
        prefill=_passing(config, work.generated_rows, work.generated_length, compute, flat),
    )


def weight_bytes(model: PreTrainedModel, quantization: QuantizationRecipe | None) -> int:
    """Bytes of a base on the meta device, as it will be held: parameters and buffers."""
    if quantization is None:
        return _nbytes([*model.parameters(), *model.buffers()])
    quantised = cast(
        PreTrainedModel,
        replace_with_bnb_linear(
            copy.deepcopy(model),
            modules_to_not_convert=get_keys_to_not_convert(model),
            quantization_config=nf4(quantization, model.dtype),
        ),
    )
    layers = [one for one in quantised.modules() if isinstance(one, Linear4bit)]
    packed = {id(layer.weight) for layer in layers}
    rest = [one for one in quantised.parameters() if id(one) not in packed]
    # the converted layers' biases are made in float32, and loaded at the base's precision
    biases = {id(layer.bias) for layer in layers if layer.bias is not None}
    kept_rest = [one for one in rest if id(one) not in biases]
    size = sum(layer.bias.numel() for layer in layers if layer.bias is not None)
    return (
        _nbytes([*kept_rest, *quantised.buffers()])
        + size * model.dtype.itemsize
        + sum(nf4_bytes(layer.weight.numel(), quantization) for layer in layers)
    )


def cache_bytes(
    config: PreTrainedConfig, rows: int, length: int, compute: torch.dtype, on_cpu: bool = False
) -> int:
    """Bytes of keys and values: 2 x heads of keys x width x positions, a block and row.

    Counted on the cache that generation uses, which keeps no more than the window of blocks with
    sliding attention, and on a CPU float32 in the others.
    """
    if not rows:
        return 0
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = DynamicCache(config=config)
    size = 0
    for block in range(text.num_hidden_layers):
        raised = on_cpu and type(cache.layers[block]) is DynamicLayer
        dtype = torch.float32 if raised else compute
        keys = torch.empty(rows, heads, length, width, dtype=dtype, device="meta")
        cache.update(keys, torch.empty_like(keys), block)
        layer: Any = cache.layers[block]
        size += layer.keys.nbytes + layer.values.nbytes
    return size


def _activations(
    config: PreTrainedConfig,
    model: PreTrainedModel,
    work: Workload,
    compute: torch.dtype,
    flat: bool,
    on_cpu: bool,
) -> int:
    """Of a training pass by the model, its adapter in place; or of perplexity, which keeps none."""
    if work.reads == "nothing":
        every = work.rows * work.length * config.get_text_config().vocab_size
        # logits, and two copies in float32: their own and that of their logarithms
        logits: int = min(every, perplexity.MAX_LOGITS) * (compute.itemsize + 2 * FLOAT)
        return logits + _passing(config, work.rows, work.length, compute, flat)
    found, num_logits = _forward(model.train(), work, compute, flat, on_cpu)
    size = found.checkpointed if work.gradient_checkpointing else found.whole
    # in the backward pass a gradient stands beside the kept float32 logits, and its cast
    return size + num_logits * (FLOAT + compute.itemsize)


def _forward(
    model: PreTrainedModel, work: Workload, compute: torch.dtype, flat: bool, on_cpu: bool
) -> tuple[Kept, int]:
    """What a training pass keeps, and the number of its logits."""
    vocabulary = model.config.get_text_config().vocab_size
    given = _batch(work.rows, work.length, flat)
    ids = given["input_ids"]
    with precision(compute):
        if work.reads == "logits":
            found = kept(model, lambda: model(**given, labels=ids, use_cache=False).loss)
            return found, ids.numel() * vocabulary
        backbone = model.base_model
        if work.reads == "hidden":
            return kept(model, lambda: backbone(**given, use_cache=False)[0]), 0
        head = model.get_output_embeddings()
        number = max(1, work.rows * work.answer_length)
        if any(weight.requires_grad for weight in head.parameters()):
            number = at_once = min(number, max(1, MAX_LOGITS // vocabulary))
        else:  # of the others a slope as large as the hidden state is kept
            at_once = min(number, chunk_size(vocabulary, on_cpu))
        tokens = torch.zeros(number, dtype=torch.long, device="meta")

        def answers() -> Any:
            hidden = backbone(**given, use_cache=False)[0]
            return log_probs(model, hidden.flatten(0, 1)[:number], tokens, 1.0)

        return kept(model, answers), at_once * vocabulary


def _passing(
    config: PreTrainedConfig, rows: int, length: int, compute: torch.dtype, flat: bool
) -> int:
    """What a forward pass without a backward pass holds at most: one block, and what it is given.

    A bound: as much as the block would keep for a backward pass.
    """
    if not rows:
        return 0
    model = _on_meta(config, compute).eval()
    given = _batch(rows, length, flat)
    found = kept(model, lambda: model.base_model(**given, use_cache=False)[0])
    return max(found.blocks) + found.inputs // len(found.blocks)


def _batch(rows: int, length: int, flat: bool) -> dict[str, Tensor]:
    """Ids and mask of rows of full length, on the meta device; one long row where flattened."""
    shape = (1, rows * length) if flat else (rows, length)
    ids = torch.zeros(shape, dtype=torch.long, device="meta")
    if flat:
        places = torch.zeros(shape, dtype=torch.long, device="meta")
        return {"input_ids": ids, "position_ids": places}
    mask = torch.ones(rows, 1, length, length, dtype=torch.bool, device="meta")
    return {"input_ids": ids, "attention_mask": mask}


def _on_meta(config: PreTrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    """Names, shapes and types of a base, and no memory."""
    own = copy.deepcopy(config)  # making a model writes into its configuration
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            own, dtype=dtype, attn_implementation=ATTENTION, **code_of_config(config)
        )
    return model


def _backbone(model: PreTrainedModel) -> PreTrainedModel:
    """The model without its output layer."""
    return cast(PreTrainedModel, model.base_model)


def _adapted(model: PreTrainedModel, work: Workload) -> list[Tensor]:
    """The weights of one adapter of the stage, put into the model."""
    recipe = work.lora or work.bottleneck
    if recipe is None:
        return []
    with torch.device("meta"):
        adapted: PeftModel = new_adapter(model, recipe, dora=work.dora)
    return list(adapter_weights(adapted, "default").values())


def _nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of distinct tensors: tied weights count once."""
    return sum({id(tensor): tensor.nbytes for tensor in tensors}.values())
