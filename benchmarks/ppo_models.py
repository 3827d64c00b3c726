"""What every arm of the PPO benchmark starts from: the demo's models, and plain copies of them.

The demo's stages up to the reward model run once and are kept. The baselines know nothing of our
artifacts: for them SFT is merged into a causal model, and the reward model into one for sequence
classification, both as Transformers reads them.
"""

from pathlib import Path

import torch
import yaml
from transformers import AutoModelForSequenceClassification

from benchmarks.ppo_start import Models
from posttrain.align import reward_model
from posttrain.align.score import load_scorer
from posttrain.data.ingest import ingest
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.data.validate import validate
from posttrain.hashes import sha256_of
from posttrain.models.adapters import attach_folder
from posttrain.models.base import resolve
from posttrain.models.load import attach, load_base
from posttrain.models.tokenizer import load_tokenizer
from posttrain.recipe import PostTrainingRecipe
from posttrain.train import base_finetune, sft

ROOT = Path(__file__).parent.parent
STAGES = (
    "ingest",
    "validation",
    "base_model",
    "template",
    "tokenize",
    "base_finetune",
    "sft",
    "reward_model",
)
"""Sections of the recipe that decide what the models are."""


def demo_recipe() -> PostTrainingRecipe:
    """The recipe of `make demo`."""
    config = yaml.safe_load((ROOT / "zenml_config.yaml").read_text(encoding="utf-8"))
    return PostTrainingRecipe.model_validate(config["parameters"]["recipe"])


def models(recipe: PostTrainingRecipe, cache: Path) -> Models:
    """The models of a recipe: made (minutes) where `cache` does not hold them yet."""
    key = sha256_of([recipe.model_dump(mode="json")[stage] for stage in STAGES])[:16]
    file = cache / f"models-{key}.json"
    if not file.exists():
        made = make(recipe, cache / f"models-{key}")
        file.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Models.model_validate_json(file.read_bytes())


def make(recipe: PostTrainingRecipe, folder: Path) -> Models:
    """Run the stages up to the reward model, and copy their results for the baselines."""
    records = validate(ingest(recipe.ingest), recipe.validation).records
    base = resolve(records, recipe.base_model, recipe.preflight)
    tokens = tokenize(template(records, base, recipe.template), base, recipe.tokenize)
    domain = base_finetune.train(tokens, base, recipe.base_finetune)
    assistant = sft.train(tokens, domain, recipe.sft)
    reward = reward_model.train(tokens, domain, assistant, recipe.reward_model)
    made = Models(
        tokens=tokens.path,
        domain=domain.path,
        assistant=assistant.path,
        reward=reward.path,
        plain_sft=folder / "sft",
        plain_reward=folder / "reward",
    )
    export(made)
    return made


def export(made: Models) -> None:
    """Write the baselines' copies; one tokenizer beside each."""
    _, domain, assistant, reward = made.artifacts
    merged = attach(load_base(domain), assistant, domain, "sft", trainable=False)
    merged.merge_and_unload().save_pretrained(made.plain_sft)
    judge = attach_folder(load_base(domain), reward.path / "adapter", "reward", trainable=False)
    judge.merge_and_unload().save_pretrained(made.plain_reward)
    tokenizer = load_tokenizer(domain)
    plain = AutoModelForSequenceClassification.from_pretrained(
        made.plain_reward, num_labels=1, pad_token_id=tokenizer.pad_token_id
    )
    scorer = load_scorer(load_base(domain), reward, domain, pad_id=0)
    with torch.no_grad():
        plain.score.weight.copy_(scorer.head.linear.weight / reward.facts.score_std)
    plain.save_pretrained(made.plain_reward)
    for folder in (made.plain_sft, made.plain_reward):
        tokenizer.save_pretrained(folder)
