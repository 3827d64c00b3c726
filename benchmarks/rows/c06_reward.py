"""C6: reward model, pairs a second, against padded single pairs, unpadded ones, and TRL's trainer.

All weights train, 8 pairs a step, from the same weights and head: the loss of the first pairs must
agree. What differs is how pairs get through the model. Ours and TRL's make several passes, so that
a trainer's start and end weigh as little as in a bare loop.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel

from benchmarks.baselines import trl_reward, tutorial_reward
from benchmarks.gpu_models import make_assistant
from benchmarks.harness import Arm, Bench, Prepared, Row, Target, Watch
from benchmarks.material import (
    MAX_LENGTH,
    MEAN_LENGTH,
    SEED,
    lengths,
    make_base,
    make_tokens,
    texts,
    tokenizer,
)
from benchmarks.ours import Precision, precision
from benchmarks.rows.c01_sft_padded import BFLOAT16
from posttrain.align.judge import new_judge
from posttrain.align.reward_model import RewardTrainer
from posttrain.align.rows import Pair
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.models.device import prepare as prepare_torch
from posttrain.models.load import load_base
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.recipe.sft import SftRecipe
from posttrain.tracking import Curves
from posttrain.train.checkpoints import checkpoints_of

BATCH = 8
RATE = 1e-5
PASSES = 4


def prepare(bench: Bench) -> Prepared:
    """Pairs whose sides are of 53 tokens on average, and models that start alike."""
    prepare_torch(SEED)
    base = make_base(bench)
    sft = SftRecipe(learning_rate=RATE, num_epochs=1, batch_size=1)
    pairs = make_pairs(BATCH if bench.quick else 4 * BATCH)
    sides = [([*one.prompt, *one.chosen], [*one.prompt, *one.rejected]) for one in pairs]
    trainers = Trainers(
        folder=bench.folder,
        base=base,
        assistant=make_assistant(base, sft, bench.folder / "assistant"),
        tokens=make_tokens(bench.folder / "tokens", prompts=[{"set": "rollout"}]),
        pairs=pairs,
        sides=sides,
        head=0.1 * torch.randn(1, load_base(base).config.hidden_size),
    )
    arms = [
        Arm("ours", lambda watch: trainers.ours("float32", watch)),
        Arm("ours, bfloat16", lambda watch: trainers.ours("bfloat16", watch), "bfloat16"),
        Arm("padded", lambda watch: trainers.tutorial(MAX_LENGTH, watch)),
        Arm("unpadded", lambda watch: trainers.tutorial(None, watch)),
        Arm("TRL", trainers.trl, "bfloat16"),
    ]
    fill = sum(len(side) for pair in sides for side in pair) / 2 / len(sides) / MAX_LENGTH
    return Prepared(arms, {"seed": SEED, "pairs": len(pairs), "fill": fill})


@dataclass(frozen=True)
class Trainers:
    """The arms, and what they share."""

    folder: Path
    base: BaseModel
    assistant: Policy
    tokens: Tokens
    pairs: list[Pair]
    sides: list[tutorial_reward.Sides]
    """The same pairs as the other trainers take them: prompt and answer in one."""

    head: Tensor
    """(1, D), where each head starts."""

    def ours(self, dtype: Precision, watch: Watch) -> None:
        """Our trainer."""
        prepare_torch(SEED)
        recipe = RewardModelRecipe(
            method="full", learning_rate=RATE, num_epochs=PASSES, batch_size=BATCH, max_new_tokens=1
        )
        with precision(dtype):
            judge = new_judge(self.base, self.assistant, recipe)
            checkpoints = checkpoints_of(
                "reward_model", recipe, self.tokens, self.base, self.assistant
            )
            judge.head.linear.weight.data.copy_(self.head)
            pad = int(tokenizer().pad_token_id)
            trainer = RewardTrainer(judge, self.pairs, recipe, checkpoints, pad)
            with torch.no_grad(), trainer.compute_loss_context_manager():
                batch = trainer.data_collator(self.pairs[:BATCH])
                scores = judge(batch["input_ids"], batch["attention_mask"])
            watch.note(loss=loss_of(*scores.chunk(2)))
            with watch.timing():
                trainer.run(recipe, checkpoints, Curves(self.folder / dtype, "reward_model"))
        checkpoints.forget()
        watch.count(PASSES * len(self.pairs))

    def tutorial(self, width: int | None, watch: Watch) -> None:
        """The tutorial's loop, padded to `width` or not at all."""
        prepare_torch(SEED)
        backbone = AutoModel.from_pretrained(self.base.path / "weights")
        model = tutorial_reward.TutorialReward(backbone, width, int(tokenizer().pad_token_id))
        model.head.weight.data.copy_(self.head)
        torch.nn.init.zeros_(model.head.bias)
        with watch.timing():
            loss = tutorial_reward.train(model, self.sides, BATCH, RATE)
        watch.note(loss=loss)
        watch.count(len(self.pairs))

    def trl(self, watch: Watch) -> None:
        """TRL's trainer by its defaults."""
        prepare_torch(SEED)
        folders = self.base.path / "weights", self.base.path / "tokenizer"
        trainer = trl_reward.trainer_of(*folders, self.sides, self.folder / "trl", PASSES)
        model: Any = trainer.model
        model.score.weight.data.copy_(self.head)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            batch = trainer.data_collator(list(trainer.train_dataset)[:BATCH])
            scores = model(**batch).logits.squeeze(-1)
        watch.note(loss=loss_of(*scores.chunk(2)))
        with watch.timing():
            trainer.train()
        watch.count(PASSES * len(self.pairs))


def loss_of(chosen: Tensor, rejected: Tensor) -> float:
    """Bradley and Terry's, of pairs' scores."""
    return float(-functional.logsigmoid(chosen.float() - rejected.float()).mean())


def make_pairs(number: int) -> list[Pair]:
    """A prompt of a third of the length, and two answers that end."""
    end = int(tokenizer().eos_token_id)
    prompts = texts(lengths(number, MEAN_LENGTH / 3, SEED + 1))
    chosen, rejected = (
        [[*text, end] for text in texts(lengths(number, 2 * MEAN_LENGTH / 3, seed), seed)]
        for seed in (SEED + 2, SEED + 3)
    )
    return [Pair("k", *sides, margin=0.0) for sides in zip(prompts, chosen, rejected, strict=True)]


ROW = Row(
    name="C6",
    title="Reward model, pairs/s",
    targets=(
        Target(what="padded single pairs", ours="ours", theirs="padded", bound=5, aim=10),
        Target(
            what="padded single pairs; ours in bfloat16",
            ours="ours, bfloat16",
            theirs="padded",
            bound=5,
            aim=10,
        ),
        Target(what="unpadded single pairs", ours="ours", theirs="unpadded", bound=1, aim=1.8),
        Target(
            what="unpadded single pairs; ours in bfloat16",
            ours="ours, bfloat16",
            theirs="unpadded",
            bound=1,
            aim=1.8,
        ),
        Target(what="stock TRL", ours="ours", theirs="TRL", bound=1, aim=1.8),
    ),
    prepare=prepare,
    equal={"loss": BFLOAT16},
)
