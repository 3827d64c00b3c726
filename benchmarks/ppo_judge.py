"""One judge for every arm: the same held-out prompts, reward model, reference and draws.

A policy is judged as a plain model, whatever wrote it; KL is of its own samples, against SFT.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from benchmarks.ppo_start import Models
from posttrain.align.forward import collate, hidden_states, like_lengths, log_probs
from posttrain.align.rows import read_prompts, sampling_by
from posttrain.align.score import load_scorer
from posttrain.evaluate import bootstrap, probes
from posttrain.figures import Figure
from posttrain.models.generate import generate
from posttrain.models.load import load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe import PostTrainingRecipe
from posttrain.recipe.section import Section

NUM_DRAWS = 2
"""Answers a held-out prompt; a prompt counts once in every interval."""

NUM_SAMPLES = 4
"""Answers to read, a policy."""


class Point(Section):
    """A policy on held-out prompts."""

    iteration: int
    gain: Figure
    """Mean score above SFT's, in standard deviations of SFT's scores."""

    kl: Figure
    """To SFT, nats an answer."""

    ended: float
    length: float
    samples: tuple[str, ...]


class Answers(Section):
    """Figures of each answer, draw after draw."""

    responses: list[list[int]]
    scores: list[float]
    kl: list[float]


class Judge:
    """Reward model, reference and held-out prompts."""

    def __init__(self, models: Models, recipe: PostTrainingRecipe) -> None:
        self.models, self.recipe = models, recipe
        self.tokens, domain, _, reward = models.artifacts
        self.tokenizer = load_tokenizer(domain)
        self.sampling = sampling_by(self.tokenizer, recipe.ppo)
        self.scorer = load_scorer(load_base(domain), reward, domain, self.sampling.pad_id)
        self.sft = plain(models.plain_sft)
        prompts = [prompt.ids for prompt in read_prompts(self.tokens, recipe.ppo.held_out_set)]
        self.prompts = prompts * NUM_DRAWS
        self.by_sft = self.answers(self.sft)
        scores = torch.tensor(self.by_sft.scores)
        self.mean, self.std = float(scores.mean()), float(scores.std())
        self.of_sft = self.point(self.sft, 0)

    def point(self, policy: PreTrainedModel, iteration: int) -> Point:
        """Judge one policy."""
        found = self.answers(policy)
        ends = self.sampling.end_ids
        gains = [(score - self.mean) / self.std for score in found.scores]
        texts = [str(self.tokenizer.decode(row)) for row in found.responses]
        step = max(1, len(self.prompts) // NUM_DRAWS // NUM_SAMPLES)
        return Point(
            iteration=iteration,
            gain=self.figure(gains),
            kl=self.figure(found.kl),
            ended=sum(row[-1] in ends for row in found.responses) / len(texts),
            length=sum(map(len, found.responses)) / len(texts),
            samples=tuple(texts[::step][:NUM_SAMPLES]),
        )

    def answers(self, policy: PreTrainedModel) -> Answers:
        """Sample as in rollouts, score, and read log-probabilities of policy and SFT."""
        responses = generate(policy, self.prompts, self.sampling)
        rows = [[*prompt, *row] for prompt, row in zip(self.prompts, responses, strict=True)]
        scores = self.scorer.scores(rows, self.sampling.batch_size)
        kl = self.log_prob(policy, responses) - self.log_prob(self.sft, responses)
        return Answers(responses=responses, scores=scores.tolist(), kl=kl.tolist())

    @torch.no_grad()
    def log_prob(self, model: PreTrainedModel, responses: Sequence[list[int]]) -> torch.Tensor:
        """Log-probability of each whole response."""
        found = torch.empty(len(responses))
        lengths = [len(p) + len(r) for p, r in zip(self.prompts, responses, strict=True)]
        for indices in like_lengths(lengths, self.sampling.batch_size, model.device):
            batch = collate(
                [self.prompts[i] for i in indices],
                [responses[i] for i in indices],
                self.sampling.pad_id,
                model.device,
            )
            hidden_ND = hidden_states(model, batch.ids_BS)[batch.predicts_BS]
            log_prob_N = log_probs(model, hidden_ND, batch.token_N, self.sampling.temperature)
            parts = log_prob_N.split([len(responses[i]) for i in indices])
            found[indices] = torch.stack([part.sum() for part in parts])
        return found

    def figure(self, values: Sequence[float]) -> Figure:
        """Mean over prompts, each its draws' mean, with a bootstrap interval."""
        a_prompt = torch.tensor(values).reshape(NUM_DRAWS, -1).mean(0).tolist()
        return bootstrap.mean(a_prompt, self.recipe.evaluation.num_bootstrap, self.recipe.seed)

    def accuracy(self, policy: PreTrainedModel) -> dict[str, float]:
        """Fact accuracy, whole and by set."""
        evaluation = self.recipe.evaluation
        probe = next(one for one in evaluation.probes if one.name == "fact_accuracy")
        answered = probes.ask(policy, self.tokenizer, self.tokens, probe, evaluation)
        figures = probes.figures(probe, answered, evaluation)
        return {name: figure.value for name, figure in figures.items()}

    def load(self, folder: Path, base: Path) -> PreTrainedModel:
        """A kept policy as a plain model: whole weights, or an adapter merged into `base`."""
        if not (folder / "adapter_config.json").exists():
            return plain(folder)
        adapted = PeftModel.from_pretrained(plain(base), str(folder))
        return cast(PreTrainedModel, adapted.merge_and_unload())


def plain(folder: Path) -> PreTrainedModel:
    """A causal model of a folder, in float32."""
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    return cast(PreTrainedModel, model.eval())
