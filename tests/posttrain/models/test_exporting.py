import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from posttrain.artifacts import BaseModel
from posttrain.data.chat import encode_prompts, end_tokens
from posttrain.facts import Reference
from posttrain.models.exported import load_exported
from posttrain.models.exporting import (
    Version,
    stored_precision,
    trial_logits,
    write_merged,
    write_peft,
)
from posttrain.models.generate import Sampling, generate
from posttrain.models.load import load_policy, load_weights
from posttrain.models.quantize import keep_trainable
from posttrain.models.seal import seal
from posttrain.models.tokenizer import load_tokenizer, read_tokenizer
from posttrain.recipe.train import Method
from tests.architectures import NAMES, config, make_base
from tests.policies import MERGEABLE, make_policy
from tests.stand_ins import DIALOGPT, GEMMA, LLAMA, MODELS, QWEN

TEMPLATE = (
    "{{ bos_token if bos_token is defined }}{% for m in messages %}{{ OPEN + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + CLOSE }}"
    "{% endgeneration %}{% else %}{{ m['content'] + CLOSE }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ OPEN + 'assistant\n' }}{% endif %}"
)
TURNS = {
    GEMMA: ("<start_of_turn>", "<end_of_turn>"),
    LLAMA: ("<|start_header_id|>", "<|eot_id|>"),
    DIALOGPT: ("", "<|endoftext|>"),
    QWEN: ("<|im_start|>", "<|im_end|>"),
}


def version(base: BaseModel, method: Method, folder: Path) -> Version:
    return Version("museum", 3, base, make_policy(base, method, folder / f"policy-{method}"))


def half_base(name: str, tokenizer: PreTrainedTokenizerFast, folder: Path) -> BaseModel:
    """A base stored in bfloat16, as hubs have them."""
    torch.manual_seed(0)
    folder.mkdir()
    model = AutoModelForCausalLM.from_config(config(name, tokenizer)).bfloat16()
    model.save_pretrained(folder / "weights")
    own = Reference(kind="own", source="weights")
    return seal(folder, "base_model", own, folder / "weights", tokenizer, has_delta=False)


@pytest.mark.parametrize("method", MERGEABLE)
@pytest.mark.parametrize("name", NAMES)
def test_merged_weights_are_base_and_adapter(
    name: str,
    method: Method,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = half_base(name, tokenizer, tmp_path / "base")
    found = version(base, method, tmp_path)
    before = trial_logits(load_weights(base.path / "weights"), tokenizer)
    # in float32
    _, expected = write_merged(found, tmp_path / "whole", torch.float32)
    assert not torch.allclose(before, expected, atol=0.1)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "whole").eval()
    assert torch.allclose(trial_logits(plain, tokenizer), expected, rtol=0, atol=1e-5)
    # in bfloat16, as near as 16 bits come: each weight is the exact merge, rounded once
    assert stored_precision(base) == torch.bfloat16
    write_merged(found, tmp_path / "half", torch.bfloat16)
    whole, half = (load_file(tmp_path / f / "model.safetensors") for f in ("whole", "half"))
    assert all(torch.equal(half[key], whole[key].bfloat16()) for key in whole)
    logits = trial_logits(load_weights(tmp_path / "half"), tokenizer)
    assert (logits.softmax(-1) - expected.softmax(-1)).abs().max() <= 1e-3
    # which is less than computing in 16 bits does by itself
    monkeypatch.setenv("POSTTRAIN_DTYPE", "bfloat16")
    noise = trial_logits(load_policy(base, found.policy), tokenizer) - expected
    assert (logits - expected).norm() < noise.norm()


def test_a_qlora_adapter_is_never_merged_into_4_bits(base: BaseModel, tmp_path: Path) -> None:
    write_merged(version(base, "qlora", tmp_path), tmp_path / "out", torch.bfloat16)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.bfloat16}
    assert stored.keys() == load_file(base.path / "weights" / "model.safetensors").keys()
    about = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in about


def test_no_weights_hold_a_bottleneck(base: BaseModel, tmp_path: Path) -> None:
    found = version(base, "bottleneck", tmp_path)
    with pytest.raises(ValueError, match="is not linear and no weights can hold it; use --format"):
        write_merged(found, tmp_path / "out", torch.float32)


def test_full_fine_tuning_has_no_adapter(base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"changed every weight, .* use --format merged"):
        write_peft(version(base, "full", tmp_path), tmp_path / "out")


@pytest.mark.parametrize("method", ["lora", "qlora", "dora"])
@pytest.mark.parametrize("name", NAMES)
def test_a_peft_folder_loads_with_plain_peft_on_the_stock_base(
    name: str, method: Method, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    base = make_base(name, tokenizer, tmp_path / "base")
    _, expected = write_peft(version(base, method, tmp_path), tmp_path / "out")
    options = (
        {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.float32,
            )
        }
        if method == "qlora"
        else {}
    )
    stock = AutoModelForCausalLM.from_pretrained(base.path / "weights", **options)
    keep_trainable(stock)  # bitsandbytes computes in 16 bits on some CPUs unless it is told
    model = PeftModel.from_pretrained(stock, tmp_path / "out").eval()
    told = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert told.get_chat_template() == tokenizer.get_chat_template()
    assert torch.allclose(trial_logits(model, told), expected, rtol=0, atol=1e-6)


def test_a_peft_folder_has_what_servers_look_for(base: BaseModel, tmp_path: Path) -> None:
    write_peft(version(base, "lora", tmp_path), tmp_path / "out")
    names = {file.name for file in (tmp_path / "out").iterdir()}
    layout = ("adapter_config.json", "adapter_model.safetensors", "chat_template.jinja")
    assert names >= {*layout, "tokenizer.json", "tokenizer_config.json", "base"}
    about = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert about["base_model_name_or_path"] == "base"


def test_a_delta_goes_into_the_base_that_is_written(base: BaseModel, tmp_path: Path) -> None:
    first = make_policy(base, "lora", tmp_path / "first")
    folder = tmp_path / "with-delta"
    folder.mkdir()
    (first.path / "adapter").rename(folder / "delta")
    reference = Reference(kind="local", source=str(base.path / "weights"))
    tokenizer = load_tokenizer(base)
    second = seal(folder, "base_model", reference, base.path / "weights", tokenizer, has_delta=True)
    facts, expected = write_peft(version(second, "lora", tmp_path), tmp_path / "out")
    assert (facts.base.kind, facts.base.source) == ("own", "base")
    stock = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "base")
    model = PeftModel.from_pretrained(stock, tmp_path / "out").eval()
    assert torch.allclose(trial_logits(model, tokenizer), expected, rtol=0, atol=1e-5)


def test_plain_generate_answers_and_ends_as_ours(base: BaseModel, tmp_path: Path) -> None:
    found = version(base, "lora", tmp_path)
    write_merged(found, tmp_path / "out", torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    ends = end_tokens(tokenizer)
    asked = [[{"role": "user", "content": f"{i} what colour ?"}] for i in range(120)]
    prompts = encode_prompts(tokenizer, asked)
    sampling = Sampling(
        max_new_tokens=24, temperature=0, end_ids=ends, pad_id=ends[0], batch_size=32, seed=0
    )
    ours = generate(load_policy(found.base, found.policy), prompts, sampling)
    ended = [index for index, answer in enumerate(ours) if answer[-1] in ends]
    assert 0 < len(ended) < len(ours)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    for index in (ended[0], next(i for i in range(len(ours)) if i not in ended)):
        inputs = tokenizer.apply_chat_template(
            asked[index], add_generation_prompt=True, return_tensors="pt"
        )
        answer = model.generate(**inputs, max_new_tokens=24, do_sample=False)
        assert answer[0, inputs["input_ids"].shape[1] :].tolist() == ours[index]


def test_a_base_whose_generation_config_is_invalid_can_be_written(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    folder = tmp_path / "base"
    model = AutoModelForCausalLM.from_config(config("gpt2", tokenizer))
    model.save_pretrained(folder / "weights")
    # as published: a temperature without sampling, and ids of another model
    own = {"temperature": 0.6, "top_p": 0.9, "eos_token_id": 2, "bos_token_id": 1}
    (folder / "weights" / "generation_config.json").write_text(json.dumps(own))
    where = Reference(kind="own", source="weights")
    base = seal(folder, "base_model", where, folder / "weights", tokenizer, has_delta=False)
    write_merged(version(base, "lora", tmp_path), tmp_path / "out", torch.float32)
    written = GenerationConfig.from_pretrained(tmp_path / "out")
    assert (written.do_sample, written.temperature, written.top_p) == (True, 0.6, 0.9)
    assert written.eos_token_id == list(end_tokens(tokenizer))
    assert (written.bos_token_id, written.pad_token_id) == (None, tokenizer.pad_token_id)


@pytest.mark.parametrize("name", sorted(TURNS))
def test_tokenizers_of_every_style_are_read_back_as_they_were(name: str, tmp_path: Path) -> None:
    MODELS[name](tmp_path / "hub")
    tokenizer = read_tokenizer(tmp_path / "hub")
    opening, closing = (json.dumps(text) for text in TURNS[name])
    tokenizer.chat_template = TEMPLATE.replace("OPEN", opening).replace("CLOSE", closing)
    reference = Reference(kind="local", source=str(tmp_path / "hub"))
    (tmp_path / "base").mkdir()
    base = seal(
        tmp_path / "base", "base_model", reference, tmp_path / "hub", tokenizer, has_delta=False
    )
    found = version(base, "lora", tmp_path)
    _, expected = write_merged(found, tmp_path / "merged", torch.float32)
    merged, told, _ = load_exported(tmp_path / "merged")
    assert torch.allclose(trial_logits(merged, told), expected, rtol=0, atol=1e-5)
    write_peft(found, tmp_path / "peft")
    adapted, told, facts = load_exported(tmp_path / "peft")
    assert torch.allclose(trial_logits(adapted, told), expected, rtol=0, atol=1e-5)
    assert facts.base.source == str(tmp_path / "hub")
    ends = GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id
    assert told.convert_tokens_to_ids(TURNS[name][1]) in ends
