"""Resolve the base model: a hub id, a local folder, a registered version, or a new one.

The template is resolved here, once, and travels in the tokenizer: what Base FT, SFT, PPO and
inference render is one object with one hash.
"""

from pathlib import Path

import pyarrow.parquet as pq
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from posttrain.artifacts import BaseModel, Records
from posttrain.facts import Reference
from posttrain.models.candidate import check_fingerprint, find, resolve_template
from posttrain.models.code import NO_CODE, code_of
from posttrain.models.device import prepare
from posttrain.models.preflight import check
from posttrain.models.registered import from_registry
from posttrain.models.seal import seal, weights_folder_of
from posttrain.models.source import PREFIX
from posttrain.models.tokenizer import END, train_tokenizer
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
    has_delta, registered = False, None
    if recipe.from_config is not None:
        reference, tokenizer = _new(records, recipe.from_config, folder)
        config = AutoConfig.from_pretrained(str(folder / reference.source), **NO_CODE)
    elif recipe.source.startswith(PREFIX):
        taken = from_registry(recipe.source, folder)
        reference, tokenizer = taken.reference, taken.tokenizer
        has_delta, registered = taken.has_delta, taken.version
        config = AutoConfig.from_pretrained(
            str(weights_folder_of(reference, folder)), **code_of(reference)
        )
    else:
        found = find(recipe)
        reference, tokenizer, config = found.reference, found.tokenizer, found.config
        if recipe.fingerprint is not None:  # before its weights are downloaded
            check_fingerprint(found.fingerprint(), recipe.fingerprint, recipe.source)
    resolve_template(tokenizer, preflight)
    check(config, tokenizer, preflight)
    weights = weights_folder_of(reference, folder)
    base = seal(
        folder, "base_model", reference, weights, tokenizer, has_delta, registered=registered
    )
    check_fingerprint(base.facts.fingerprint, recipe.fingerprint, recipe.source)
    return base


def _new(
    records: Records, sizes: FromConfig, folder: Path
) -> tuple[Reference, PreTrainedTokenizerFast]:
    corpus = records.file("corpus")
    if not corpus.exists():
        raise ValueError("base_model.from_config trains its tokenizer on ingest.corpus: name one")
    rows = pq.read_table(corpus, columns=["text"], filters=[("split", "==", "train")])
    tokenizer = train_tokenizer(rows["text"].to_pylist(), sizes.vocabulary_size)
    model = AutoModelForCausalLM.from_config(config_of(sizes, tokenizer))
    model.save_pretrained(str(folder / "weights"))
    return Reference(kind="own", source="weights"), tokenizer


def config_of(sizes: FromConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
    """The configuration of a new model of these sizes."""
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
