import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from posttrain.artifacts import BaseModel, Records
from posttrain.data.chat import encode_prompts
from posttrain.models.base import resolve
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.base_model import BaseModelRecipe, FromConfig
from posttrain.recipe.preflight import Preflight

SYSTEM = {"role": "system", "content": "mine"}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_positions": 128,
    "vocabulary_size": 320,
}


def preflight(**changes: object) -> Preflight:
    values = {
        "target_modules": {"sft": "all-linear"},
        "longest_sequence": 64,
        "longest_fields": "tokenize.max_length",
        "chat_template": None,
        "system": None,
        "learn_prompts": False,
    }
    return Preflight.model_validate(values | changes)


def new(architecture: str, seed: int = 0) -> BaseModelRecipe:
    sizes = FromConfig.model_validate({"architecture": architecture, **SIZES})
    return BaseModelRecipe(source="from_config", from_config=sizes, seed=seed)


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text", "gpt2"])
def test_a_new_base_loads_with_the_sizes_asked_for(records: Records, architecture: str) -> None:
    base = resolve(records, new(architecture), preflight())
    model = load_base(base)
    assert base.facts.num_parameters == model.num_parameters()
    assert base.facts.vocabulary_size == 320
    assert base.facts.max_positions == 128
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_equal_seeds_give_equal_bases_and_others_do_not(records: Records) -> None:
    one, same, other = (resolve(records, new("llama", seed), preflight()) for seed in (0, 0, 1))
    assert one.facts.fingerprint == same.facts.fingerprint != other.facts.fingerprint
    assert one.content_hash() == same.content_hash()


def test_a_local_folder_is_referred_to_and_not_copied(records: Records, base: BaseModel) -> None:
    folder = base.path.parent / "local"
    if not folder.exists():
        shutil.copytree(base.path / "weights", folder)
        shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    local = resolve(records, BaseModelRecipe(source=str(folder)), preflight())
    assert local.facts.reference.kind == "local"
    assert not list(local.path.rglob("*.safetensors"))
    assert local.facts.fingerprint == base.facts.fingerprint


def test_a_base_other_than_the_pinned_one_is_refused(
    records: Records, base: BaseModel, tmp_path: Path
) -> None:
    folder = tmp_path / "local"
    shutil.copytree(base.path / "weights", folder)
    shutil.copytree(base.path / "tokenizer", folder, dirs_exist_ok=True)
    own = base.facts.fingerprint
    pinned = BaseModelRecipe(source=str(folder), fingerprint=own)
    assert resolve(records, pinned, preflight()).facts.fingerprint == own
    other = BaseModelRecipe(source=str(folder), fingerprint="0" * 64)
    message = f"base_model.fingerprint is {'0' * 64}, and that of {folder} is {own}: another model"
    with pytest.raises(ValueError, match=message):
        resolve(records, other, preflight())


def test_a_new_base_can_be_held_to_a_fingerprint_too(records: Records) -> None:
    made = resolve(records, new("llama"), preflight()).facts.fingerprint
    pinned = new("llama").model_copy(update={"fingerprint": made})
    assert resolve(records, pinned, preflight()).facts.fingerprint == made
    with pytest.raises(ValueError, match="and that of from_config is "):
        resolve(records, pinned.model_copy(update={"fingerprint": "0" * 64}), preflight())


def test_a_folder_without_safetensors_is_refused(records: Records, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(ValueError, match=r"holds no safetensors \(found: \['pytorch_model.bin'"):
        resolve(records, BaseModelRecipe(source=str(tmp_path)), preflight())


def test_alignment_05_unknown_target_module_names_the_nearest(records: Records) -> None:
    checks = preflight(target_modules={"sft": ("q_prog", "k_proj")})
    with pytest.raises(ValueError, match=r"sft.*no layer is named 'q_prog'; did you mean 'q_proj'"):
        resolve(records, new("llama"), checks)


def test_sequences_longer_than_the_positions_are_refused(records: Records) -> None:
    with pytest.raises(ValueError, match=r"asks for 500 tokens; the base has 128 positions"):
        resolve(records, new("llama"), preflight(longest_sequence=500))


def test_a_template_that_leaves_out_the_end_is_refused(records: Records, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text(
        "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}"
        "{% endgeneration %}<|end|>{% else %}{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    with pytest.raises(ValueError, match="would never learn to stop"):
        resolve(records, new("llama"), preflight(chat_template=str(template)))


def test_the_system_message_is_part_of_the_template(records: Records) -> None:
    plain = resolve(records, new("llama"), preflight())
    kind = resolve(records, new("llama"), preflight(system='be "kind"'))
    assert kind.facts.template_hash != plain.facts.template_hash
    tokenizer = load_tokenizer(kind)
    asked = [{"role": "user", "content": "red ?"}]
    texts = [tokenizer.decode(ids) for ids in encode_prompts(tokenizer, [asked, [SYSTEM, *asked]])]
    assert texts[0].startswith('<|system|> be "kind"<|end|>')
    assert texts[1].startswith("<|system|> mine<|end|>")


def test_a_missing_template_is_named(records: Records) -> None:
    with pytest.raises(ValueError, match=r"template.chat_template: no file nowhere.jinja"):
        resolve(records, new("llama"), preflight(chat_template="nowhere.jinja"))


def test_changed_weights_are_refused(records: Records) -> None:
    base = resolve(records, new("llama"), preflight())
    file = base.path / "weights" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"differs from its manifest in \['weights/model"):
        load_base(base)
