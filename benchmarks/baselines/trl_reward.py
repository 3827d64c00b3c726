"""TRL's RewardTrainer as it comes: all weights, everything at its defaults but for the passes."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from benchmarks.baselines.tutorial_reward import Sides


def trainer_of(
    model: Path, tokenizer: Path, pairs: Sequence[Sides], folder: Path, num_epochs: int
) -> RewardTrainer:
    """The trainer over pairs that are tokenised already."""
    settings = RewardConfig(
        output_dir=str(folder),
        num_train_epochs=num_epochs,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    rows = [{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in pairs]
    return RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(model, num_labels=1),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(tokenizer),
    )
