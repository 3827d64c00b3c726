"""C3: the loss of a token is the same whether its text shares a row with others or stands alone.

The rows and the collator are those of `posttrain.train.sft`.
"""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import SEED, conversations, lengths, make_base, make_tokens, texts
from posttrain.models.device import prepare as prepare_torch
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.train.collate import IGNORED, packed_collator
from posttrain.train.sft import EXAMPLES, packed


@torch.inference_mode()
def token_losses(model: PreTrainedModel, batch: dict[str, Tensor]) -> Tensor:
    """Losses of the labels of a batch of one row."""
    logits = model(
        input_ids=batch["input_ids"], position_ids=batch["position_ids"], use_cache=False
    ).logits
    labels = batch["labels"][0, 1:]
    losses = functional.cross_entropy(
        logits[0, :-1], labels, reduction="none", ignore_index=IGNORED
    )
    return losses[labels != IGNORED]


def prepare(bench: Bench) -> Prepared:
    """Rows of 512 tokens, and their texts one by one."""
    prepare_torch(SEED)
    base = make_base(bench)
    ids = texts(lengths(8 if bench.quick else 400))
    tokens = make_tokens(bench.folder / "tokens", instructions=conversations(ids))
    model = load_base(base)
    collate = packed_collator(model, load_tokenizer(base))
    rows = list(packed(tokens.path / EXAMPLES, tokens.facts.max_length, "train"))

    def compare(watch: Watch) -> None:
        gap = 0.0
        with watch.timing():
            for row in rows:
                together = token_losses(model, collate([row]))
                singles = row_singles(row)
                alone = torch.cat([token_losses(model, collate([one])) for one in singles])
                assert len(together) == len(alone) > 0
                gap = max(gap, float((together - alone).abs().max()))
        watch.count(sum(map(len, ids)))
        watch.note(gap=gap)

    facts = {"seed": SEED, "num_texts": len(ids), "num_rows": len(rows)}
    return Prepared([Arm("ours", compare)], facts)


def row_singles(row: dict[str, list[int]]) -> list[dict[str, list[int]]]:
    """A packed row's texts, each as a row of its own."""
    ends = torch.tensor(row["lengths"]).cumsum(0).tolist()
    return [
        {
            "input_ids": row["input_ids"][end - length : end],
            "labels": row["labels"][end - length : end],
            "lengths": [length],
        }
        for end, length in zip(ends, row["lengths"], strict=True)
    ]


ROW = Row(
    name="C3",
    title="Packed loss against unpacked, largest gap a token",
    targets=(
        Target(
            what="one text at a time",
            ours="ours",
            figure="gap",
            bound=1e-5,
            aim=0.0,
            at_most=True,
            unit="nats",
        ),
    ),
    prepare=prepare,
    num_turns=1,
    num_warm=0,
)
