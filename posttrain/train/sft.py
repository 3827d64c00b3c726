"""SFT: supervised fine-tuning on what the assistant says.

Runs on TRL's SFTTrainer. Examples come tokenized and masked; they are packed here by best fit, into
rows that TRL does not prepare again (its own packing flattens a batch into one row, whose attention
costs the square of the batch on a CPU).
"""

from collections.abc import Iterator
from typing import Any, cast

import pyarrow.parquet as pq
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from posttrain import processes
from posttrain.artifacts import BaseModel, Policy, PolicyFacts, Tokens
from posttrain.contract import check_tokens, trained_on
from posttrain.data.packing import best_fit
from posttrain.models.device import prepare
from posttrain.models.load import count_adapted, load_base, new_adapter, save_adapter
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.sft import SftRecipe
from posttrain.tracking import Curves, log_figures, log_parameters
from posttrain.train.checkpoints import checkpoints_of
from posttrain.train.collate import IGNORED, packed_collator
from posttrain.train.trainer import GuardedTrainer, arguments

ADAPTER = "default"  # the name that a stock PeftModel.from_pretrained gives


class SftTrainer(GuardedTrainer, SFTTrainer):
    """TRL's trainer with whole checkpoints and a NaN that stops."""


def train(tokens: Tokens, domain: BaseModel, recipe: SftRecipe) -> Policy:
    """Fit the assistant's turns on the domain base.

    Raises:
        ValueError: the tokens hold no instructions, or were made for another tokenizer.
    """
    check_tokens(tokens, domain)
    examples = tokens.path / "instructions.parquet"
    if not examples.exists():
        raise ValueError("sft: the run has no instructions; name ingest.instructions")
    runtime = prepare(recipe.seed)
    tokenizer = load_tokenizer(domain)
    model: PreTrainedModel | PeftModel = load_base(domain, trainable=recipe.method == "full")
    if recipe.method == "lora":
        model = new_adapter(cast(PreTrainedModel, model), recipe.lora, ADAPTER)
    checkpoints = checkpoints_of("sft", recipe, tokens, domain)
    folder = processes.by_main(lambda: runtime.new_folder("sft"))
    log_parameters("sft", recipe.model_dump())
    trainer = SftTrainer(
        model=model,
        args=arguments(
            recipe,
            checkpoints,
            SFTConfig,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,  # longer examples were dropped and counted by tokenize
        ),
        train_dataset=Dataset.from_list(list(packed(examples, tokens.facts.max_length))),
        data_collator=packed_collator(model, tokenizer),
        processing_class=tokenizer,
    )
    figures = trainer.run(recipe, checkpoints, Curves(folder, "sft"))
    policy = processes.by_main(lambda: _seal(folder, domain, recipe, model, figures))
    counts = {"num_trainable": policy.facts.num_trainable}
    counts["num_adapted_modules"] = policy.facts.num_adapted_modules
    log_figures("sft", {**figures, **counts})
    processes.by_main(checkpoints.forget)
    return policy


def packed(examples: Any, capacity: int) -> Iterator[dict[str, list[int]]]:
    """Training rows of `input_ids`, `labels` and `lengths`, each of at most `capacity` tokens."""
    columns = ["input_ids", "assistant_mask"]
    table = pq.read_table(examples, columns=columns, filters=[("split", "==", "train")])
    ids, masks = (table[name].to_pylist() for name in columns)
    labels = [
        [token if on else IGNORED for token, on in zip(*pair, strict=True)]
        for pair in zip(ids, masks, strict=True)
    ]
    for row in best_fit([len(one) for one in ids], capacity):
        yield {
            "input_ids": [token for i in row for token in ids[i]],
            "labels": [label for i in row for label in labels[i]],
            "lengths": [len(ids[i]) for i in row],
        }


def _seal(
    folder: Any,
    domain: BaseModel,
    recipe: SftRecipe,
    model: PreTrainedModel | PeftModel,
    figures: dict[str, float],
) -> Policy:
    if isinstance(model, PeftModel):
        save_adapter(model, ADAPTER, folder / "adapter")
        num_modules, num_trainable = count_adapted(model, ADAPTER)
    else:
        model.save_pretrained(str(folder / "weights"))
        num_modules, num_trainable = 0, model.num_parameters()
    return Policy.write(
        folder,
        "sft",
        PolicyFacts(
            trained_on=trained_on(domain),
            method=recipe.method,
            num_trainable=num_trainable,
            num_adapted_modules=num_modules,
            recipe=recipe.model_dump(),
            figures=figures,
        ),
    )
