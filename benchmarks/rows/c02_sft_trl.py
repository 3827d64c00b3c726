"""C2: LoRA SFT, against stock TRL and against TRL's packing.

A step is of as much on both sides: 8 texts of TRL's or a packed row of ours, and 8 packed rows of
either. TRL computes in bfloat16 by default.
"""

from pathlib import Path
from typing import Any

from benchmarks.baselines import trl_sft
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import (
    MAX_LENGTH,
    SEED,
    conversations,
    lengths,
    make_base,
    make_tokens,
    texts,
)
from benchmarks.ours import loss_a_token, sft_arm
from benchmarks.rows.c01_sft_padded import BFLOAT16
from posttrain.models.device import prepare as prepare_torch
from posttrain.recipe.sft import SftRecipe

ROWS = 8
"""TRL's default batch."""


def prepare(bench: Bench) -> Prepared:
    """The same texts for all."""
    prepare_torch(SEED)
    base = make_base(bench)
    ids = texts(lengths(12 if bench.quick else 160))
    tokens = make_tokens(bench.folder / "tokens", instructions=conversations(ids))
    num_tokens = sum(map(len, ids))

    def recipe(rows: int) -> SftRecipe:
        return SftRecipe(learning_rate=2e-5, num_epochs=1, batch_size=rows)

    def trl(name: str, **more: Any) -> Arm:
        folders = base.path / "weights", base.path / "tokenizer"

        def run(watch: Watch) -> None:
            prepare_torch(SEED)
            trainer = trl_sft.trainer_of(*folders, ids, Path(bench.folder / name), **more)
            watch.note(loss=loss_a_token(trainer))
            with watch.timing():
                trainer.train()
            watch.count(num_tokens)

        return Arm(name, run, "bfloat16")

    def ours(name: str, rows: int, dtype: Any) -> Arm:
        return sft_arm(name, bench, base, tokens, recipe(rows), num_tokens, dtype)

    arms = [
        ours("ours", 1, "float32"),
        ours("ours, bfloat16", 1, "bfloat16"),
        trl("TRL"),
        ours("ours, 8 rows", ROWS, "float32"),
        ours("ours, 8 rows, bfloat16", ROWS, "bfloat16"),
        trl("TRL, packing", packing=True, max_length=MAX_LENGTH),
    ]
    return Prepared(arms, {"seed": SEED, "texts": len(ids), "rank": recipe(1).lora.rank})


def against(what: str, ours: str, theirs: str, bound: float, aim: float) -> Target:
    """A comparison."""
    return Target(what=what, ours=ours, theirs=theirs, bound=bound, aim=aim)


ROW = Row(
    name="C2",
    title="LoRA SFT, real tokens/s",
    targets=(
        against("stock TRL", "ours", "TRL", 3, 7),
        against("stock TRL; ours in bfloat16", "ours, bfloat16", "TRL", 3, 7),
        against("TRL's packing", "ours, 8 rows", "TRL, packing", 1, 2.5),
        against(
            "TRL's packing; ours in bfloat16", "ours, 8 rows, bfloat16", "TRL, packing", 1, 2.5
        ),
    ),
    prepare=prepare,
    equal={"loss": BFLOAT16},
)
