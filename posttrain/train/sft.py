"""SFT: supervised fine-tuning on what the assistant says.

Runs on TRL's SFTTrainer. Examples come tokenized and masked; they are packed here by best fit, into
rows that TRL does not prepare again.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from posttrain import processes
from posttrain.align.forward import causal
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.contract import check_tokens, trained_on
from posttrain.data.packing import best_fit
from posttrain.facts import PolicyFacts
from posttrain.models.adapters import count_adapted, new_adapter, save_adapter
from posttrain.models.device import prepare
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.sft import SftRecipe
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.callbacks import EVAL_LOSS
from posttrain.train.checkpoints import Checkpoints, checkpoints_of
from posttrain.train.collate import IGNORED, packed_collator
from posttrain.train.cpu_head import add_cpu_head
from posttrain.train.held_out import HeldOutTrainer
from posttrain.train.trainer import arguments

ADAPTER = "default"  # the name that a stock PeftModel.from_pretrained gives
EXAMPLES = "instructions.parquet"


class SftTrainer(HeldOutTrainer, SFTTrainer):
    """TRL's trainer with whole checkpoints, a NaN that stops, and adapters in float32.

    TRL casts the adapter on a quantised base to bfloat16, whose steps of 1/256 lose most updates of
    a fine-tuning's learning rate. The weights that it was given are put back.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, **more: Any) -> None:
        given = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
        super().__init__(model=model, **more)
        add_cpu_head(causal(model))
        for name, parameter in model.named_parameters():
            if name in given and parameter.dtype != given[name].dtype:
                parameter.data = given[name].to(parameter.device)


def train(tokens: Tokens, domain: BaseModel, recipe: SftRecipe) -> Policy:
    """Fit the assistant's turns on the domain base.

    Raises:
        ValueError: the tokens hold no instructions, none held out where the recipe evaluates on
            them, or were made for another tokenizer.
    """
    check_tokens(tokens, domain)
    if not (tokens.path / EXAMPLES).exists():
        raise ValueError("sft: the run has no instructions; name ingest.instructions")
    runtime = prepare(recipe.seed)
    model = to_train(domain, recipe)
    checkpoints = checkpoints_of("sft", recipe, tokens, domain)
    folder = processes.by_main(lambda: runtime.new_folder("sft"))
    log_parameters("sft", recipe.model_dump())
    trainer = new_trainer(model, tokens, domain, recipe, checkpoints)
    figures = trainer.run(recipe, checkpoints, Curves(folder, "sft"))
    policy = processes.by_main(lambda: _seal(folder, domain, recipe, model, figures))
    counts = {"num_trainable": policy.facts.num_trainable}
    counts["num_adapted_modules"] = policy.facts.num_adapted_modules
    final = {name: value for name, value in figures.items() if name != EVAL_LOSS}  # has a curve
    log_figures(RESULT, {**final, **counts})
    processes.by_main(checkpoints.forget)
    return policy


def to_train(domain: BaseModel, recipe: SftRecipe) -> PreTrainedModel | PeftModel:
    """The domain base whose weights train, or frozen with a fresh adapter by the method."""
    if recipe.method == "full":
        return load_base(domain, trainable=True)
    quantization = recipe.quantization if recipe.method == "qlora" else None
    adapter = recipe.bottleneck if recipe.method == "bottleneck" else recipe.lora
    model = load_base(domain, quantization=quantization)
    return new_adapter(model, adapter, ADAPTER, dora=recipe.method == "dora")


def new_trainer(
    model: PreTrainedModel | PeftModel,
    tokens: Tokens,
    domain: BaseModel,
    recipe: SftRecipe,
    checkpoints: Checkpoints,
) -> SftTrainer:
    """TRL's trainer over packed rows of the training split."""
    tokenizer = load_tokenizer(domain)
    rows = list(packed(tokens.path / EXAMPLES, tokens.facts.max_length, "train"))
    trainer = SftTrainer(
        model=model,
        args=arguments(
            recipe,
            checkpoints,
            SFTConfig,
            model,
            dataset_kwargs={"skip_prepare_dataset": True},
            remove_unused_columns=False,
            max_length=None,  # longer examples were dropped and counted by tokenize
        ),
        train_dataset=Dataset.from_list(rows),
        data_collator=packed_collator(model, tokenizer),
        processing_class=tokenizer,
    )
    if recipe.evaluate_each_epoch:
        trainer.evaluate_on(held_out(tokens))
    return trainer


def held_out(tokens: Tokens) -> list[dict[str, list[Any]]]:
    """Packed rows of the conversations that no stage trains on.

    Raises:
        ValueError: there are none.
    """
    rows = list(packed(tokens.path / EXAMPLES, tokens.facts.max_length, "held_out"))
    if not rows:
        raise ValueError(
            "sft.evaluate_each_epoch is true, and no conversation is held out; set "
            "ingest.instructions.held_out_share above 0, name a source with a `split` column that "
            "holds 'held_out', or set sft.evaluate_each_epoch to false"
        )
    return rows


def packed(examples: Any, capacity: int, split: str) -> Iterator[dict[str, list[Any]]]:
    """A split's rows of `input_ids`, `labels` and `lengths`, each of at most `capacity` tokens.

    `ids` are those of the examples in a row.
    """
    columns = ["id", "input_ids", "assistant_mask"]
    table = pq.read_table(examples, columns=columns, filters=[("split", "==", split)])
    names, ids, masks = (table[name].to_pylist() for name in columns)
    labels = [
        [token if on else IGNORED for token, on in zip(*pair, strict=True)]
        for pair in zip(ids, masks, strict=True)
    ]
    for row in best_fit([len(one) for one in ids], capacity):
        yield {
            "input_ids": [token for i in row for token in ids[i]],
            "labels": [label for i in row for label in labels[i]],
            "lengths": [len(ids[i]) for i in row],
            "ids": [names[i] for i in row],
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
            quantization=recipe.quantization if recipe.method == "qlora" else None,
            num_trainable=num_trainable,
            num_adapted_modules=num_modules,
            recipe=recipe.model_dump(),
            figures=figures,
        ),
    )
