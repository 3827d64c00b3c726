"""A supervised pass over given answers: token ids, and a mask of what is learned in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import TrainingArguments

from posttrain.align.forward import pad_right
from posttrain.models.adapters import fill_adapter, save_adapter
from posttrain.recipe.train import TrainRecipe
from posttrain.train.checkpoints import Checkpoints
from posttrain.train.collate import IGNORED
from posttrain.train.trainer import GuardedTrainer, arguments


@dataclass(frozen=True)
class Example:
    """A conversation with the mask of what is learned in it."""

    input_ids: list[int]
    learned: list[bool]
    id: str = ""
    """Of the prompt or the example; empty where it only fills a batch up."""

    @classmethod
    def of(cls, prompt: Sequence[int], response: Sequence[int], id: str = "") -> "Example":
        """A prompt as context and a response to learn, its end token included."""
        return cls([*prompt, *response], [False] * len(prompt) + [True] * len(response), id)


@dataclass(frozen=True)
class ExampleCollator:
    """Padded on the right; masks come from lengths, never from ids."""

    pad_id: int

    @property
    def blank(self) -> Example:
        """A row that teaches nothing."""
        return Example([self.pad_id], [False])

    def __call__(self, examples: Sequence[Example]) -> Mapping[str, Tensor]:
        ids_BS, mask_BS = pad_right(
            [example.input_ids for example in examples], self.pad_id, torch.device("cpu")
        )
        learned_BS, _ = pad_right([example.learned for example in examples], 0, torch.device("cpu"))
        labels_BS = ids_BS.masked_fill(learned_BS == 0, IGNORED)
        return {"input_ids": ids_BS, "attention_mask": mask_BS, "labels": labels_BS}


class Imitation(GuardedTrainer):
    """Transformers' Trainer over batches of like lengths, training one adapter among others."""

    def __init__(
        self,
        model: PeftModel,
        adapter: str,
        examples: Sequence[Example],
        recipe: TrainRecipe,
        checkpoints: Checkpoints,
        pad_id: int,
    ) -> None:
        super().__init__(
            model=cast(Any, model),
            args=arguments(
                recipe, checkpoints, TrainingArguments, model, remove_unused_columns=False
            ),
            train_dataset=cast(Any, examples),
            data_collator=cast(Any, ExampleCollator(pad_id)),
        )
        self.adapter = adapter
        self.lengths = [len(example.input_ids) for example in examples]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(cast(PeftModel, self.model), self.adapter, folder / "adapter")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint) / "adapter"
        fill_adapter(cast(PeftModel, self.model), self.adapter, folder)
