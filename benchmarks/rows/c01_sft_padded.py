"""C1: SFT of all weights on packed rows, against every text padded to 512.

Both make an optimizer step of about 4 x 2 texts: ours of a packed row of 512 tokens. Ours makes
several passes, so that a trainer's start and end weigh as little in its seconds as in the other's.
"""

from benchmarks.baselines import tutorial_sft
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import (
    MAX_LENGTH,
    SEED,
    conversations,
    lengths,
    make_base,
    make_tokens,
    texts,
    tokenizer,
)
from benchmarks.ours import loss_a_token, sft_arm
from benchmarks.rows.c04_rollout import whole
from posttrain.models.device import prepare as prepare_torch
from posttrain.recipe.sft import SftRecipe

PASSES = 5
BFLOAT16 = 5e-3
"""Rounding that one arm has; in float32 the losses agree to 1e-5 (C3)."""


def prepare(bench: Bench) -> Prepared:
    """The same texts, packed and padded."""
    prepare_torch(SEED)
    base = make_base(bench)
    ids = texts(lengths(8 if bench.quick else 48))
    tokens = make_tokens(bench.folder / "tokens", instructions=conversations(ids))
    padded = tutorial_sft.padded(ids, MAX_LENGTH, int(tokenizer().pad_token_id))
    recipe = SftRecipe(method="full", learning_rate=5e-5, num_epochs=PASSES, batch_size=1)
    num_tokens = sum(map(len, ids))

    def tutorial(watch: Watch) -> None:
        prepare_torch(SEED)
        trainer = tutorial_sft.trainer_of(
            whole(base.path / "weights").train(), padded, bench.folder / "tutorial"
        )
        watch.note(loss=loss_a_token(trainer))
        with watch.timing():
            trainer.train()
        watch.count(num_tokens)

    arms = [
        sft_arm("ours", bench, base, tokens, recipe, num_tokens),
        sft_arm("ours, bfloat16", bench, base, tokens, recipe, num_tokens, "bfloat16"),
        Arm("padded", tutorial),
    ]
    fill = num_tokens / len(ids) / MAX_LENGTH
    return Prepared(arms, {"seed": SEED, "texts": len(ids), "fill": fill})


ROW = Row(
    name="C1",
    title="SFT, real tokens/s",
    targets=(
        Target(what="padded to 512", ours="ours", theirs="padded", bound=5, aim=10),
        Target(
            what="padded to 512; ours in bfloat16",
            ours="ours, bfloat16",
            theirs="padded",
            bound=5,
            aim=10,
        ),
    ),
    prepare=prepare,
    equal={"loss": BFLOAT16},
)
