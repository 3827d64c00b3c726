"""A run of two stages on a tiny base, and what is measured of it."""

from posttrain.artifacts import BaseModel, Records, Tokens
from posttrain.data.template import template
from posttrain.data.tokenize import tokenize
from posttrain.evaluate.stages import Stages
from posttrain.recipe.evaluation import EvaluationRecipe, Probe
from posttrain.recipe.sft import SftRecipe
from posttrain.recipe.template import TemplateRecipe
from posttrain.recipe.tokenize import TokenizeRecipe
from posttrain.recipe.train import LoraRecipe
from posttrain.train import sft

FACT = Probe(name="fact", kind="exact_match", sets=("A", "B"), by_set=True, not_any_of=("sorry",))
RECIPE = EvaluationRecipe(
    probes=(FACT,), window=64, stride=32, num_bootstrap=20, max_new_tokens=4, batch_size=8
)


def tokens_of(records: Records, base: BaseModel) -> Tokens:
    """The records, tokenised."""
    chats = template(records, base, TemplateRecipe())
    return tokenize(chats, base, TokenizeRecipe(max_length=64, block_size=64))


def trained(records: Records, base: BaseModel) -> Stages:
    """SFT alone, by an adapter."""
    tokens = tokens_of(records, base)
    recipe = SftRecipe(
        method="lora",
        lora=LoraRecipe(rank=4, alpha=8),
        learning_rate=1e-2,
        num_epochs=1,
        batch_size=4,
        log_every_steps=2,
    )
    return Stages(tokens, base, base, sft.train(tokens, base, recipe))
