"""TRL's SFTTrainer as it comes, and with its packing: LoRA, everything else at its defaults.

Told, since equal work needs it: the adapter's rank, scale and layers, one pass, no report to a
tracker. What is left at the defaults: batches of 8, padding to the longest of a batch, activation
checkpointing, bfloat16, linear schedule.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def trainer_of(
    model: Path, tokenizer: Path, texts: Sequence[Sequence[int]], folder: Path, **more: Any
) -> SFTTrainer:
    """The trainer over texts that are tokenised already.

    Args:
        model: folder of the base's weights.
        tokenizer: its folder.
        texts: ids.
        folder: to write to.
        more: what is not left at its default.
    """
    settings = SFTConfig(
        output_dir=str(folder),
        num_train_epochs=1,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        **more,
    )
    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model),
        args=settings,
        train_dataset=Dataset.from_list([{"input_ids": list(text)} for text in texts]),
        processing_class=AutoTokenizer.from_pretrained(tokenizer),
        peft_config=LoraConfig(
            r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"
        ),
    )
