"""The tutorial's loop with what PPO needs: four whole models, one answer at a time.

    python -m benchmarks.baselines.single_ppo job.json

The tutorial's own loop (`tutorial_ppo`) has no KL, no reference and no value function; this one
does the work that a PPO does, in the tutorial's manner: `model.generate` on one prompt, one forward
pass an answer for each of policy, reference, reward model and value function, all of whose weights
train. Optimizer steps are as many as our recipe's, on as many answers each: gradients are
accumulated where the tutorial steps after each. KL penalty, GAE, clipped losses and their settings
are our recipe's; prompts, response length and temperature those of the other arms.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from benchmarks.baselines.job import Job, Meter


@dataclass(frozen=True)
class Answer:
    """One sampled answer and what the models say of it, by token."""

    ids: Tensor
    num_prompt: int
    old: Tensor
    values: Tensor
    advantages: Tensor

    @property
    def returns(self) -> Tensor:
        return self.advantages + self.values


class SinglePpo:
    """Policy, reference, reward model, value function."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.end = AutoTokenizer.from_pretrained(job.sft).eos_token_id
        self.policy, self.reference = (_causal(job.sft) for _ in range(2))
        self.reward, self.value = (_scoring(job.reward) for _ in range(2))
        weights = [*self.policy.parameters(), *self.value.parameters()]
        self.optimizer = torch.optim.AdamW(weights, lr=job.learning_rate)

    @torch.no_grad()
    def answer(self, prompt: list[int]) -> Answer:
        """Sample, score, and estimate advantages."""
        given = torch.tensor([prompt])
        ids = self.policy.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=self.job.max_new_tokens,
            do_sample=True,
            temperature=self.job.temperature,
            top_k=0,
            pad_token_id=self.end,
        )
        start = len(prompt)
        old = self.log_probs(self.policy, ids, start)
        rewards = -self.job.ppo["kl_coef"] * (old - self.log_probs(self.reference, ids, start))
        hidden = self.reward.model(input_ids=ids).last_hidden_state[:, -1]
        rewards[-1] += float(self.reward.score(hidden))
        values = self.values(ids, start)
        return Answer(ids, start, old, values, self.advantages(rewards, values))

    def log_probs(self, model: Any, ids: Tensor, start: int) -> Tensor:
        """Of the answer's tokens."""
        logits = model(input_ids=ids).logits[0, start - 1 : -1] / self.job.temperature
        found: Tensor = logits.log_softmax(-1).gather(-1, ids[0, start:, None]).squeeze(-1)
        return found

    def values(self, ids: Tensor, start: int) -> Tensor:
        """Of the states before the answer's tokens."""
        hidden = self.value.model(input_ids=ids).last_hidden_state[0, start - 1 : -1]
        found: Tensor = self.value.score(hidden).squeeze(-1)
        return found

    def advantages(self, rewards: Tensor, values: Tensor) -> Tensor:
        """GAE, backwards over one answer."""
        gamma, lambda_ = self.job.ppo["gamma"], self.job.ppo["gae_lambda"]
        following, found = torch.zeros(()), torch.zeros_like(values)
        after = torch.zeros(())
        for place in reversed(range(len(values))):
            following = rewards[place] + gamma * after - values[place] + gamma * lambda_ * following
            after, found[place] = values[place], following
        return found

    def learn(self, answer: Answer, num_tokens: int) -> None:
        """Gradients of policy and value function on one answer of a step of so many tokens."""
        ppo = self.job.ppo
        ratio = (self.log_probs(self.policy, answer.ids, answer.num_prompt) - answer.old).exp()
        clipped = ratio.clamp(1 - ppo["clip_range"], 1 + ppo["clip_range"])
        gain = torch.minimum(ratio * answer.advantages, clipped * answer.advantages).sum()
        values = self.values(answer.ids, answer.num_prompt)
        limit = ppo["value_clip_range"]
        near = answer.values + (values - answer.values).clamp(-limit, limit)
        errors = torch.maximum((values - answer.returns) ** 2, (near - answer.returns) ** 2)
        ((0.5 * errors.sum() - gain) / num_tokens).backward()

    def step(self) -> None:
        """Of policy and value function."""
        torch.nn.utils.clip_grad_norm_(
            [*self.policy.parameters(), *self.value.parameters()], self.job.ppo["max_grad_norm"]
        )
        self.optimizer.step()
        self.optimizer.zero_grad()

    def iterate(self, prompts: list[list[int]]) -> None:
        """Answer them all, then learn from each."""
        answers = [self.answer(prompt) for prompt in prompts]
        for _ in range(int(self.job.ppo["num_epochs"])):
            order = torch.randperm(len(answers)).tensor_split(int(self.job.ppo["num_minibatches"]))
            for minibatch in order:
                chosen = [answers[place] for place in minibatch.tolist()]
                num_tokens = sum(len(answer.old) for answer in chosen)
                for answer in chosen:
                    self.learn(answer, num_tokens)
                self.step()


def _causal(folder: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _scoring(folder: str) -> Any:
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def main() -> None:
    """Train, write the cost."""
    torch.set_num_threads(1)
    job, meter = Job.read(), Meter()
    torch.manual_seed(job.seed)
    loop = SinglePpo(job)
    with meter.running():
        for start in range(0, len(job.prompts), job.batch_size):
            loop.iterate(job.prompts[start : start + job.batch_size])
    meter.write(Path(job.out), len(job.prompts))


if __name__ == "__main__":
    main()
