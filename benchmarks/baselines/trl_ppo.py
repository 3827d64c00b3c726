"""TRL 1.12.0's PPOTrainer on the benchmark's models: the last release that had one.

    python -m benchmarks.baselines.trl_ppo job.json

Equal to ours: prompts, episodes, response length, temperature, end token, epochs and minibatches,
KL coefficient (the reward is in the same unit), clip ranges, GAE, Adam's betas and epsilon. TRL's
own: linear decay to zero, no clipping of gradients, no early stop, one learning rate for policy and
value function. In its favour: no gradient checkpointing, float32 (bf16, its default, is no faster
on most CPUs), no accumulation, the value function starts from the reward model. With LoRA the
policy carries the adapter and the reference is the same model with the adapter off.
"""

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
)
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.utils import get_reward

from benchmarks.baselines.job import Job, Meter

SCORED_ROWS = Path("scored_rows.json")
"""Rows with our scores, beside the job's output, to compare with TRL's way of scoring."""


class Snapshots(TrainerCallback):
    """Keep the policy every few rollouts."""

    def __init__(self, job: Job, meter: Meter) -> None:
        self.job, self.meter = job, meter

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Save what the trainer calls the policy: an adapter, or every weight."""
        iteration = state.global_step
        if iteration % self.job.snapshot_every == 0:
            with self.meter.paused():
                more["model"].policy.save_pretrained(str(self.job.snapshot(iteration)))


def settings(job: Job) -> PPOConfig:
    """Our recipe in TRL's words."""
    ppo = job.ppo
    return PPOConfig(
        output_dir=job.out,
        seed=job.seed,
        learning_rate=job.learning_rate,
        adam_beta2=ppo["beta2"],
        adam_epsilon=ppo["adam_epsilon"],
        weight_decay=0.0,
        per_device_train_batch_size=job.batch_size,
        num_mini_batches=int(ppo["num_minibatches"]),
        num_ppo_epochs=int(ppo["num_epochs"]),
        local_rollout_forward_batch_size=job.batch_size,
        total_episodes=len(job.prompts),
        response_length=job.max_new_tokens,
        temperature=job.temperature,
        stop_token="eos",
        missing_eos_penalty=-ppo["missing_end_score"],
        kl_coef=ppo["kl_coef"],
        cliprange=ppo["clip_range"],
        cliprange_value=ppo["value_clip_range"],
        gamma=ppo["gamma"],
        lam=ppo["gae_lambda"],
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        num_sample_generations=0,
    )


def trainer_of(job: Job, meter: Meter) -> PPOTrainer:
    """The trainer with its models."""

    def sequence_model() -> Any:
        return AutoModelForSequenceClassification.from_pretrained(job.reward, dtype=torch.float32)

    def policy() -> Any:
        return AutoModelForCausalLM.from_pretrained(job.sft, dtype=torch.float32)

    lora = job.lora and LoraConfig(
        r=job.lora["rank"],
        lora_alpha=job.lora["alpha"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return PPOTrainer(
        args=settings(job),
        processing_class=AutoTokenizer.from_pretrained(job.sft, padding_side="left"),
        model=policy(),
        ref_model=None if lora else policy(),
        reward_model=sequence_model(),
        value_model=sequence_model(),
        train_dataset=Dataset.from_list([{"input_ids": prompt} for prompt in job.prompts]),
        callbacks=[Snapshots(job, meter)],
        peft_config=lora or None,
    )


def scores(trainer: PPOTrainer, rows: list[tuple[list[int], list[int]]]) -> list[float]:
    """Scores of prompts with their responses by the trainer's own way: prompts padded left."""
    pad = trainer.processing_class.pad_token_id
    context = max(len(prompt) for prompt, _ in rows)
    width = max(len(response) for _, response in rows)
    ids = [
        [*[pad] * (context - len(prompt)), *prompt, *response, *[pad] * (width - len(response))]
        for prompt, response in rows
    ]
    with torch.no_grad():
        _, found, _ = get_reward(trainer.reward_model, torch.tensor(ids), pad, context)
    return [float(score) for score in found]


def main() -> None:
    """Compare scores, train, write the cost."""
    torch.set_num_threads(1)
    job, meter = Job.read(), Meter()
    trainer = trainer_of(job, meter)
    known = json.loads((Path(job.out) / SCORED_ROWS).read_text(encoding="utf-8"))
    found = scores(trainer, [(row["prompt"], row["response"]) for row in known])
    gaps = [score - row["score"] for score, row in zip(found, known, strict=True)]
    with meter.running():
        trainer.train()
    # A constant in all scores is nothing to PPO: its spread is what counts.
    meter.write(Path(job.out), len(job.prompts), score_gap=max(gaps) - min(gaps))


if __name__ == "__main__":
    main()
