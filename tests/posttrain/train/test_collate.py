import pytest
import torch
from transformers import PreTrainedTokenizerFast

from posttrain.artifacts import BaseModel
from posttrain.models.load import load_base
from posttrain.train.collate import IGNORED, PackedCollator

ROWS = [
    {"input_ids": [5, 6, 7, 8, 9], "labels": [IGNORED, 6, 7, 8, 9], "lengths": [3, 2]},
    {"input_ids": [10, 11], "labels": [10, 11], "lengths": [2]},
]


def test_positions_restart_and_first_labels_are_masked() -> None:
    batch = PackedCollator(pad_id=0)(ROWS)
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1], [0, 1, 0, 1, 2]]
    assert batch["labels"].tolist() == [
        [IGNORED, 6, 7, IGNORED, 9],
        [IGNORED, 11, IGNORED, IGNORED, IGNORED],
    ]
    assert set(batch) == {"input_ids", "labels", "position_ids"}


def test_flatten_gives_one_row_without_padding() -> None:
    batch = PackedCollator(pad_id=0, flatten=True)(ROWS)
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0, 1]]


@pytest.mark.parametrize("flatten", [False, True])
def test_alignment_04_packed_loss_equals_unpacked_loss(base: BaseModel, flatten: bool) -> None:
    model = load_base(base)
    documents = [[7, 8, 9, 10], [11, 12, 13], [14, 15, 16, 17, 18, 19], [20, 21]]
    rows = [
        {"input_ids": documents[0] + documents[1], "lengths": [4, 3]},
        {"input_ids": documents[2] + documents[3], "lengths": [6, 2]},
    ]
    packed = PackedCollator(pad_id=0, flatten=flatten)(rows)
    with torch.no_grad():
        together = model(**packed, use_cache=False).loss
        alone = [
            model(input_ids=(ids := torch.tensor([one])), labels=ids, use_cache=False).loss
            * (len(one) - 1)
            for one in documents
        ]
    expected = sum(alone) / sum(len(one) - 1 for one in documents)
    assert abs(float(together) - float(expected)) < 1e-5


def test_the_end_token_may_pad(base: BaseModel, tokenizer: PreTrainedTokenizerFast) -> None:
    end = tokenizer.eos_token_id
    rows = [{"input_ids": [5, 6, end], "lengths": [3]}, {"input_ids": [7, end], "lengths": [2]}]
    labels = PackedCollator(pad_id=end)(rows)["labels"]
    assert labels.tolist() == [[IGNORED, 6, end], [IGNORED, end, IGNORED]]
