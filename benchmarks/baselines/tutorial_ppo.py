"""The PPO of tutorials, made to run: one prompt at a time, whole models, no KL, no value function.

    python -m benchmarks.baselines.tutorial_ppo job.json

Written anew after a widely read tutorial's loop. Its shape and choices are kept: an answer is
sampled and decoded to text, the prompt within it; the reward model reads the prompt, a space and
that text again, and pools the last position; the advantage is the reward less the batch's mean; one
clipped step an answer, by AdamW at the tutorial's rate of 1e-5 on every weight.

Mended, because it would not run:
- log-probabilities came from sampling without a graph, so that the backward pass failed: they are
  computed again, with a graph, when the step is made (a graph kept from before the first step would
  fail at the second: the weights have changed under it);
- they were a mean over the whole vocabulary of filtered logits, minus infinity where filtered, so
  that the ratio was not a number: now the mean over the sampled tokens, by plain logits.
Set as for the other arms: prompts, episodes, response length, temperature, and plain sampling.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.baselines.job import Job, Meter

EPSILON = 0.2


class Tutorial:
    """Policy, reward model, tokenizer and optimizer."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.tokenizer = AutoTokenizer.from_pretrained(job.sft)
        self.policy: Any = AutoModelForCausalLM.from_pretrained(job.sft, dtype=torch.float32)
        self.reward: Any = AutoModelForSequenceClassification.from_pretrained(
            job.reward, dtype=torch.float32
        )
        self.optimizer = torch.optim.AdamW(self.policy.parameters(), lr=job.learning_rate)

    def answer(self, prompt: str) -> Tensor:
        """Prompt and sampled answer, (1, S)."""
        inputs = self.tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            ids: Tensor = self.policy.generate(
                inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=self.job.max_new_tokens,
                do_sample=True,
                temperature=self.job.temperature,
                top_k=0,
                pad_token_id=self.tokenizer.eos_token_id,
            )
        return ids

    def log_prob(self, ids: Tensor, num_prompt: int) -> Tensor:
        """Mean log-probability of the answer's tokens."""
        logits = self.policy(ids).logits[:, num_prompt - 1 : -1] / self.job.temperature
        chosen = ids[:, num_prompt:, None]
        mean: Tensor = logits.log_softmax(-1).gather(-1, chosen).mean()
        return mean

    def score(self, prompt: str, response: str) -> float:
        """Reward of prompt and response as one text."""
        inputs = self.tokenizer(prompt + " " + response, return_tensors="pt")
        with torch.no_grad():
            hidden = self.reward.model(**inputs).last_hidden_state[:, -1]
            return float(self.reward.score(hidden))

    def update(self, answers: list[Tensor], lengths: list[int], rewards: list[float]) -> None:
        """One step an answer."""
        advantages = torch.tensor(rewards) - torch.tensor(rewards).mean()
        with torch.no_grad():
            before = [self.log_prob(*one) for one in zip(answers, lengths, strict=True)]
        for ids, length, old, advantage in zip(answers, lengths, before, advantages, strict=True):
            ratio = (self.log_prob(ids, length) - old).exp()
            clipped = ratio.clamp(1 - EPSILON, 1 + EPSILON)
            self.optimizer.zero_grad()
            (-torch.minimum(ratio * advantage, clipped * advantage)).backward()
            self.optimizer.step()

    def iterate(self, prompts: list[str]) -> None:
        """Answer, score, update."""
        answers = [self.answer(prompt) for prompt in prompts]
        texts = [str(self.tokenizer.decode(ids[0], skip_special_tokens=True)) for ids in answers]
        rewards = [self.score(*pair) for pair in zip(prompts, texts, strict=True)]
        lengths = [len(self.tokenizer(prompt)["input_ids"]) for prompt in prompts]
        self.update(answers, lengths, rewards)


def main() -> None:
    """Train, write the cost."""
    torch.set_num_threads(1)
    job, meter = Job.read(), Meter()
    torch.manual_seed(job.seed)
    tutorial = Tutorial(job)
    texts = [str(tutorial.tokenizer.decode(prompt)) for prompt in job.prompts]
    with meter.running():
        for start in range(0, len(texts), job.batch_size):
            tutorial.iterate(texts[start : start + job.batch_size])
            iteration = start // job.batch_size + 1
            if iteration % job.snapshot_every == 0:
                with meter.paused():
                    tutorial.policy.save_pretrained(job.snapshot(iteration))
    meter.write(Path(job.out), len(texts))


if __name__ == "__main__":
    main()
