"""The estimate against real tensors: weights, adapters, gradients and optimizer to the byte."""

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from peft import PeftModel
from torch import Tensor, nn
from transformers import AutoConfig, DynamicCache, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.cache import roomy_cache
from posttrain.models.load import load_base
from posttrain.models.memory import StageMemory, cache_bytes, estimate
from posttrain.models.quantize import nf4_bytes
from posttrain.models.seal import weights_folder
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.train import LoraRecipe, QuantizationRecipe
from posttrain.recipe.workload import Workload
from posttrain.train.sft import to_train
from tests.architectures import NAMES, make_base

METHODS = ("full", "lora", "qlora", "dora", "bottleneck")
ROWS, LENGTH = 2, 24


def recipe(method: str, double: bool = True) -> SftRecipe:
    return SftRecipe.model_validate(
        {
            "method": method,
            "lora": {"rank": 4},
            "bottleneck": {"size": 8},
            "quantization": {"double_quantization": double},
            "learning_rate": 1e-3,
            "num_epochs": 1,
            "batch_size": ROWS,
        }
    )


def workload(section: SftRecipe) -> Workload:
    full = section.method == "full"
    bottleneck = section.method == "bottleneck"
    return Workload(
        stage="sft",
        trains_weights=full,
        quantization=section.quantization if section.method == "qlora" else None,
        lora=None if full or bottleneck else section.lora,
        dora=section.method == "dora",
        bottleneck=section.bottleneck if bottleneck else None,
        num_adapters=0 if full else 1,
        num_learning=0 if full else 1,
        rows=ROWS,
        length=LENGTH,
        reads="logits",
        advice={},
    )


def bytes_of(tensors: Iterable[Tensor]) -> int:
    return sum({id(one): one.nbytes for one in tensors}.values())


def quantised_bytes(model: nn.Module) -> int:
    """What bitsandbytes holds beside the packed weights: scales, codes and offsets."""
    size = 0
    for layer in (one for one in model.modules() if isinstance(one, Linear4bit)):
        state = layer.weight.quant_state
        size += state.absmax.nbytes + state.code.nbytes
        if state.nested:
            size += state.offset.nbytes + state.state2.absmax.nbytes + state.state2.code.nbytes
    return size


def measured(base: BaseModel, section: SftRecipe) -> StageMemory:
    """One real step, and the bytes of every tensor that it leaves."""
    model = to_train(base, section)
    learned = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(learned)
    ids = torch.randint(5, 200, (ROWS, LENGTH))
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    optimizer.step()
    states = [value for state in optimizer.state.values() for value in state.values()]
    held = bytes_of([*model.parameters(), *model.buffers()]) + quantised_bytes(model)
    adapter = bytes_of(learned) if isinstance(model, PeftModel) else 0
    return StageMemory(
        stage="sft",
        weights=held - adapter,
        adapters=adapter,
        gradients=bytes_of(one.grad for one in learned if one.grad is not None),
        optimizer=bytes_of(states),
        activations=0,
        cache=0,
        prefill=0,
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_tensor_bytes_are_exact(
    name: str, method: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base(name, tokenizer, tmp_path / name)
    config = AutoConfig.from_pretrained(weights_folder(base))
    section = recipe(method)
    found = estimate(config, workload(section), torch.float32)
    real = measured(base, section)
    parts = ("weights", "adapters", "gradients", "optimizer")
    assert {p: getattr(found, p) for p in parts} == {p: getattr(real, p) for p in parts}


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("double", [True, False])
def test_a_base_in_4_bits_is_exact_with_and_without_double_quantisation(
    double: bool,
    compute: torch.dtype,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", str(compute).removeprefix("torch."))
    base = make_base("gpt2", tokenizer, tmp_path / "gpt2")
    config = AutoConfig.from_pretrained(weights_folder(base))
    section = recipe("qlora", double)
    model = load_base(base, quantization=section.quantization)
    real = bytes_of([*model.parameters(), *model.buffers()]) + quantised_bytes(model)
    assert estimate(config, workload(section), compute).weights == real


@pytest.mark.parametrize("num_weights", [64, 65, 4096, 64 * 256 + 64])
@pytest.mark.parametrize("double", [True, False])
def test_the_size_of_a_quantised_layer_holds_for_any_width(num_weights: int, double: bool) -> None:
    layer = Linear4bit(num_weights, 1, bias=False, compress_statistics=double, quant_type="nf4")
    layer = layer.to("cpu")
    layer.weight = layer.weight.to("cpu")
    real = layer.weight.nbytes + quantised_bytes(nn.ModuleList([layer]))
    assert nf4_bytes(num_weights, QuantizationRecipe(double_quantization=double)) == real


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_of_keys_and_values_is_exact(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base(name, tokenizer, tmp_path / name)
    model = load_base(base)
    cache = DynamicCache(config=model.config)
    ids = torch.randint(5, 200, (3, 40))
    with torch.no_grad():
        model(input_ids=ids, past_key_values=cache, use_cache=True)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(model.config, 3, 40, torch.float32) == real


@pytest.mark.parametrize("name", NAMES)
def test_so_is_the_cache_of_bfloat16_on_a_cpu(
    name: str,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Held in float32, but for windows."""
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    model = load_base(make_base(name, tokenizer, tmp_path / name))
    cache = roomy_cache(model.config, 40)
    with torch.no_grad():
        model(input_ids=torch.randint(5, 200, (3, 40)), past_key_values=cache, use_cache=True)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert cache_bytes(model.config, 3, 40, torch.bfloat16, on_cpu=True) == real


def test_no_memory_is_taken_for_the_estimate(base: BaseModel) -> None:
    config = AutoConfig.from_pretrained(weights_folder(base))
    config.hidden_size = config.intermediate_size = 1 << 17
    config.head_dim = config.hidden_size // config.num_attention_heads
    found = estimate(config, workload(recipe("lora")), torch.bfloat16)
    assert found.weights > 2**37


def test_gradients_and_the_cache_are_not_held_at_once() -> None:
    sizes = {"weights": 10, "adapters": 1, "gradients": 2, "optimizer": 4}
    trains = StageMemory(stage="s", **sizes, activations=30, cache=20, prefill=5)
    writes = StageMemory(stage="s", **sizes, activations=3, cache=20, prefill=5)
    assert (trains.exact, trains.total) == (17, 47)
    assert (writes.exact, writes.total) == (17, 40)
    assert writes.largest_of("activations", "cache") == "cache"


def test_more_adapters_take_more_and_one_at_a_time_has_gradients(base: BaseModel) -> None:
    config = AutoConfig.from_pretrained(weights_folder(base))
    one = workload(recipe("lora"))
    four = one.model_copy(update={"num_adapters": 4, "num_learning": 2, "num_heads": 2})
    a, b = (estimate(config, work, torch.float32) for work in (one, four))
    head = 4 * (config.hidden_size + 1)
    assert b.adapters == 4 * a.adapters + 2 * head
    assert b.gradients == a.gradients + head
    assert b.optimizer == 2 * a.optimizer + 2 * head + 2 * 4  # two moments, and a count a tensor


def test_checkpointing_keeps_less_and_longer_rows_more(base: BaseModel) -> None:
    config = AutoConfig.from_pretrained(weights_folder(base))
    config.num_hidden_layers = 8
    plain = workload(SftRecipe(lora=LoraRecipe(), learning_rate=1, num_epochs=1, batch_size=1))
    saving = plain.model_copy(update={"gradient_checkpointing": True})
    longer = plain.model_copy(update={"length": 2 * LENGTH})
    sizes = [estimate(config, work, torch.float32).activations for work in (saving, plain, longer)]
    assert sizes[0] < sizes[1] < sizes[2]
