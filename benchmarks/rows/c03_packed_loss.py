"""C3: the loss of a token is the same whether its text shares a row with others or stands alone.

Rows, collator, model and output layer are those of SFT's trainer.
"""

import torch
from torch import Tensor

from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import SEED, conversations, lengths, make_base, make_tokens, texts
from posttrain.models.device import prepare as prepare_torch
from posttrain.recipe.sft import SftRecipe
from posttrain.train import sft
from posttrain.train.checkpoints import checkpoints_of


def prepare(bench: Bench) -> Prepared:
    """Rows of 512 tokens, and their texts one by one."""
    prepare_torch(SEED)
    base = make_base(bench)
    ids = texts(lengths(8 if bench.quick else 400))
    tokens = make_tokens(bench.folder / "tokens", instructions=conversations(ids))
    recipe = SftRecipe(method="full", learning_rate=1e-5, num_epochs=1, batch_size=1)
    checkpoints = checkpoints_of("sft", recipe, tokens, base)
    trainer = sft.new_trainer(sft.to_train(base, recipe), tokens, base, recipe, checkpoints)
    model, rows = trainer.model.eval(), list(trainer.train_dataset)

    @torch.no_grad()
    def token_losses(row: dict[str, list[int]]) -> Tensor:
        found = model(**trainer.data_collator([row]), use_cache=False, fused_lm_head=True)
        return -found.log_probs[found.label_mask]

    def compare(watch: Watch) -> None:
        gap = 0.0
        with watch.timing():
            for row in rows:
                together = token_losses(row)
                singles = row_singles(row)
                alone = torch.cat([token_losses(one) for one in singles])
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
