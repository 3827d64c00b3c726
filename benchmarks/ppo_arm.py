"""Our PPO as an arm of the benchmark: the library's loop, with the policy kept along the way.

python -m benchmarks.ppo_arm job.json models.json '{"kl_coef": 0.1, ...}'
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.baselines.job import Job, Meter
from benchmarks.ppo_start import Models
from posttrain.align import ppo
from posttrain.align.rollout import POLICY, Actors, load_actors
from posttrain.align.rows import read_prompts, sampling_by
from posttrain.models.adapters import save_adapter
from posttrain.models.device import prepare
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe.ppo import PpoRecipe
from posttrain.tracking import Curves
from posttrain.train.checkpoints import checkpoints_of


class Snapshots(Curves):
    """Curves, recorded once an iteration: the moment to keep the policy."""

    def __init__(self, job: Job, meter: Meter, actors: Actors) -> None:
        super().__init__(Path(job.out), "ppo")
        self.job, self.meter, self.actors = job, meter, actors

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Record, and save every few iterations."""
        super().log(step, figures)
        if step % self.job.snapshot_every == 0:
            with self.meter.paused():
                save_adapter(self.actors.model, POLICY, self.job.snapshot(step))


def main() -> None:
    """Load, train, write the cost."""
    job, meter = Job.read(), Meter()
    tokens, domain, assistant, reward = Models.model_validate_json(
        Path(sys.argv[2]).read_bytes()
    ).artifacts
    recipe = PpoRecipe.model_validate_json(sys.argv[3])
    prepare(recipe.seed)
    sampling = sampling_by(load_tokenizer(domain), recipe)
    actors = load_actors(domain, assistant, reward, sampling, recipe)
    prompts = read_prompts(tokens, recipe.prompt_set)
    checkpoints = checkpoints_of("ppo", recipe, tokens, domain, assistant, reward)
    curves = Snapshots(job, meter, actors)
    with meter.running():
        progress = ppo.optimise(actors, prompts, recipe, curves, checkpoints)
    checkpoints.forget()
    meter.write(Path(job.out), len(job.prompts), figures=ppo.stage_figures(progress))


if __name__ == "__main__":
    main()
