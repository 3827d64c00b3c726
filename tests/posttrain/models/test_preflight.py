"""Mistakes that the pre-flight finds in seconds, each by its message."""

import pytest
import torch
from transformers import GPT2Config, LlamaConfig, OPTConfig, PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.preflight import check, check_memory, find_problems
from posttrain.models.tokenizer import load_tokenizer, with_system
from posttrain.recipe.preflight import Preflight
from posttrain.recipe.train import LoraRecipe
from posttrain.recipe.workload import Workload

CONFIG = LlamaConfig(
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=1,
    num_attention_heads=2,
    vocab_size=320,
    max_position_embeddings=128,
)


def preflight(**changes: object) -> Preflight:
    values = {
        "target_modules": {"sft": "all-linear"},
        "longest_sequence": 128,
        "longest_fields": "tokenize.max_length + ppo.max_new_tokens",
        "chat_template": None,
        "system": None,
        "learn_prompts": False,
    }
    return Preflight.model_validate(values | changes)


def test_a_sequence_of_all_positions_passes(tokenizer: PreTrainedTokenizerFast) -> None:
    check(CONFIG, tokenizer, preflight())


def test_a_longer_one_names_the_fields_that_ask_for_it(tokenizer: PreTrainedTokenizerFast) -> None:
    message = (
        r"tokenize.max_length \+ ppo.max_new_tokens asks for 129 tokens; the base has 128 "
        "positions: lower it, or choose another base"
    )
    with pytest.raises(ValueError, match=message):
        check(CONFIG, tokenizer, preflight(longest_sequence=129))


def test_a_target_that_no_layer_bears_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    message = r"sft.lora.target_modules: no layer is named 'q_prog'; did you mean 'q_proj'\?"
    with pytest.raises(ValueError, match=message):
        check(CONFIG, tokenizer, preflight(target_modules={"sft": ("k_proj", "q_prog")}))


def test_blocks_without_a_place_for_bottlenecks_are_refused(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    check(CONFIG, tokenizer, preflight(bottleneck=("sft",)))
    other = OPTConfig(
        hidden_size=16, ffn_dim=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=320
    )
    message = "sft.method bottleneck: OPTForCausalLM does not have self_attn.o_proj and mlp.down"
    with pytest.raises(ValueError, match=message):
        check(other, tokenizer, preflight(bottleneck=("sft",)))


def test_no_memory_is_taken_for_the_weights(tokenizer: PreTrainedTokenizerFast) -> None:
    huge = LlamaConfig(**{**CONFIG.to_dict(), "hidden_size": 1 << 20, "intermediate_size": 1 << 20})
    check(huge, tokenizer, preflight())
    assert torch.get_default_device() == torch.device("cpu")


def test_a_tokenizer_without_a_template_is_refused(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base)  # its own copy: the fixture is the session's
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match=r"no chat template; name one in template.chat_template"):
        check(CONFIG, tokenizer, preflight())


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("q_proj", "c_attn"),
        ("gate_proj", "c_fc"),
        ("down_proj", "mlp.c_proj"),
        ("o_proj", "attn.c_proj"),
        ("c_attnn", "c_attn"),
    ],
)
def test_a_name_of_another_architecture_finds_its_kin(
    target: str, near: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    sizes = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=128, vocab_size=320)
    (problem,) = find_problems(sizes, tokenizer, preflight(target_modules={"sft": (target,)}))
    assert problem == (
        f"sft.lora.target_modules: no layer is named {target!r}; did you mean {near!r}? "
        "(layers: ['c_attn', 'c_fc', 'c_proj', 'lm_head'])"
    )


def test_a_dotted_target_is_matched_as_peft_matches_it(tokenizer: PreTrainedTokenizerFast) -> None:
    check(CONFIG, tokenizer, preflight(target_modules={"sft": ("self_attn.q_proj",)}))
    with pytest.raises(ValueError, match=r"no layer is named 'mlp.q_proj'"):
        check(CONFIG, tokenizer, preflight(target_modules={"sft": ("mlp.q_proj",)}))


def test_all_problems_are_named_at_once(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = None
    asked = preflight(longest_sequence=129, target_modules={"sft": ("q_prog", "k_prog")})
    with pytest.raises(ValueError, match=r"^4 problems:\n- tokenize.max_length") as raised:
        check(CONFIG, tokenizer, asked)
    assert str(raised.value).count("\n- ") == 4


def test_a_template_without_marks_says_where_another_is_named(base: BaseModel) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    message = (
        r"marks 0 of 1 assistant turns with \{% generation %\}; put the marks around .* or name a "
        "template that has them in template.chat_template"
    )
    with pytest.raises(ValueError, match=message):
        check(CONFIG, tokenizer, preflight())


REFUSING = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}"
)
DROPPING = "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] }}{% endif %}"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            REFUSING,
            r"refuses a system message \(System role not supported\); leave template.system",
        ),
        (f"{DROPPING}{{% endfor %}}", "drops the system message; leave template.system out"),
    ],
)
def test_a_template_that_takes_no_system_message_is_refused(
    template: str, message: str, base: BaseModel
) -> None:
    tokenizer = load_tokenizer(base)
    tokenizer.chat_template = with_system(template, "be kind")
    with pytest.raises(ValueError, match=rf"template.system: the chat template {message}"):
        check(CONFIG, tokenizer, preflight(system="be kind", learn_prompts=True))


def huge(**changes: object) -> Preflight:
    work = Workload(
        stage="sft",
        lora=LoraRecipe(),
        num_adapters=1,
        num_learning=1,
        rows=1,
        length=8,
        reads="hidden",
        advice={"weights": "set sft.method to qlora, or choose a smaller base_model.source"},
    )
    return preflight(workloads=(work,), **changes)


WIDE = LlamaConfig(**{**CONFIG.to_dict(), "hidden_size": 1 << 20, "head_dim": 1 << 19})


def test_too_little_memory_is_refused_where_stages_surely_run_here(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DEVICE", "cpu")
    message = (
        r"sft takes [\d.]+ GiB without activations, [\d.]+ GiB of it weights, and this "
        r"machine has [\d.]+ GiB: set sft.method to qlora"
    )
    with pytest.raises(ValueError, match=message):
        check(WIDE, tokenizer, huge())


def test_and_only_warned_of_where_another_machine_may_train(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTTRAIN_DEVICE", "auto")
    check(WIDE, tokenizer, huge())
    assert [warning[:9] for warning in check_memory(WIDE, huge()).warnings] == ["sft takes"]


def test_an_architecture_without_an_estimate_is_not_refused() -> None:
    odd = OPTConfig(hidden_size=16, num_attention_heads=3, num_hidden_layers=1, vocab_size=320)
    found = check_memory(odd, huge())
    assert found.problems == ()
    assert found.warnings[0].startswith("memory: no estimate for opt: ")
