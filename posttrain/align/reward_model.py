"""Reward model: a score whose difference between two answers predicts which one is preferred.

Bradley-Terry on pairs (Ouyang et al. 2022, section 3.5). It starts from what SFT made (`judge`),
its head at zero; both sides of a batch's pairs go through one forward pass. Not TRL's
RewardTrainer: it leaves the pooling to Transformers, which looks for the pad id, and the head to
PEFT, which may drop it.

Shapes: B pairs, S positions; a batch is (2B, S), chosen above rejected.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from posttrain import processes
from posttrain.align.blend import Blend, Sections, blend_pairs
from posttrain.align.forward import pad_right
from posttrain.align.judge import Judge, new_judge, score_own_samples
from posttrain.align.losses import bradley_terry
from posttrain.align.reward_report import judge_pairs
from posttrain.align.rows import Pair, pad_id, read_pairs, read_prompts
from posttrain.artifacts import BaseModel, Policy, RewardModel, Tokens
from posttrain.contract import check_tokens, trained_on
from posttrain.data.chat import end_tokens
from posttrain.facts import RewardModelFacts
from posttrain.models.device import prepare
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.reward_model import RewardModelRecipe
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.checkpoints import Checkpoints, checkpoints_of
from posttrain.train.collate import IGNORED
from posttrain.train.trainer import GuardedTrainer, arguments


def train(
    tokens: Tokens,
    domain: BaseModel,
    assistant: Policy,
    recipe: RewardModelRecipe,
    blend: Blend | None = None,
) -> RewardModel:
    """Fit a score to the preference pairs, centre it on the SFT model's own samples, and judge it.

    With `blend` the AI's pairs are learned beside the human ones; what is held out is human.

    Raises:
        ValueError: there are no pairs, a prompt is in both splits, or the artifacts do not fit.
    """
    stage = "reward_model" if blend is None else "rlaif_reward_model"
    check_tokens(tokens, domain)
    assistant.made_by("sft")
    runtime = prepare(recipe.seed)
    tokenizer = load_tokenizer(domain)
    ends, pad = end_tokens(tokenizer), pad_id(tokenizer)
    pairs, num_same = read_pairs(tokens, "train", ends)
    held_out, _ = read_pairs(tokens, "held_out", ends)
    counts = {"identical_dropped": float(num_same)}
    if blend is not None:
        pairs, blended = blend_pairs(pairs, blend, ends)
        counts |= blended
    check_splits(pairs, held_out)
    prompts = [prompt.ids for prompt in read_prompts(tokens, recipe.prompt_set)]

    judge = new_judge(domain, assistant, recipe)
    folder = processes.by_main(lambda: runtime.new_folder(stage))
    log_parameters(stage, recipe.model_dump())
    checkpoints = (
        checkpoints_of(stage, recipe, tokens, domain, assistant)
        if blend is None
        else checkpoints_of(
            stage,
            Sections(reward_model=recipe, rlaif=blend.recipe),
            *(tokens, domain, assistant, blend.preferences),
        )
    )
    num_trained = sum(weight.numel() for weight in judge.trained())
    trainer = RewardTrainer(judge, pairs, recipe, checkpoints, pad)
    fitted = trainer.run(recipe, checkpoints, Curves(folder, stage))

    raw = judge.scorer(pad)
    few = prompts[: recipe.num_samples]
    own_N = score_own_samples(judge, raw, domain, assistant, few, ends, recipe)
    judged = judge_pairs(held_out, raw, 2 * recipe.batch_size, recipe.length_band)
    whole = recipe.method == "full"  # else its adapter started as a copy of SFT's
    facts = RewardModelFacts(
        trained_on=trained_on(domain),
        method="full" if whole else assistant.facts.method,
        quantization=None if whole else assistant.facts.quantization,
        num_trainable=num_trained,
        num_adapted_modules=judge.num_adapted_modules(),
        recipe=recipe.model_dump(),
        figures={**fitted, **judged.figures, **counts},
        score_mean=float(own_N.mean()),
        score_std=float(own_N.std()),
        accuracy=judged.accuracy,
        by_kind=judged.by_kind,
        num_pairs=len(held_out),
    )
    log_figures(RESULT, {"held_out_accuracy": facts.accuracy, **facts.figures})
    reward = processes.by_main(lambda: write(folder, stage, judge, facts))
    processes.by_main(checkpoints.forget)
    return reward


def write(folder: Path, stage: str, judge: Judge, facts: RewardModelFacts) -> RewardModel:
    """Hand the judge over."""
    judge.save(folder)
    return RewardModel.write(folder, stage, facts)


@dataclass(frozen=True)
class PairCollator:
    """Both sides of each pair in one batch, chosen above rejected."""

    pad_id: int

    @property
    def blank(self) -> Pair:
        """A pair that teaches nothing: a real response holds its end token at least."""
        return Pair("", [self.pad_id], [], [], 0.0)

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, Tensor]:
        chosen = [[*pair.prompt, *pair.chosen] for pair in pairs]
        rejected = [[*pair.prompt, *pair.rejected] for pair in pairs]
        ids, mask = pad_right([*chosen, *rejected], self.pad_id, torch.device("cpu"))
        margin = torch.tensor([pair.margin for pair in pairs], dtype=torch.float32)
        preferred = torch.tensor([pair.label for pair in pairs], dtype=torch.float32)
        counted = torch.tensor([1 if pair.chosen else IGNORED for pair in pairs])
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "margin": margin,
            "preferred": preferred,
            "labels": counted,
        }


class RewardTrainer(GuardedTrainer):
    """Transformers' Trainer with the Bradley-Terry loss over batches of like lengths."""

    model: Judge

    def __init__(
        self,
        judge: Judge,
        pairs: Sequence[Pair],
        recipe: RewardModelRecipe,
        checkpoints: Checkpoints,
        pad_id: int,
    ) -> None:
        super().__init__(
            model=judge,
            args=arguments(
                recipe, checkpoints, TrainingArguments, judge, remove_unused_columns=False
            ),
            train_dataset=cast(Any, pairs),
            data_collator=cast(Any, PairCollator(pad_id)),
        )
        self.recipe = recipe
        self.lengths = [
            len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs
        ]
        self.margins: list[Tensor] = []

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        """This process's part of the mean over all pairs of the step; DDP averages the parts."""
        scores = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        real_B = inputs["labels"] != IGNORED
        chosen_B, rejected_B = (side_B[real_B] for side_B in scores.chunk(2))
        self.margins.append((chosen_B - rejected_B).detach())
        if not real_B.any():
            return 0 * cast(Tensor, scores.sum())
        margin_B, preferred_B = inputs["margin"][real_B], inputs["preferred"][real_B]
        mean = bradley_terry(chosen_B, rejected_B, margin_B, preferred_B, self.recipe.center_coef)
        share: Tensor = real_B.sum() * processes.count() / num_items_in_batch
        return mean * share

    def log(self, logs: dict[str, float], *more: Any) -> None:
        """Add accuracy and margin since the last entry."""
        if self.margins and "loss" in logs:
            margin_N = torch.cat(self.margins)
            self.margins.clear()
            number = torch.tensor(len(margin_N), device=margin_N.device)
            sums = torch.stack([(margin_N > 0).sum(), margin_N.sum()])
            accuracy, margin = (processes.summed(sums) / processes.summed(number)).tolist()
            logs |= {"accuracy": accuracy, "margin": margin}
        super().log(logs, *more)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        self.model.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.model.load(Path(resume_from_checkpoint))


def check_splits(train: Sequence[Pair], held_out: Sequence[Pair]) -> None:
    """Pairs are split by prompt: two answers to one question may not stand on both sides.

    Raises:
        ValueError: says how many prompts are in both splits.
    """
    seen = {tuple(pair.prompt) for pair in train}
    if both := {tuple(pair.prompt) for pair in held_out} & seen:
        raise ValueError(
            f"preferences: {len(both)} prompts are in both splits, so that held-out accuracy would "
            "be of pairs seen; split by prompt (ingest.preferences)"
        )
