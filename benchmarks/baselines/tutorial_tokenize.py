"""Conversations to token ids as tutorials do it: one row at a time, padded to the longest allowed.

After the documents on SFT: `map` with a function of one example, `padding="max_length"`, labels a
copy of the ids; the data set is then saved as it is.
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerFast


def tokenize(
    rows: list[dict[str, Any]],
    tokenizer: PreTrainedTokenizerFast,
    max_length: int,
    target: Path,
    folder: Path,
) -> int:
    """Encode and save the rows' messages; how many tokens are no padding.

    Args:
        rows: each with `messages`.
        tokenizer: with a chat template.
        max_length: tokens that every row is padded to.
        target: where the data set goes.
        folder: where `map` keeps what it has made.
    """

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        encoded = tokenizer(
            text,
            add_special_tokens=False,
            padding="max_length",
            truncation=True,
            max_length=max_length,
        )
        return {**encoded, "labels": list(encoded["input_ids"])}

    folder.mkdir(parents=True, exist_ok=True)
    made = Dataset.from_list(rows).map(
        encode, load_from_cache_file=False, cache_file_name=str(folder / "map.arrow")
    )
    made.save_to_disk(str(target))
    return sum(map(sum, made["attention_mask"]))
