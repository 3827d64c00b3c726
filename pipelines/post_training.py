"""The whole DAG: raw records in, a promoted adapter out."""

from typing import Any

from zenml import pipeline

from posttrain.recipe import PostTrainingRecipe
from steps._alerts import on_failure
from steps._caching import on_base, on_champion, on_constitution, on_data, on_tasks
from steps._started import started_by
from steps.ai_preferences import ai_preferences
from steps.base_finetune import base_finetune
from steps.base_model import base_model
from steps.dpo import dpo
from steps.evaluate import evaluate
from steps.ingest import ingest
from steps.ppo import ppo
from steps.promote import promote
from steps.register import register
from steps.reward_model import reward_model
from steps.rlaif_ppo import rlaif_ppo
from steps.rlaif_reward_model import rlaif_reward_model
from steps.self_critique import self_critique
from steps.sft import sft
from steps.template import template
from steps.tokenize import tokenize
from steps.validate import validate


@pipeline(on_failure=on_failure, extra=started_by())
def post_training(recipe: PostTrainingRecipe) -> None:
    """Ingest, fine-tune, align, measure, promote."""
    raw = ingest.with_options(cache_policy=on_data(recipe.ingest))(recipe.ingest)
    model_name = recipe.registration.model_name
    records, quarantine, _ = validate.with_options(
        cache_policy=on_champion(recipe.ingest, model_name)
    )(raw, model_name, recipe.validation)
    base = base_model.with_options(cache_policy=on_base(recipe.base_model, recipe.template))(
        records, recipe.base_model, recipe.preflight
    )
    chats = template(records, base, recipe.template)
    tokens = tokenize(chats, base, recipe.tokenize)

    domain = base_finetune(tokens, base, recipe.base_finetune)
    assistant = sft(tokens, domain, recipe.sft)
    reward = reward_model(tokens, domain, assistant, recipe.reward_model)
    policy = (
        ppo(tokens, domain, assistant, reward, recipe.ppo)
        if recipe.preference_method == "ppo"
        else dpo(tokens, domain, assistant, recipe.dpo)
    )
    aligned, revisions, _ = self_critique.with_options(
        cache_policy=on_constitution(recipe.self_critique)
    )(tokens, domain, assistant, policy, recipe.self_critique)

    second: tuple[Any, ...] = ()
    if recipe.has_second_round:  # the recipe's choice: the DAG is whole before anything runs
        preferences = ai_preferences(tokens, domain, assistant, revisions, recipe.rlaif)
        rlaif_reward = rlaif_reward_model(
            tokens, domain, assistant, preferences, recipe.reward_model, recipe.rlaif
        )
        rlaif_policy = rlaif_ppo(tokens, domain, aligned, rlaif_reward, recipe.ppo)
        second = (preferences, rlaif_reward, rlaif_policy)

    evaluation, _ = evaluate.with_options(cache_policy=on_tasks(recipe.evaluation))(
        tokens,
        base,
        domain,
        assistant,
        quarantine,
        recipe.evaluation,
        recipe.promotion,
        reward,
        policy,
        aligned,
        revisions,
        *second,
    )
    final = second[-1] if second else aligned
    version = register(domain, final, evaluation, recipe.registration)
    promote(version, evaluation, recipe.promotion)
