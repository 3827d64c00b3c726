"""Resolve the base model: a hub id, a local folder, a registered version, or a new one.

The template is resolved here, once, and travels in the tokenizer: what Base FT, SFT, PPO and
inference render is one object with one hash.
"""

from pathlib import Path

import pyarrow.parquet as pq
from huggingface_hub import HfApi
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from posttrain.artifacts import BaseModel, Records, Reference
from posttrain.models.device import prepare
from posttrain.models.preflight import check
from posttrain.models.registered import PREFIX, from_registry
from posttrain.models.seal import seal, weights_folder_of
from posttrain.models.tokenizer import (
    END,
    read_tokenizer,
    train_tokenizer,
    with_system,
)
from posttrain.recipe.base_model import BaseModelRecipe, FromConfig
from posttrain.recipe.preflight import Preflight


def resolve(records: Records, recipe: BaseModelRecipe, preflight: Preflight) -> BaseModel:
    """Make the run's base, and check against it what later stages will ask of it.

    Raises:
        ValueError: the source cannot be used, or a later stage would fail on it.
    """
    records.verify()
    runtime = prepare(recipe.seed)
    folder = runtime.new_folder("base_model")
    has_delta = False
    if recipe.from_config is not None:
        reference, tokenizer = _new(records, recipe.from_config, folder)
    elif Path(recipe.source).is_dir():
        reference, tokenizer = _local(Path(recipe.source), folder)
    elif recipe.source.startswith(PREFIX):
        reference, tokenizer, has_delta = from_registry(recipe.source, folder)
    else:
        reference, tokenizer = _hub(recipe.source, recipe.revision)
    if preflight.chat_template is not None:
        tokenizer.chat_template = _read_template(Path(preflight.chat_template))
    if preflight.system is not None:
        tokenizer.chat_template = with_system(tokenizer.get_chat_template(), preflight.system)
    weights = weights_folder_of(reference, folder)
    config = AutoConfig.from_pretrained(str(weights))
    check(config, tokenizer, preflight)
    return seal(folder, "base_model", reference, weights, tokenizer, has_delta)


def _hub(source: str, revision: str) -> tuple[Reference, PreTrainedTokenizerFast]:
    info = HfApi().model_info(source, revision=revision)
    files = [file.rfilename for file in info.siblings or []]
    if not any(name.endswith(".safetensors") for name in files):
        raise ValueError(
            f"base_model.source: {source}@{revision} holds no safetensors; pickled weights are "
            "never loaded: convert it, or name a revision that has them"
        )
    return Reference(kind="hub", source=source, revision=info.sha), read_tokenizer(source, info.sha)


def _local(source: Path, folder: Path) -> tuple[Reference, PreTrainedTokenizerFast]:
    if not list(source.glob("*.safetensors")):
        raise ValueError(
            f"base_model.source: {source} holds no safetensors (found: "
            f"{sorted(file.name for file in source.iterdir())})"
        )
    return Reference(kind="local", source=str(source.resolve())), read_tokenizer(source)


def _new(
    records: Records, sizes: FromConfig, folder: Path
) -> tuple[Reference, PreTrainedTokenizerFast]:
    corpus = records.file("corpus")
    if not corpus.exists():
        raise ValueError("base_model.from_config trains its tokenizer on ingest.corpus: name one")
    rows = pq.read_table(corpus, columns=["text"], filters=[("split", "==", "train")])
    tokenizer = train_tokenizer(rows["text"].to_pylist(), sizes.vocabulary_size)
    model = AutoModelForCausalLM.from_config(_config(sizes, tokenizer))
    model.save_pretrained(str(folder / "weights"))
    return Reference(kind="own", source="weights"), tokenizer


def _config(sizes: FromConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
    }
    if sizes.architecture == "gpt2":
        return GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=sizes.hidden_size,
            n_inner=sizes.intermediate_size,
            n_layer=sizes.num_layers,
            n_head=sizes.num_heads,
            n_positions=sizes.max_positions,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **ids,
        )
    common = {
        "vocab_size": len(tokenizer),
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads,
        "num_key_value_heads": sizes.num_kv_heads,
        "head_dim": sizes.hidden_size // sizes.num_heads,
        "max_position_embeddings": sizes.max_positions,
        "tie_word_embeddings": True,
        **ids,
    }
    if sizes.architecture == "llama":
        return LlamaConfig(**common)
    return Gemma3TextConfig(
        query_pre_attn_scalar=sizes.hidden_size // sizes.num_heads,
        sliding_window=sizes.max_positions // 2,
        **common,
    )


def _read_template(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"template.chat_template: no file {path}; name a Jinja template")
    return path.read_text(encoding="utf-8")
