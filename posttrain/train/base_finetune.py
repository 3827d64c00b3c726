"""Base FT: continued pretraining on packed documents; what it makes is a new base.

Runs on Transformers' Trainer. `full` writes weights of our own; `lora` writes a delta beside the
reference, merged on loading, so that a hub base's weights are never copied.
"""

import math
from pathlib import Path
from typing import cast

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, TrainingArguments

from posttrain import processes
from posttrain.artifacts import BaseModel, Tokens
from posttrain.contract import check_tokens
from posttrain.facts import BaseTraining, Reference
from posttrain.models.adapters import new_adapter, save_adapter
from posttrain.models.device import prepare
from posttrain.models.load import load_base
from posttrain.models.seal import seal, weights_folder
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.base_finetune import BaseFinetuneRecipe
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.checkpoints import checkpoints_of
from posttrain.train.collate import packed_collator
from posttrain.train.trainer import GuardedTrainer, arguments


def train(tokens: Tokens, base: BaseModel, recipe: BaseFinetuneRecipe) -> BaseModel:
    """Train `base` on the blocks of the corpus.

    Returns:
        The domain base; `base` itself with `method: none`.

    Raises:
        ValueError: the tokens hold no corpus.
    """
    if recipe.method == "none":
        return base
    check_tokens(tokens, base)
    corpus = tokens.path / "corpus.parquet"
    if not corpus.exists():
        raise ValueError(
            "base_finetune: the run has no corpus; name ingest.corpus, or set "
            "base_finetune.method to none"
        )
    runtime = prepare(recipe.seed)
    model: PreTrainedModel | PeftModel = load_base(base, trainable=recipe.method == "full")
    if recipe.method == "lora":
        model = new_adapter(cast(PreTrainedModel, model), recipe.lora)
    checkpoints = checkpoints_of("base_finetune", recipe, tokens, base)
    folder = processes.by_main(lambda: runtime.new_folder("base_finetune"))
    log_parameters("base_finetune", recipe.model_dump())
    trainer = GuardedTrainer(
        model=model,
        args=arguments(recipe, checkpoints, TrainingArguments, model, remove_unused_columns=False),
        train_dataset=Dataset.from_parquet(
            str(corpus), cache_dir=str(runtime.cache), filters=[("split", "==", "train")]
        ),
        data_collator=packed_collator(model, load_tokenizer(base)),
    )
    figures = trainer.run(recipe, checkpoints, Curves(folder, "base_finetune"))
    log_figures(RESULT, figures)
    domain = processes.by_main(lambda: _seal(folder, base, recipe, model, figures))
    processes.by_main(checkpoints.forget)
    return domain


def _seal(
    folder: Path,
    base: BaseModel,
    recipe: BaseFinetuneRecipe,
    model: PreTrainedModel | PeftModel,
    figures: dict[str, float],
) -> BaseModel:
    """A delta beside the reference where that suffices, else weights of our own."""
    reference = base.facts.reference
    as_delta = recipe.method == "lora" and reference.kind != "own" and not base.facts.has_delta
    if as_delta:
        save_adapter(cast(PeftModel, model), "default", folder / "delta")
    else:
        whole = model.merge_and_unload() if isinstance(model, PeftModel) else model
        whole.save_pretrained(str(folder / "weights"))
        reference = Reference(kind="own", source="weights")
    weights = weights_folder(base) if as_delta else folder / "weights"
    tokenizer = load_tokenizer(base)
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    training = BaseTraining(recipe=recipe.model_dump(), figures=finite)  # JSON has no NaN
    return seal(folder, "base_finetune", reference, weights, tokenizer, as_delta, training)
