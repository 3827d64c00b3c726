"""DPO: the policy learns from preference pairs directly, kept close to SFT by the loss itself.

Rafailov et al. 2023, on TRL's DPOTrainer, fed with our own token ids: its preparation, which would
render the texts a second time, is passed over, and nothing is cut. Policy and reference are
adapters on one base; the reference is a frozen copy of SFT's adapter, which TRL makes of the
adapter `default` and calls `ref`. Dropout is off, as in PPO.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerFast
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer

from posttrain.align.forward import (
    check_head,
    collate,
    hidden_states,
    like_lengths,
    log_probs,
    using,
)
from posttrain.align.reward_model import check_splits
from posttrain.align.rows import Pair, pad_id, read_pairs, read_prompts
from posttrain.align.write import write_policy
from posttrain.artifacts import BaseModel, Policy, Tokens
from posttrain.contract import check_tokens
from posttrain.data.chat import end_tokens
from posttrain.models.adapters import adapter_weights, fill_adapter, save_adapter
from posttrain.models.device import prepare
from posttrain.models.generate import evaluating
from posttrain.models.load import attach, load_base_of
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.dpo import DpoRecipe
from posttrain.tracking import RESULT, Curves, log_figures, log_parameters
from posttrain.train.checkpoints import Checkpoints, checkpoints_of
from posttrain.train.trainer import GuardedTrainer, arguments

POLICY, REFERENCE = "default", "ref"  # TRL's own names: it copies the one to the other


def train(tokens: Tokens, domain: BaseModel, assistant: Policy, recipe: DpoRecipe) -> Policy:
    """Continue the assistant's adapter on the preference pairs that the reward model learns.

    Raises:
        ValueError: there are no pairs, a prompt is in both splits, or the artifacts do not fit.
    """
    check_tokens(tokens, domain)
    assistant.made_by("sft")
    runtime = prepare(recipe.seed)
    tokenizer = load_tokenizer(domain)
    ends, pad = end_tokens(tokenizer), pad_id(tokenizer)
    pairs, num_same = read_pairs(tokens, "train", ends)
    held_out, _ = read_pairs(tokens, "held_out", ends)
    check_splits(pairs, held_out)
    read_prompts(tokens, recipe.held_out_set)  # evaluation will ask for them: fail before training
    model = attach(load_base_of(domain, assistant), assistant, domain, POLICY, trainable=True)
    check_head(model)
    checkpoints = checkpoints_of("dpo", recipe, tokens, domain, assistant)
    folder = runtime.new_folder("dpo")
    log_parameters("dpo", recipe.model_dump())
    trainer = DpoPolicyTrainer(model, pairs, recipe, checkpoints, tokenizer)
    figures = trainer.run(recipe, checkpoints, Curves(folder, "dpo"))
    margins = implicit_margins(model, held_out, recipe, pad)
    figures |= {
        "identical_dropped": float(num_same),
        "num_pairs": float(len(pairs)),
        "held_out_accuracy": float((margins > 0).float().mean()),
        "held_out_margin": float(margins.mean()),
    }
    log_figures(RESULT, figures)
    policy = write_policy(folder, "dpo", domain, model, POLICY, recipe, figures)
    checkpoints.forget()
    return policy


class DpoPolicyTrainer(GuardedTrainer, DPOTrainer):
    """TRL's trainer on our ids, with whole checkpoints, a NaN that stops, and like lengths."""

    def __init__(
        self,
        model: PeftModel,
        pairs: Sequence[Pair],
        recipe: DpoRecipe,
        checkpoints: Checkpoints,
        tokenizer: PreTrainedTokenizerFast,
    ) -> None:
        self.lengths = [
            len(pair.prompt) + max(len(pair.chosen), len(pair.rejected)) for pair in pairs
        ]
        self.recipe = recipe
        super().__init__(
            model=model,
            args=arguments(
                recipe,
                checkpoints,
                DPOConfig,
                model,
                beta=recipe.beta,
                loss_type=[recipe.loss],
                label_smoothing=recipe.label_smoothing,
                max_length=None,  # longer pairs were dropped and counted by tokenize
                remove_unused_columns=False,
            ),
            train_dataset=Dataset.from_list([as_row(pair) for pair in pairs]),
            data_collator=DataCollatorForPreference(pad_token_id=pad_id(tokenizer)),
            processing_class=tokenizer,
        )
        for weight in adapter_weights(model, REFERENCE).values():
            weight.requires_grad_(False)

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        """The ids are as they shall be: TRL would render and tokenize texts here."""
        return dataset

    def log(self, logs: dict[str, float], *more: Any) -> None:
        """Give TRL's figures of the implicit reward the names that the reward model's have."""
        seen = self._metrics["train"]
        names = {"accuracy": "rewards/accuracies", "margin": "rewards/margins"}
        if "loss" in logs:
            logs |= {name: sum(seen[key]) / len(seen[key]) for name, key in names.items()}
        super().log(logs, *more)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_adapter(cast(PeftModel, self.model), POLICY, folder / "adapter")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint) / "adapter"
        fill_adapter(cast(PeftModel, self.model), POLICY, folder)


def as_row(pair: Pair) -> dict[str, list[Any]]:
    """A pair in the columns that TRL's collator reads, and its id."""
    return {
        "prompt_ids": pair.prompt,
        "chosen_ids": pair.chosen,
        "rejected_ids": pair.rejected,
        "ids": [pair.id],
    }


def implicit_margins(
    model: PeftModel, pairs: Sequence[Pair], recipe: DpoRecipe, pad: int
) -> torch.Tensor:
    """Beta x (log-ratio of chosen - log-ratio of rejected), a pair (equation 6 of the paper)."""
    ratios = []
    for side in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs]):
        prompts = [pair.prompt for pair in pairs]
        summed = []
        for adapter in (POLICY, REFERENCE):
            with using(model, adapter):
                summed.append(sequence_log_probs(model, prompts, side, recipe, pad))
        ratios.append(summed[0] - summed[1])
    return recipe.beta * (ratios[0] - ratios[1])


@torch.no_grad()
def sequence_log_probs(
    model: PeftModel,
    prompts: Sequence[list[int]],
    responses: Sequence[list[int]],
    recipe: DpoRecipe,
    pad: int,
) -> torch.Tensor:
    """Log-probability of each response, summed over its tokens, under the active adapter."""
    found = torch.empty(len(prompts))
    lengths = [len(prompt) + len(row) for prompt, row in zip(prompts, responses, strict=True)]
    with evaluating(model):
        for indices in like_lengths(lengths, recipe.forward_batch_size, model.device):
            chosen = [responses[index] for index in indices]
            batch = collate([prompts[index] for index in indices], chosen, pad, model.device)
            hidden_ND = hidden_states(model, batch.ids_BS)[batch.predicts_BS]
            log_prob_N = log_probs(model, hidden_ND, batch.token_N, 1.0)
            rows = log_prob_N.split([len(row) for row in chosen])
            found[indices] = torch.stack([row.sum() for row in rows]).cpu()
    return found
