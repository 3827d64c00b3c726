"""Bottleneck adapters on four layouts of blocks: where they stand, and that nothing is lost."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, OPTConfig, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.adapters import (
    adapter_weights,
    attach_folder,
    count_adapted,
    method_of,
    new_adapter,
    save_adapter,
)
from posttrain.models.bottleneck import BottleneckLayer, places
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_base
from posttrain.recipe.train import BottleneckRecipe
from posttrain.train.collate import PackedCollator
from tests.architectures import NAMES, make_base

RECIPE = BottleneckRecipe(size=8)
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture
def base_of(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Callable[[str], BaseModel]:
    return lambda name: make_base(name, tokenizer, tmp_path / name)


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


def disturb(model: PeftModel, name: str = "default") -> None:
    """As if it had been trained."""
    torch.manual_seed(3)
    for weight in adapter_weights(model, name).values():
        nn.init.normal_(weight, std=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_alignment_34_a_new_adapter_is_the_base(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    base = base_of(name)
    model = new_adapter(load_base(base), RECIPE).eval()
    assert torch.allclose(logits(model), logits(load_base(base)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_alignment_34_it_stands_after_attention_and_mlp_of_every_block(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    model = new_adapter(load_base(base_of(name)), RECIPE)
    layers = [path for path, m in model.named_modules() if isinstance(m, BottleneckLayer)]
    assert len(layers) == 4
    for block in (".0.", ".1."):
        parts = [path.split(block)[1] for path in layers if block in path]
        assert [part.split(".")[0] for part in parts] == (
            ["attn", "mlp"] if name == "gpt2" else ["self_attn", "mlp"]
        )
    assert count_adapted(model, "default") == (4, 4 * (64 * 8 + 8 + 8 * 64 + 64))
    assert method_of(model, "default") == "bottleneck"


def test_alignment_34_down_nonlinearity_dropout_up_and_residual(
    base_of: Callable[[str], BaseModel],
) -> None:
    recipe = BottleneckRecipe(size=8, nonlinearity="relu", dropout=0.5)
    model = new_adapter(load_base(base_of("llama")), recipe)
    disturb(model)
    layer = next(m for m in model.modules() if isinstance(m, BottleneckLayer))
    down, up = layer.bottleneck_down["default"], layer.bottleneck_up["default"]
    x = torch.randn(3, 64)
    y = layer.base_layer(x)
    inner = (y @ down.weight.T + down.bias).clamp(min=0)
    expected = y + inner @ up.weight.T + up.bias
    assert torch.allclose(layer.eval()(x), expected, atol=1e-6)
    layer.train()
    assert not torch.allclose(layer(x), expected, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_alignment_34_logits_survive_the_round_trip(
    name: str, base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of(name)
    model = new_adapter(load_base(base), RECIPE).eval()
    disturb(model)
    save_adapter(model, "default", tmp_path / "saved")
    loaded = attach_folder(load_base(base), tmp_path / "saved", "policy", trainable=False).eval()
    assert torch.equal(logits(loaded), logits(model))
    assert not torch.allclose(logits(loaded), logits(load_base(base)), atol=1e-2)
    stock = AutoModelForCausalLM.from_pretrained(base.path / "weights")
    assert torch.equal(
        logits(PeftModel.from_pretrained(stock, tmp_path / "saved").eval()), logits(model)
    )


@pytest.mark.parametrize("name", NAMES)
def test_alignment_34_only_the_adapter_trains(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    model = new_adapter(load_base(base_of(name)), RECIPE)
    own = set(adapter_weights(model, "default"))
    assert {key for key, p in model.named_parameters() if p.requires_grad} == own
    before = {key: p.detach().clone() for key, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(2):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert {k for k, p in model.named_parameters() if not torch.equal(p, before[k])} == own


def test_a_file_that_lacks_a_bias_is_refused(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of("llama")
    save_adapter(new_adapter(load_base(base), RECIPE), "default", tmp_path / "saved")
    file = tmp_path / "saved" / "adapter_model.safetensors"
    weights = load_file(file)
    weights.pop(next(key for key in weights if key.endswith("bottleneck_up.bias")))
    save_file(weights, file)
    with pytest.raises(
        ValueError, match=r"differ from the model's adapter in \[.*bottleneck_up\.bias'\]"
    ):
        attach_folder(load_base(base), tmp_path / "saved", "policy", trainable=False)


def test_several_adapters_of_several_names_on_one_base(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    base = base_of("qwen3")
    first = new_adapter(load_base(base), RECIPE).eval()
    disturb(first)
    save_adapter(first, "default", tmp_path / "saved")
    model = attach_folder(load_base(base), tmp_path / "saved", "policy", trainable=True)
    model = attach_folder(model, tmp_path / "saved", "reference", trainable=False).eval()
    assert all(w.requires_grad for w in adapter_weights(model, "policy").values())
    assert not any(w.requires_grad for w in adapter_weights(model, "reference").values())
    with torch.no_grad():
        for weight in adapter_weights(model, "policy").values():
            weight.zero_()
    assert torch.equal(logits(model), logits(first))
    model.set_adapter("policy")
    assert torch.allclose(logits(model), logits(load_base(base)), atol=1e-6)
    with model.disable_adapter():
        assert torch.equal(logits(model), logits(load_base(base)))


@pytest.mark.parametrize("name", NAMES)
def test_the_cache_of_generation_gives_what_whole_sequences_give(
    name: str, base_of: Callable[[str], BaseModel]
) -> None:
    model = new_adapter(load_base(base_of(name)), RECIPE).eval()
    disturb(model)
    sampling = Sampling(
        max_new_tokens=6, temperature=0.0, end_ids=(1,), pad_id=0, batch_size=2, seed=0
    )
    prompts = [[5, 6, 7, 8], [9, 10]]
    for prompt, answer in zip(prompts, generate(model, prompts, sampling), strict=True):
        row = list(prompt)
        for token in answer:
            with torch.no_grad():
                said = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
            assert int(said.argmax()) == token
            row.append(token)


def test_packed_rows_are_as_sequences_alone(base_of: Callable[[str], BaseModel]) -> None:
    model = new_adapter(load_base(base_of("gemma3")), RECIPE).eval()
    disturb(model)
    rows = [[5, 6, 7, 8], [9, 10, 11]]
    batch = PackedCollator(0)([{"input_ids": [*rows[0], *rows[1]], "lengths": [4, 3]}])
    with torch.no_grad():
        packed = model(**{k: v for k, v in batch.items() if k != "labels"}, use_cache=False).logits
        alone = [model(input_ids=torch.tensor([row])).logits[0] for row in rows]
    assert torch.allclose(packed[0], torch.cat(alone), atol=1e-5)


def test_float32_on_a_base_in_bfloat16(
    base_of: Callable[[str], BaseModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    model = new_adapter(load_base(base_of("llama")), RECIPE)
    assert all(w.dtype == torch.float32 for w in adapter_weights(model, "default").values())
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert logits(model).dtype == torch.bfloat16


def test_it_cannot_be_merged(base_of: Callable[[str], BaseModel]) -> None:
    model = new_adapter(load_base(base_of("llama")), RECIPE)
    with pytest.raises(ValueError, match="not linear and cannot be merged"):
        model.merge_and_unload()


def test_blocks_of_another_layout_are_refused_by_name() -> None:
    config = OPTConfig(
        hidden_size=32, ffn_dim=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=50
    )
    model = AutoModelForCausalLM.from_config(config)
    message = r"OPTForCausalLM does not have self_attn.o_proj and mlp.down_proj or .* of its 1 bl"
    with pytest.raises(ValueError, match=message):
        places(model)


def test_the_configuration_says_what_it_is(
    base_of: Callable[[str], BaseModel], tmp_path: Path
) -> None:
    save_adapter(new_adapter(load_base(base_of("gpt2")), RECIPE), "default", tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "adapter_config.json").read_bytes())
    assert config["peft_type"] == "BOTTLENECK"
    assert config["target_modules"] == ["attn.c_proj", "mlp.c_proj"]
    assert (config["size"], config["nonlinearity"], config["dropout"]) == (8, "gelu", 0.0)
